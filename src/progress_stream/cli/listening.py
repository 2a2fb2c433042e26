"""Whether a port can be had, asked before anything is started. The server itself asks again."""

from __future__ import annotations

import errno
import socket

from .terminal import FAILED, USAGE, fail


def refuse_taken(host: str, port: int) -> None:
    """Ends the command with one line where this address cannot be listened on."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        fail(f"--host {host}: {error.strerror} (allowed: an address of this machine)", USAGE)
    family, kind, protocol, _, address = places[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            fail(_reason(host, port, error), FAILED)


def _reason(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use by another program; --port 0 takes a free one"
        case errno.EACCES:
            return f"port {port} needs more rights than this process has; those above 1023 need none"
    return f"cannot listen on {host}, port {port}: {error.strerror}"
