"""`watch` and `watch_sync` against a server that says exactly what a test wants, over a real socket."""

from __future__ import annotations

import inspect
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest

from progress_stream.client.retry import Backoff
from progress_stream.client.rules import Replay, Rules, WatchEvent, check_url
from progress_stream.client.watch import Token, follow, watch, watch_sync
from progress_stream.errors import (
    AccessError,
    InvalidInput,
    NoSuchJob,
    NotAuthenticated,
    ProgressStreamError,
    TokenExpired,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def frame(n: int, kind: str = "log", **data: object) -> bytes:
    body = json.dumps({"job": "j", "type": kind, **data})
    return f"id: 7-{n}\nevent: {kind}\ndata: {body}\n\n".encode()


def said(kind: str, retry: int | None = None, id: str | None = None, **data: object) -> bytes:
    lines = [f"retry: {retry}"] * (retry is not None) + [f"id: {id}"] * (id is not None)
    return "\n".join([*lines, f"event: {kind}", f"data: {json.dumps(data)}", "", ""]).encode()


def problem(status: int, detail: str = "", **headers: str) -> bytes:
    body = json.dumps({"type": "about:blank", "status": status, "detail": detail}).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status} Fault\r\nContent-Type: application/problem+json\r\n{more}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


#: What the job is, as the first question is answered.
IDENTITY = {"id": "j", "actor": "a", "title": "T", "state": "running", "last_event_id": "7-9"}


def whole(body: object) -> bytes:
    """An answer of JSON."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + data


def is_identity(head: str) -> bool:
    return head.startswith("GET /jobs/j HTTP")


@dataclass
class Script:
    """Answers the first connection with the first answer, and so on; the end of an answer is a closed socket.

    What the job is, is answered beside them.
    """

    answers: list[bytes]
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        answers = iter(self.answers)
        while len(self.requests) < len(self.answers):
            connection, _ = self._listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65_536)
                if is_identity(head.decode()) and not self.requests:
                    connection.sendall(whole(IDENTITY))
                    continue
                self.requests.append(head.decode())
                with suppress(ConnectionError):
                    connection.sendall(next(answers))

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()

    def header(self, request: int, name: str) -> str | None:
        lines = [line.partition(": ") for line in self.requests[request].split("\r\n")]
        return next((value for key, _, value in lines if key.lower() == name.lower()), None)


class Following:
    """Never really waits, in a clock that moves ten seconds a look unless a test says otherwise; and what it saw."""

    def __init__(
        self,
        script: Script | str,
        token: Token = "secret",
        *,
        replay: Replay = "events",
        clock: Callable[[], float] | None = None,
        give_up_after: int = 50,
    ) -> None:
        self.waits: list[float] = []
        self.drops: list[str] = []
        self._token = token
        self._give_up_after = give_up_after
        self._now = 0.0
        url = script if isinstance(script, str) else script.url
        self.rules = Rules(
            url, "j", backoff=Backoff(lambda: 1.0, clock or self._clock, steady_seconds=1e9), replay=replay,
            can_renew=callable(token),
        )  # fmt: skip

    def _clock(self) -> float:
        self._now += 10
        return self._now

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            self.waits.append(seconds)
        if len(self.waits) > self._give_up_after:
            raise TimeoutError

    def all(self) -> list[WatchEvent]:
        async def collect() -> list[WatchEvent]:
            drops = lambda why, seconds: self.drops.append(why)  # noqa: E731
            return [
                event
                async for event in follow(self.rules, self._token, httpx2.AsyncClient, drops, self._sleep)
            ]

        return anyio.run(collect)


@pytest.fixture
def script() -> Iterator[type[Script]]:
    made: list[Script] = []

    def make(answers: list[bytes]) -> Script:
        made.append(Script(answers))
        return made[-1]

    yield make  # type: ignore[misc]
    for one in made:
        one.close()


def test_events_come_once_and_in_order_over_drops(script: type[Script]) -> None:
    """Each connection begins after the last event of the one before it."""
    server = script([HEAD + frame(1) + frame(2), HEAD + frame(3), HEAD + frame(4, "succeeded")])

    seen = Following(server).all()

    assert ["7-1", "7-2", "7-3", "7-4"] == [event.id for event in seen]
    assert [None, "7-2", "7-3"] == [server.header(n, "Last-Event-ID") for n in range(3)]


def test_half_an_event_is_not_shown(script: type[Script]) -> None:
    """A connection cut inside a frame: the event comes whole with the next one."""
    server = script([HEAD + frame(1) + frame(2)[:-1], HEAD + frame(2) + frame(3, "succeeded")])

    seen = Following(server).all()

    assert ["7-1", "7-2", "7-3"] == [event.id for event in seen]
    assert "7-1" == server.header(1, "Last-Event-ID")


def test_a_position_without_events_is_kept(script: type[Script]) -> None:
    """Cut before its first event, the client comes back to the same place."""
    server = script([HEAD + said("position", id="7-5", retry=1_500), HEAD + frame(6, "failed")])

    Following(server).all()

    assert "7-5" == server.header(1, "Last-Event-ID")


def test_it_ends_at_the_terminal_event_though_the_connection_stays(script: type[Script]) -> None:
    """What comes after the end, if anything, is not waited for."""
    seen = Following(script([HEAD + frame(1, "cancelled") + frame(2)])).all()

    assert ["cancelled"] == [event.type for event in seen]


def test_it_ends_at_204(script: type[Script]) -> None:
    """The server's word that there is nothing more."""
    server = script([HEAD + frame(1), b"HTTP/1.1 204 No Content\r\n\r\n"])

    assert 1 == len(Following(server).all())


