// Prints how many bytes the client alone is in an application's bundle: minified and compressed, as a server sends it.

import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const [{ output }] = await build({
  configFile: false,
  logLevel: "silent",
  build: {
    write: false,
    lib: { entry: fileURLToPath(new URL("./node_modules/progress-stream/index.js", import.meta.url)), formats: ["es"] },
    rolldownOptions: { output: { minify: true } },
  },
});
console.log(gzipSync(output[0].code, { level: 9 }).length);
