"""Servers that break one rule of the stream each: the real application, with what is asked or answered changed on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

Message = dict[str, Any]
Scope = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


class Faulty:
    """A server without a fault, to be inherited from: each stream's request, answer, frames and end pass through its methods."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.streams = 0

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/events"):
            await self.app(scope, receive, send)
            return
        self.streams += 1
        # Without the hand-over, or the bytes would leave beside us.
        asked = self.ask({**scope, "extensions": {}, "headers": list(scope["headers"])})
        await self.stream(asked, receive, Frames(self, send, self.streams))

    async def stream(self, scope: Scope, receive: Any, send: Send) -> None:
        await self.app(scope, receive, send)

    def ask(self, scope: Scope) -> Scope:
        """The request as the application gets it."""
        return scope

    def start(self, message: Message) -> Message:
        """The answer's head."""
        return message

    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        """Whole frames of one piece, each with its blank line; what comes before one (a comment) is part of it."""
        return frames

    async def end(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def before_first(self) -> None:
        return None


class Frames:
    """One answer on its way out, cut into frames."""

    def __init__(self, fault: Faulty, send: Send, stream: int) -> None:
        self._fault = fault
        self._send = send
        self._stream = stream
        self._rest = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(self._fault.start(message))
            await self._fault.before_first()
            return
        *frames, self._rest = (self._rest + message.get("body", b"")).split(b"\n\n")
        more = message.get("more_body", False)
        kept = b"".join(self._fault.frames([frame + b"\n\n" for frame in frames], self._stream))
        if not more or self._rest.startswith(b":"):
            kept, self._rest = kept + self._comment(self._rest), b""
        if kept:
            await self._send({"type": "http.response.body", "body": kept, "more_body": True})
        if not more:
            await self._fault.end(self._send)

    def _comment(self, rest: bytes) -> bytes:
        return rest + b"\n" if isinstance(self._fault, BlankLineAfterHeartbeat) and rest else rest


# -- what is asked


def header(scope: Scope, name: bytes) -> str:
    return next((value.decode() for key, value in scope["headers"] if key == name), "")


def with_header(scope: Scope, name: bytes, value: str | None) -> Scope:
    kept = [(key, old) for key, old in scope["headers"] if key != name]
    return {**scope, "headers": kept + ([] if value is None else [(name, value.encode())])}


def query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))


def with_query(scope: Scope, found: dict[str, str]) -> Scope:
    return {**scope, "query_string": urlencode(found).encode()}


class UrlWins(Faulty):
    def ask(self, scope: Scope) -> Scope:
        return with_header(scope, b"last-event-id", None) if query(scope) else scope


class OneSpelling(Faulty):
    def ask(self, scope: Scope) -> Scope:
        return with_query(
            scope, {name: value for name, value in query(scope).items() if name != "lastEventId"}
        )


class DollarIsTheBeginning(Faulty):
    def ask(self, scope: Scope) -> Scope:
        return with_header(scope, b"last-event-id", None) if header(scope, b"last-event-id") == "$" else scope


class NoSnapshot(Faulty):
    def ask(self, scope: Scope) -> Scope:
        return with_query(scope, {name: value for name, value in query(scope).items() if name != "replay"})


# -- what is answered


class OneEventLess(Faulty):
    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        return [frame for frame in frames if b"event: started\n" not in frame]