def test_a_snapshot_of_an_ended_job_ends_it_with_the_stream(script: type[Script]) -> None:
    """Kept events that follow are still shown; then nothing is asked again."""
    snapshot = said(
        "snapshot", id="7-8", gap=True, reason="trimmed", through="7-9", state={"state": "failed"}
    )

    seen = Following(script([HEAD + snapshot + frame(9, "log")])).all()

    assert ["snapshot", "log"] == [event.type for event in seen]


def test_what_the_server_says_of_the_connection_is_no_event_of_the_job(script: type[Script]) -> None:
    """`position`, `busy`, `draining` and `ping` are for the follower, not for who reads it."""
    chatter = said("position", id="0-0") + said("ping") + b": heartbeat\n" + said("draining", retry=700)
    server = script(
        [HEAD + chatter, HEAD + said("busy", retry=4_000, reason="limit"), HEAD + frame(1, "succeeded")]
    )
    following = Following(server)

    assert ["succeeded"] == [event.type for event in following.all()]
    assert [0.875, 5.0] == following.waits


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_is_away_is_asked_again(script: type[Script], status: int) -> None:
    """As late as Retry-After says."""
    server = script([problem(status, Retry_After="8"), HEAD + frame(1, "succeeded")])
    following = Following(server)

    assert 1 == len(following.all())
    assert [10.0] == following.waits
    assert [f"the server answered {status}"] == following.drops


def test_a_server_that_refuses_connections_is_asked_again() -> None:
    """Between two lives of a web process nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    following = Following(url, give_up_after=2)

    with pytest.raises(TimeoutError):
        following.all()
    assert [1.0, 2.0, 4.0] == following.waits
    assert ["ConnectError"] * 3 == following.drops


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, NotAuthenticated),
        (403, AccessError),
        (404, NoSuchJob),
        (302, ProgressStreamError),
        (400, ProgressStreamError),
    ],
)
def test_a_refusal_is_final(script: type[Script], status: int, error: type[Exception]) -> None:
    """Asked again it would be the same; a redirect could carry the token elsewhere."""
    with pytest.raises(error):
        Following(script([problem(status, "the reason", Location="http://example.com/")])).all()


def test_a_token_that_ran_out_is_final(script: type[Script]) -> None:
    """The stream says so as an event, for EventSource cannot read a 401."""
    with pytest.raises(TokenExpired):
        Following(script([HEAD + frame(1) + said("expired", retry=60_000)])).all()


def test_a_page_that_is_no_stream_is_final_only_at_first(script: type[Script]) -> None:
    """A wrong address is said at once; a maintenance page in between is a drop."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"

    with pytest.raises(ProgressStreamError, match="no event stream"):
        Following(script([page]), replay="snapshot").all()
    assert 2 == len(Following(script([HEAD + frame(1), page, HEAD + frame(2, "succeeded")])).all())


