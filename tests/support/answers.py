"""A server on loopback that answers what a test tells it to, byte for byte, and keeps what it was asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from progress_stream.frames.sse import MEDIA_TYPE
from tests.support.loopback import Handler, Loopback


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


class Answers(Loopback):
    """Each path has its answers, one a request; 204 when there are no more. `/` is an empty page."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Answer]] = {}
        self._asked: dict[str, list[Asked]] = {}
        super().__init__(self._handler())

    def prepare(self, path: str, *answers: Answer) -> str:
        self._answers[path] = list(answers)
        self._asked[path] = []
        return path

    def asked(self, path: str) -> list[Asked]:
        return list(self._asked[path])

    def _handler(self) -> type[Handler]:
        answers, asked = self._answers, self._asked

        class Told(Handler):
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

        return Told
