"""The follower against a server that says exactly what a test wants, over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest

from progress_stream.client.retry import Backoff
from progress_stream.client.watch import Follower, Received, check_url
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


@dataclass
class Script:
    """Answers the first connection with the first answer, and so on; the end of an answer is a closed socket."""

    answers: list[bytes]
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for answer in self.answers:
            connection, _ = self._listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65_536)
                self.requests.append(head.decode())
                connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()

    def header(self, request: int, name: str) -> str | None:
        lines = [line.partition(": ") for line in self.requests[request].split("\r\n")]
        return next((value for key, _, value in lines if key.lower() == name.lower()), None)


class Following:
    """A follower that never really waits, and what it saw."""

    def __init__(self, script: Script, token: str | None = "secret", **options: bool) -> None:
        self.waits: list[float] = []
        self.drops: list[str] = []
        self.client = httpx2.Client()
        self.follower = Follower(
            self.client,
            script.url,
            "j",
            token,
            backoff=Backoff(lambda: 1.0, lambda: 0.0),
            sleep=self.waits.append,
            on_drop=lambda why, seconds: self.drops.append(why),
            **options,
        )

    def all(self) -> list[Received]:
        with self.client:
            return list(self.follower)


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
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    with httpx2.Client() as client, pytest.raises(KeyboardInterrupt):
        list(Follower(client, url, "j", None, backoff=Backoff(lambda: 1.0, lambda: 0.0), sleep=sleep))

    assert [1.0, 2.0, 4.0] == waits


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
        Following(script([page])).all()
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

    Following(server, snapshot_first=True).all()

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