def test_data_that_is_no_object_is_left_out(script: type[Script]) -> None:
    """Nothing that a server sends makes the follower fall over."""
    odd = b"id: 7-1\nevent: log\ndata: [1]\n\nevent: log\ndata: {\n\n"

    assert ["7-2"] == [event.id for event in Following(script([HEAD + odd + frame(2, "succeeded")])).all()]


def test_the_token_travels_in_the_header_alone(script: type[Script]) -> None:
    """URLs are logged."""
    server = script([HEAD + frame(1, "succeeded")])

    Following(server, token="abc").all()

    assert "Bearer abc" == server.header(0, "Authorization")
    assert "abc" not in server.requests[0].split("\r\n")[0]


def test_a_snapshot_first_is_asked_for_in_the_url(script: type[Script]) -> None:
    """For those who want the bar, not the history."""
    server = script([HEAD + frame(1, "succeeded")])

    Following(server, replay="snapshot").all()

    assert server.requests[0].startswith("GET /jobs/j/events?replay=snapshot ")


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x", "http://", "http://x:port", "http://x/?a=1", "http://x\n"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput):
        check_url(url)


def test_an_address_with_a_path_is_taken() -> None:
    """The application may be mounted anywhere."""
    assert "https://example.com/progress" == check_url("https://example.com/progress/")


# -- the state


def test_each_event_comes_with_the_state_that_it_leads_to(script: type[Script]) -> None:
    """What no event tells, its title, comes from the job itself."""
    at = "2026-01-01T00:00:00.000Z"
    events = frame(1, "started", at=at, attempt=1) + frame(2, "progress", at=at, attempt=1, done=3, total=9)
    server = script([HEAD + events + frame(3, "succeeded", at=at, attempt=1, result=7)])

    seen = Following(server).all()

    assert [("running", None, "7-1"), ("running", 3, "7-2"), ("succeeded", 3, "7-3")] == [
        (event.state["state"], event.state["done"], event.state["last_event_id"]) for event in seen
    ]
    assert {"T"} == {event.state["title"] for event in seen}
    assert 7 == seen[-1].state["result"]


def test_what_a_snapshot_holds_is_not_folded_again(script: type[Script]) -> None:
    """Events up to `through` are shown beside the state that has them."""
    at = "2026-01-01T00:00:00.000Z"
    state = {"state": "running", "done": 8, "total": 9, "last_event_id": "7-8", "steps": []}
    snapshot = said("snapshot", id="7-6", gap=True, reason="trimmed", through="7-8", state=state)
    late = b"".join(frame(n, "progress", at=at, done=n) for n in (7, 8, 9))

    seen = Following(script([HEAD + snapshot + late + frame(10, "failed", at=at)])).all()

    assert [8, 8, 8, 9, 9] == [event.state["done"] for event in seen]
    assert "failed" == seen[-1].state["state"]


def test_an_event_that_makes_no_sense_spoils_nothing(script: type[Script]) -> None:
    """A foreign server's, or a later version's."""
    odd = frame(1, "progress") + frame(2, "progress", at=3, done="x") + frame(3, "step", at="", name=[])

    assert 4 == len(Following(script([HEAD + odd + frame(4, "succeeded", at="x")])).all())


def test_an_old_answer_given_again_is_not_shown_again(script: type[Script]) -> None:
    """By a cache on the way that does not keep to `no-store`."""
    again = HEAD + frame(1) + frame(2)
    server = script([again, again, HEAD + frame(3, "succeeded")])

    assert ["7-1", "7-2", "7-3"] == [event.id for event in Following(server).all()]


