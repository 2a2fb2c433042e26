"""The command line: one file a command. Each loads what it needs when it runs, so that `watch` starts without a server."""
