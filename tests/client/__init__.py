"""Clients of this package against a real server."""
