"""The contract from outside: HTTP against a real server on a real socket. A file a row."""