def test_the_place_travels_in_the_header_and_in_the_address(script: type[Script]) -> None:
    """Some proxies let no unknown header through."""
    server = script([HEAD + frame(1), HEAD + frame(2, "succeeded")])

    Following(server).all()

    assert "last_event_id=7-1" in server.requests[1].split("\r\n")[0]


# -- a token that runs out


@pytest.mark.parametrize("refusal", [problem(401), HEAD + said("expired", retry=60_000)])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_new_token_is_asked_for(script: type[Script], refusal: bytes, is_async: bool) -> None:
    """At once, without the long wait that others are told."""
    server = script([HEAD + frame(1), refusal, HEAD + frame(2, "succeeded")])
    tokens = iter(["one", "two"])

    async def later() -> str:
        await anyio.lowlevel.checkpoint()
        return next(tokens)

    token: Callable[[], str | Awaitable[str]] = later if is_async else lambda: next(tokens)
    following = Following(server, token)

    assert ["7-1", "7-2"] == [event.id for event in following.all()]
    assert ["Bearer one", "Bearer one", "Bearer two"] == [server.header(n, "Authorization") for n in range(3)]
    assert 1 == len(following.waits)


def test_a_token_that_is_refused_when_new_is_no_good(script: type[Script]) -> None:
    """Asking for ever would help nobody."""
    server = script([problem(401), problem(401)])

    with pytest.raises(NotAuthenticated):
        Following(server, lambda: "same").all()


# -- where streams do not get through


def answer_of(*events: dict[str, Any], more: bool = False, **fields: Any) -> bytes:
    last = events[-1]["id"] if events else "7-0"
    state = {"state": "running", "last_event_id": last, "title": "T", "done": len(events)}
    body = {
        "more": more,
        "gap": False,
        "reason": None,
        "through": last,
        "last_event_id": last,
        "state": state,
    }
    return whole({"events": list(events), **body, **fields})


def line(n: int, kind: str = "log") -> dict[str, Any]:
    return {"id": f"7-{n}", "job": "j", "type": kind, "at": "2026-01-01T00:00:00.000Z"}


def still() -> float:
    return 0.0


def test_three_short_streams_are_followed_by_long_polls(script: type[Script]) -> None:
    """From the same place on; nothing is lost or shown twice."""
    polls = [answer_of(line(4)), answer_of(line(5), line(6, "succeeded"))]
    server = script([*(HEAD + frame(n) for n in (1, 2, 3)), *polls])

    seen = Following(server, clock=still).all()

    assert [f"7-{n}" for n in range(1, 7)] == [event.id for event in seen]
    assert "last_event_id=7-3&wait=25" in server.requests[3].split("\r\n")[0]
    assert "application/json" == server.header(3, "Accept")


def test_a_long_poll_that_tells_of_a_gap_gives_a_snapshot(script: type[Script]) -> None:
    """The same event as in a stream, right before the first one that is kept."""
    state = {"state": "running", "done": 5, "last_event_id": "7-9"}
    gap = answer_of(line(8), line(9), gap=True, reason="trimmed", through="7-9", state=state)
    server = script([HEAD, HEAD, HEAD, gap, answer_of(line(10, "succeeded"))])

    seen = Following(server, clock=still).all()

    assert [("snapshot", "7-7"), ("log", "7-8"), ("log", "7-9"), ("succeeded", "7-10")] == [
        (event.type, event.id) for event in seen
    ]
    assert {"gap": True, "reason": "trimmed", "through": "7-9", "state": state} == seen[0].data
    assert [5, 5, 5] == [event.state["done"] for event in seen[:3]]


def test_the_stream_is_tried_again(script: type[Script]) -> None:
    """After a minute of polls."""
    now = [0.0]
    server = script([HEAD, HEAD, HEAD, answer_of(line(1)), HEAD + frame(2, "succeeded")])
    following = Following(server, clock=lambda: now[0])
    following._sleep = _sleeping(following, now, 61)  # type: ignore[method-assign]

    assert ["7-1", "7-2"] == [event.id for event in following.all()]
    assert "text/event-stream" == server.header(4, "Accept")


