// Linked files are taken as they were installed: the package's own React is this application's.
export default { resolve: { preserveSymlinks: true }, build: { target: "es2022" }, ssr: { noExternal: true } };
