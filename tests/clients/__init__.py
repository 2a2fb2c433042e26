"""Clients that other people wrote, each used as its documentation says, on a connection that is cut again and again."""