def _sleeping(following: Following, now: list[float], step: float) -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        following.waits.append(seconds)
        if seconds == 0.2:  # between two polls
            now[0] += step

    return sleep


def test_polls_that_fail_lead_back_to_the_stream(script: type[Script]) -> None:
    """Each time with a shorter wait: what lies on the way may cut idle answers."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    server = script([HEAD, HEAD, HEAD, cut, problem(504), HEAD + frame(1, "succeeded")])

    assert 1 == len(Following(server, clock=still).all())
    assert ["25", "12.5"] == [request.split("wait=")[1].split(" ")[0] for request in server.requests[3:5]]


def test_a_server_that_gives_no_streams_is_polled(script: type[Script]) -> None:
    """By the job's state; and when it has streams again, what came meanwhile is told."""
    off = HEAD + said("busy", retry=1_000, reason="streaming_off", retry_after=1)
    looks = [
        whole({**IDENTITY, "done": 1}),
        b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
        whole({**IDENTITY, "done": 2}),
    ]
    at = "2026-01-01T00:00:00.000Z"
    rest = frame(8, "progress", at=at) + frame(9, "progress", at=at) + frame(10, "succeeded", at=at)
    now = [0.0]
    server = script([off, *looks, HEAD + rest])
    following = Following(server, clock=lambda: now[0])

    async def sleep(seconds: float) -> None:
        following.waits.append(seconds)
        if len(server.requests) == 4:
            now[0] = 100

    following._sleep = sleep  # type: ignore[method-assign]
    seen = following.all()

    assert [("snapshot", "", 1), ("snapshot", "", 2)] == [
        (event.type, event.id, event.state["done"]) for event in seen[:2]
    ]
    assert ["7-8", "7-9", "7-10"] == [event.id for event in seen[2:]]
    assert 2 == seen[3].state["done"], "the state had that event"


def test_a_job_that_ends_where_there_are_no_streams_ends_it(script: type[Script]) -> None:
    """Its last state is the last event."""
    off = HEAD + said("busy", retry=1_000, reason="streaming_off", retry_after=1)
    server = script([off, whole({**IDENTITY, "state": "failed"})])

    assert ["failed"] == [event.state["state"] for event in Following(server, clock=still).all()]


# -- the two surfaces


def test_both_surfaces_take_the_same() -> None:
    """Name by name, default by default; what differs is how the events come."""
    one, other = inspect.signature(watch), inspect.signature(watch_sync)

    assert one.parameters == other.parameters
    assert ("AsyncGenerator[WatchEvent, None]", "Generator[WatchEvent, None, None]") == (
        one.return_annotation, other.return_annotation,
    )  # fmt: skip


def test_both_surfaces_give_the_same(script: type[Script]) -> None:
    """The plain one in a plain loop, and also where a loop runs already, as in a notebook."""
    answers = [HEAD + frame(1) + frame(2, "succeeded")]

    async def collect() -> list[WatchEvent]:
        return [event async for event in watch(script(answers).url, "j", token="t")]

    async def plainly_inside() -> list[WatchEvent]:
        return list(watch_sync(script(answers).url, "j", token="t"))

    plain = list(watch_sync(script(answers).url, "j", token="t"))

    assert 2 == len(plain)
    assert plain == anyio.run(collect) == anyio.run(plainly_inside)


def test_a_plain_loop_may_be_left(script: type[Script]) -> None:
    """Its thread and its connection go with it."""
    before = threading.active_count()
    server = script([HEAD + frame(1) + frame(2)])
    with_break = watch_sync(server.url, "j")

    assert "7-1" == next(with_break).id
    with_break.close()
    server.close()
    assert before >= threading.active_count()


def test_what_cannot_be_watched_is_said_before_the_first_event() -> None:
    """Not at the first turn of the loop."""
    for both in (watch, watch_sync):
        with pytest.raises(InvalidInput):
            both("nowhere", "j")
        with pytest.raises(InvalidInput):
            both("http://x", "..")
