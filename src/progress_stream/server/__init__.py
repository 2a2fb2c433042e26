"""The process that serves: sockets, their limits, signals and the drain. Knows no job and no route."""