class RepeatsAfterResume(Faulty):
    """Reads on from the position, inclusively."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.first: dict[int, bytes] = {}
        self.seen: dict[str, bytes] = {}

    def ask(self, scope: Scope) -> Scope:
        known = self.seen.get(header(scope, b"last-event-id"))
        if known is not None:
            self.first[self.streams] = known
        return scope

    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            if b"event: position" not in frame and b"id: " in frame:
                self.seen[frame.partition(b"id: ")[2].partition(b"\n")[0].decode()] = frame
            yield frame
            if b"event: position" in frame:
                yield self.first.pop(stream, b"")


class OtherBytesForEach(Faulty):
    """The same events, written anew for each watcher."""

    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            yield frame.replace(b'"at":', b'"watcher":%d,"at":' % stream)


class WrongPosition(Faulty):
    """The first frame moves a client past what it has not seen."""

    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            yield frame[:-2] + b"9\n\n" if b"event: position" in frame else frame


class FixedRetry(Faulty):
    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            head, found, rest = frame.partition(b"retry: ")
            yield head + found + b"2000\n" + rest.partition(b"\n")[2] if found else frame


class SilentHole(Faulty):
    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        return [frame for frame in frames if b'"gap":true' not in frame]


class MoreAfterTheEnd(Faulty):
    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            yield frame
            if b"event: succeeded\n" in frame:
                yield b'event: ping\ndata: {"at":"now"}\n\n'


class OtherJob(Faulty):
    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            yield frame.replace(b'"job":"', b'"job":"another-')


class BlankLineAfterHeartbeat(Faulty):
    """See Frames."""


class CutAtTheEnd(Faulty):
    async def end(self, send: Send) -> None:
        raise ConnectionResetError("the test's own cut")


class LateFirstBytes(Faulty):
    """Of the watchers who come while the job runs."""

    async def before_first(self) -> None:
        if self.streams <= 3:
            await asyncio.sleep(2.5)


class MayBeTransformed(Faulty):
    def start(self, message: Message) -> Message:
        headers = [(name, value.replace(b", no-transform", b"")) for name, value in message["headers"]]
        return {**message, "headers": headers}


class EmptyStreamAtTheEnd(Faulty):
    """200 in place of 204: a browser asks again for ever."""

    def start(self, message: Message) -> Message:
        if message["status"] != 204:
            return message
        return {**message, "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class Answering(Faulty):
    """Answers some requests itself."""

    async def stream(self, scope: Scope, receive: Any, send: Send) -> None:
        answer = self.answer(scope)
        if answer is None:
            await super().stream(scope, receive, send)
            return
        status, headers, body = answer
        frames: Frames = send  # type: ignore[assignment]
        await frames._send({"type": "http.response.start", "status": status, "headers": headers})
        await frames._send({"type": "http.response.body", "body": body})

    def answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        return None


class MalformedIsAnError(Answering):
    def answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        wrong = header(scope, b"last-event-id") == "x"
        body = json.dumps({"status": 400}).encode()
        return (400, [(b"content-type", b"application/problem+json")], body) if wrong else None


class LinesWithoutIds(Faulty):
    """As NDJSON, what each line is about and not where one is."""

    async def stream(self, scope: Scope, receive: Any, send: Send) -> None:
        async def without(message: Message) -> None:
            if "body" in message and header(scope, b"accept") == "application/x-ndjson":
                message = {**message, "body": message["body"].replace(b'"id":', b'"place":')}
            await send(message)

        await self.app(scope, receive, without if "json" in header(scope, b"accept") else send)


class PollsForEver(Answering):
    """Never says that nothing more will come."""

    def answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        if header(scope, b"accept") != "application/json" and "wait" not in query(scope):
            return None
        body = {"events": [], "gap": False, "last_event_id": "1-1", "state": {"id": "x"}}
        return 200, [(b"content-type", b"application/json")], json.dumps(body).encode()


class PingsMoveOn(Faulty):
    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            yield frame[:-1] + b"id: 9-9\n\n" if b"event: ping" in frame else frame


class ShowsResults(Faulty):
    """On a page of many jobs."""

    def frames(self, frames: list[bytes], stream: int) -> Iterable[bytes]:
        for frame in frames:
            yield frame.replace(b"event: job\ndata: {", b'event: job\ndata: {"result":null,')


class ShowsAnybody(Faulty):
    """Whose job it is does not matter to it, once a position of the job is known."""

    def ask(self, scope: Scope) -> Scope:
        owner = next((value for key, value in self.known if key == b"authorization"), b"")
        if header(scope, b"last-event-id"):
            return with_header(scope, b"authorization", owner.decode())
        self.known = self.known or scope["headers"]
        return scope

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.known: list[tuple[bytes, bytes]] = []


class NoHead(Answering):
    def answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        return (405, [(b"allow", b"GET")], b"") if scope["method"] == "HEAD" else None


class SendsToALoginPage(Answering):
    def answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        return None if header(scope, b"authorization") else (302, [(b"location", b"/login")], b"")
