"""A server on loopback that answers what a test tells it to, byte for byte, and keeps what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from progress_stream.frames.sse import MEDIA_TYPE


@dataclass(frozen=True)
class Answer:
    """Sent whole; the connection ends after it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": MEDIA_TYPE})


@dataclass(frozen=True)
class Asked:
    at: float
    position: str | None


class Answers:
    """Each path has its answers, one a request; 204 when there are no more. `/` is an empty page."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Answer]] = {}
        self._asked: dict[str, list[Asked]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def prepare(self, path: str, *answers: Answer) -> str:
        self._answers[path] = list(answers)
        self._asked[path] = []
        return path

    def asked(self, path: str) -> list[Asked]:
        return list(self._asked[path])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answers, asked = self._answers, self._asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/":
                    answer = Answer(
                        b"<!DOCTYPE html><title>A page</title>", headers={"Content-Type": "text/html"}
                    )
                else:
                    left = answers.get(self.path, [])
                    asked.setdefault(self.path, []).append(
                        Asked(time.monotonic(), self.headers.get("Last-Event-ID"))
                    )
                    answer = left.pop(0) if left else Answer(status=204, headers={})
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None:
                return

        return Handler

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
