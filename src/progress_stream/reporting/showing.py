"""A worker's numbers for Prometheus on ADMIN_PORT, where its environment sets one: the same text that the web server gives.

Of the worker processes on a machine one gets the port, and answers for all where they share a folder (see `metrics`). When it
ends another takes over.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .. import metrics

log = logging.getLogger(__name__)


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server_version, sys_version = "progress-stream", ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        text, media_type = metrics.exposition(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Shown:
    """`open` until it succeeds, `close` once. On all addresses: a scraper is seldom on the worker's own machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: _Server | None = None
        self._said = False

    @property
    def port(self) -> int | None:
        """Where it is shown; None while another process has the port."""
        return None if self._server is None else int(self._server.server_address[1])

    def open(self) -> None:
        if self._server is not None:
            return
        try:
            self._server = _Server(("", self._port), _Handler)
        except OSError as error:
            self._say_taken(error)
            return
        threading.Thread(
            target=self._server.serve_forever, name="progress-stream-metrics", daemon=True
        ).start()
        log.info("metrics at port %d", self.port)

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _say_taken(self, error: OSError) -> None:
        if not self._said and metrics.FOLDER not in os.environ:
            log.warning(
                "ADMIN_PORT %d cannot be had: %s. Of many worker processes one answers for all, where %s names an empty folder",
                self._port, error.strerror, metrics.FOLDER,
            )  # fmt: skip
        self._said = True
