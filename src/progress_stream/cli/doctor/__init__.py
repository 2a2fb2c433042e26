"""`progress-stream doctor`: what stands between a server and its watchers does to their streams, and how to mend it."""
