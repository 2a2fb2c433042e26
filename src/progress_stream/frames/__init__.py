"""Bytes of the stream formats, out and back in. Pure; knows neither jobs nor sockets."""
