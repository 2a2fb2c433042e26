"""The hand-over: the same bytes as the ordinary way, and one connection's fate never another's."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from progress_stream.server import push
from progress_stream.server.handed_over import MAX_CLIENT_BYTES, HandedOver
from progress_stream.server.push import StreamProtocol

from .application import BLOCK, FIRST, FRAMES, Application, eventually
from .conftest import Serve, read_all, read_until, secured, split

FIRST_CHUNK = b"%x\r\n%b\r\n" % (len(FIRST), FIRST)
WHOLE = FIRST + b"".join(FRAMES)


def test_both_ways_send_the_same_bytes(serve: Serve) -> None:
    """A stream that is handed over differs from an ordinary one in `Connection: close` alone."""
    ours, theirs = serve(), serve(options={"http": HttpToolsProtocol})
    handed = split(read_all(ours.ask("/finite", extra="Connection: close\r\n")))
    ordinary = split(read_all(theirs.ask("/finite", extra="Connection: close\r\n")))
    for answer in (handed, ordinary):
        answer[1].pop(b"date")

    assert ([True], [None]) == (eventually(lambda: ours.app.taken), eventually(lambda: theirs.app.taken))
    assert ordinary == handed
    assert WHOLE == handed[2]


def test_a_stream_says_that_it_closes(serve: Serve) -> None:
    """Whatever the application says of the connection, a stream that was handed over is its last."""
    serving = serve(wrap=lambda app: with_headers(app, (b"connection", b"keep-alive")))
    _, headers, _ = split(read_all(serving.ask("/finite")))

    assert b"close" == headers[b"connection"]


def with_headers(app: Any, *headers: tuple[bytes, bytes]) -> Any:
    """A plain ASGI middleware that adds headers."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def adding(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await app(scope, receive, adding)

    return wrapped


def test_headers_of_every_middleware_are_in(serve: Serve) -> None:
    """CORS and a plain middleware around the application keep their headers through a hand-over."""
    serving = serve(
        wrap=lambda app: with_headers(
            CORSMiddleware(app, allow_origins=["https://a.example"]), (b"x-request-id", b"7")
        )
    )
    _, headers, body = split(read_all(serving.ask("/finite", extra="Origin: https://a.example\r\n")))

    assert [True] == eventually(lambda: serving.app.taken)
    assert b"https://a.example" == headers[b"access-control-allow-origin"]
    assert b"7" == headers[b"x-request-id"]
    assert WHOLE == body


def test_a_middleware_that_rebuilds_messages_keeps_the_ordinary_way(serve: Serve) -> None:
    """BaseHTTPMiddleware drops the offer by itself; the stream comes whole all the same."""

    async def passing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    serving = serve(wrap=lambda app: BaseHTTPMiddleware(app, dispatch=passing))
    _, _, body = split(read_all(serving.ask("/finite", extra="Connection: close\r\n")))

    assert [False] == eventually(lambda: serving.app.taken)
    assert WHOLE == body


def test_a_middleware_that_changes_bytes_keeps_the_ordinary_way(serve: Serve) -> None:
    """One that keeps the offer but changes its bytes would change no later ones: so it is not handed over."""

    def shouting(app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            async def louder(message: Any) -> None:
                await send({**message, "body": message["body"].upper()} if "body" in message else message)

            await app(scope, receive, louder)

        return wrapped

    serving = serve(wrap=shouting)
    _, _, body = split(read_all(serving.ask("/finite", extra="Connection: close\r\n")))

    assert [False] == eventually(lambda: serving.app.taken)
    assert WHOLE.upper() == body


@pytest.mark.parametrize("header", [(b"content-encoding", b"identity"), (b"transfer-encoding", b"chunked")])
def test_a_body_that_others_frame_keeps_the_ordinary_way(serve: Serve, header: tuple[bytes, bytes]) -> None:
    """Whoever says how the body is encoded or framed is not cut off from it."""
    serving = serve(wrap=lambda app: with_headers(app, header))
    _, _, body = split(read_all(serving.ask("/finite", extra="Connection: close\r\n")))

    assert [False] == eventually(lambda: serving.app.taken)
    assert WHOLE == body


@pytest.mark.parametrize(
    "request_body", ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
def test_a_request_with_a_body_is_offered_nothing(serve: Serve, request_body: str) -> None:
    """A body that still comes belongs to HTTP."""
    serving = serve()
    client = serving.connect()
    client.sendall(f"GET /finite HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{request_body}".encode())
    _, _, body = split(read_all(client))

    assert [None] == eventually(lambda: serving.app.taken)
    assert WHOLE == body


def test_other_methods_are_offered_nothing(serve: Serve) -> None:
    """Only a GET is a stream: a HEAD has no body at all."""
    serving = serve()
    client = serving.connect()
    client.sendall(b"HEAD /finite HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = read_all(client)

    assert [None] == eventually(lambda: serving.app.taken)
    assert answer.endswith(b"\r\n\r\n")


def test_http_1_0_gets_no_chunks(serve: Serve) -> None:
    """HTTP/1.0 knows no chunks: its stream is the bare bytes up to the close."""
    serving = serve()
    _, headers, body = split(read_all(serving.ask("/finite", version="1.0")))

    assert [True] == eventually(lambda: serving.app.taken)
    assert b"transfer-encoding" not in headers
    assert WHOLE == body


def test_the_first_bytes_come_at_once(serve: Serve) -> None:
    """Nothing waits for a second frame."""
    serving = serve()
    client = serving.ask("/open")

    assert read_until(client, FIRST_CHUNK).endswith(FIRST_CHUNK)


def test_a_pipelined_request_puts_nothing_into_the_stream(serve: Serve) -> None:
    """A second request in the same packet falls with the connection."""
    serving = serve()
    client = serving.connect()
    client.sendall(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    begun = read_until(client, FIRST_CHUNK)
    stream = eventually(lambda: serving.app.streams)[0]
    serving.call(stream.sink.write, FRAMES[0])
    serving.call(stream.sink.end)

    assert FIRST + FRAMES[0] == split(begun + read_all(client))[2]


def test_a_pipelined_client_that_leaves_is_noticed(serve: Serve) -> None:
    """A second request paused the reading, and who does not read sees no close: the hand-over reads on."""
    serving = serve()
    client = serving.connect()
    client.sendall(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(client, FIRST_CHUNK)
    client.close()
    stream = eventually(lambda: serving.app.streams)[0]

    assert eventually(lambda: stream.calls) == ["lost"]


def test_a_client_that_pipelined_and_left_is_noticed_on_the_ordinary_way(serve: Serve) -> None:
    """The request that runs hears of it, not only the last one parsed."""
    serving = serve()
    client = serving.connect()
    client.sendall(b"GET /ticking HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(client, b": tick")
    client.close()

    assert eventually(lambda: serving.app.disconnects)


def test_a_client_that_leaves_is_told_once(serve: Serve) -> None:
    """The stream hears `lost` once, the end is reported, and later writes are nothing."""
    serving = serve()
    client = serving.ask("/open")
    read_until(client, FIRST_CHUNK)
    client.close()
    stream = eventually(lambda: serving.app.streams)[0]
    eventually(lambda: stream.calls)
    for action in (lambda: stream.sink.write(b"late"), stream.sink.end, stream.sink.abort):
        serving.call(action)

    assert ["lost"] == stream.calls
    assert not stream.sink.ready
    assert [len(FIRST)] == [size for _, size in eventually(lambda: serving.app.ended)]
    assert not serving.server.server_state.connections


def test_a_reset_connection_is_not_ready(serve: Serve) -> None:
    """Who writes as long as it may stops at once, before the loop comes to say that the client is gone."""
    serving = serve()
    client = serving.ask("/open")
    read_until(client, FIRST_CHUNK)
    sink = eventually(lambda: serving.app.streams)[0].sink

    def write_on() -> int:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        for count in range(1_000):
            if not sink.ready:
                return count
            sink.write(b"x" * 1_000)
        return 1_000

    assert serving.call(write_on) < 1_000


def test_an_end_by_the_stream_is_told_as_the_last_thing(serve: Serve) -> None:
    """Whoever ends it, `lost` comes once and last, so that a hub counts in one place."""
    serving = serve()
    read_all(serving.ask("/finite"))
    stream = eventually(lambda: serving.app.streams)[0]
    eventually(lambda: stream.calls)

    assert ["lost"] == stream.calls
    assert [len(WHOLE)] == [size for _, size in eventually(lambda: serving.app.ended)]


def test_a_client_that_talks_too_much_is_cut(serve: Serve) -> None:
    """What a client sends after its request is dropped, and bounded."""
    serving = serve()
    client = serving.ask("/open")
    read_until(client, FIRST_CHUNK)
    client.sendall(b"x" * MAX_CLIENT_BYTES)
    stream = eventually(lambda: serving.app.streams)[0]
    serving.call(stream.sink.write, FRAMES[0])
    read_until(client, FRAMES[0])
    client.sendall(b"x")

    assert eventually(lambda: stream.calls) == ["lost"]


def test_a_stalled_client_is_cut_and_slows_nobody(serve: Serve) -> None:
    """A socket that takes nothing is gone after the stall time; its neighbours never notice it."""
    serving = serve(write_stall_seconds=1)
    serving.ask("/flood", receive_buffer=4_096)
    flood = eventually(lambda: serving.app.streams)[0]
    neighbour = serving.ask("/open")
    read_until(neighbour, FIRST_CHUNK)
    heartbeat, slowest = eventually(lambda: serving.app.streams[1:])[0].sink, 0.0
    began = time.monotonic()
    while "lost" not in flood.calls:
        asked = time.monotonic()
        serving.call(heartbeat.write, b":\n")
        read_until(neighbour, b"2\r\n:\n\r\n")
        slowest = max(slowest, time.monotonic() - asked)
        assert time.monotonic() - began < 10
        time.sleep(0.02)

    assert time.monotonic() - began >= 0.9
    assert slowest < 0.5


def test_a_slow_client_is_not_a_stalled_one(serve: Serve) -> None:
    """Who takes a little all the time is left alone."""
    serving = serve(write_stall_seconds=1)
    client = serving.ask("/flood", receive_buffer=4_096)
    began = time.monotonic()
    while time.monotonic() - began < 4:
        assert client.recv(65_536)
        time.sleep(0.005)

    assert "lost" not in serving.app.streams[0].calls


def test_an_end_towards_a_stalled_client_comes_to_its_end(serve: Serve) -> None:
    """close() alone would wait for a client that takes nothing, for ever."""
    serving = serve(write_stall_seconds=1)
    serving.ask("/flood", receive_buffer=4_096)
    flood = eventually(lambda: serving.app.streams)[0]
    serving.call(flood.sink.end)

    assert eventually(lambda: flood.calls == ["lost"])


def test_a_pause_in_force_is_carried_over(serve: Serve) -> None:
    """A head that fills the socket pauses the stream before it begins; it goes on once the client reads."""
    serving = serve()
    client = serving.ask("/padded", receive_buffer=4_096)
    stream = eventually(lambda: serving.app.streams)[0]

    assert (False, []) == (stream.ready_at_first, stream.calls)

    read_until(client, FIRST_CHUNK)

    assert eventually(lambda: stream.calls) == ["ready"]
    assert stream.sink.ready


def test_pauses_and_readiness_alternate(serve: Serve) -> None:
    """A flood waits while paused and goes on when told; what arrives is whole."""
    serving = serve()
    client = serving.ask("/flood", receive_buffer=65_536)
    stream = eventually(lambda: serving.app.streams)[0]
    eventually(lambda: not stream.sink.ready)
    chunk = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK)
    data = read_until(client, FIRST_CHUNK).partition(FIRST_CHUNK)[2]
    while len(data) < 100 * len(chunk):
        data += client.recv(2**20)

    assert data[: 100 * len(chunk)] == chunk * 100
    assert "ready" in stream.calls


def test_a_failure_after_the_hand_over_ends_the_stream(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would own the stream of a request that failed; nothing of a 500 gets into it."""
    serving = serve()
    client = serving.ask("/raises")
    try:
        answer = read_all(client)
    except ConnectionResetError:
        answer = b""

    assert b"500" not in answer
    assert ["lost"] == eventually(lambda: serving.app.streams and serving.app.streams[0].calls)
    assert "raised after the hand-over" in caplog.text


def test_an_attach_that_fails_cuts_its_connection_only(serve: Serve) -> None:
    """The hub's fault is one client's reconnect."""

    def broken(sink: Any) -> Any:
        raise RuntimeError("no hub")

    serving = serve()
    serving.app.kinds["/open"] = broken
    client = serving.ask("/open")
    with contextlib.suppress(ConnectionResetError):
        read_all(client)

    assert eventually(lambda: not serving.server.server_state.connections)
    assert WHOLE == split(read_all(serving.ask("/finite")))[2]


def test_requests_are_let_go_after_the_hand_over(serve: Serve) -> None:
    """No task, scope or parser of the request outlives it."""
    serving = serve()
    for _ in range(20):
        read_until(serving.ask("/open"), FIRST_CHUNK)
    eventually(lambda: not serving.server.server_state.tasks)

    assert {HandedOver} == {type(each) for each in serving.server.server_state.connections}
    assert 20 == serving.server.server_state.total_requests


def test_the_hand_over_works_under_tls(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """TLS is the transport's business: streams, ends and stalls are the same."""
    key_file, certificate_file = certificate
    options = {"ssl_keyfile": str(key_file), "ssl_certfile": str(certificate_file)}
    serving = serve(write_stall_seconds=1, options=options)
    client = secured(serving.connect(), certificate_file)
    client.sendall(b"GET /finite HTTP/1.1\r\nHost: x\r\n\r\n")

    assert WHOLE == split(read_all(client))[2]
    assert [True] == eventually(lambda: serving.app.taken)

    stalled = secured(serving.connect(receive_buffer=4_096), certificate_file)
    stalled.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
    flood = eventually(lambda: serving.app.streams[1:])[0]

    assert eventually(lambda: "lost" in flood.calls)


def test_an_unknown_uvicorn_keeps_the_ordinary_way(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where an attribute is missing it is said once, and streams go the ordinary way."""
    monkeypatch.setattr(StreamProtocol, "_can_hand_over", None)
    monkeypatch.setitem(push.TOUCHED, "flow", ("resume_reading", "write_paused", "moved_away"))
    serving = serve()
    with caplog.at_level(logging.WARNING, logger="progress_stream.server.push"):
        bodies = [split(read_all(serving.ask("/finite", extra="Connection: close\r\n")))[2] for _ in range(3)]

    assert [WHOLE] * 3 == bodies
    assert eventually(lambda: serving.app.taken == [None] * 3)
    assert ["Streams stay with uvicorn: it has no flow.moved_away"] == [
        record.getMessage() for record in caplog.records if record.name == "progress_stream.server.push"
    ]


def test_uvicorn_has_every_attribute_that_is_touched() -> None:
    """The pinned minor version still has the parts that limits and hand-over reach for."""
    methods = {
        "connection_lost",
        "connection_made",
        "data_received",
        "on_body",
        "on_header",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_url",
        "pause_writing",
        "resume_writing",
        "send_400_response",
        "shutdown",
    }
    attributes = {
        HttpToolsProtocol.__init__: {
            "app", "connections", "cycle", "flow", "headers", "loop", "pipeline", "server_state", "transport",
        },
        HttpToolsProtocol.on_message_begin: {"url", "headers"},
        RequestResponseCycle.__init__: {
            "body", "chunked_encoding", "disconnected", "flow", "keep_alive", "message_event", "more_body",
            "response_complete", "response_started", "scope", "transport",
        },
        FlowControl.__init__: {"read_paused", "write_paused"},
        ServerState.__init__: {"connections", "default_headers", "total_requests"},
    }  # fmt: skip

    assert methods <= set(vars(HttpToolsProtocol))
    assert {"resume_reading"} <= set(vars(FlowControl))
    assert {"send"} <= set(vars(RequestResponseCycle))
    for made_in, names in attributes.items():
        assert names <= set(made_in.__code__.co_names), made_in.__qualname__


def test_the_listed_attributes_are_all_found(serve: Serve) -> None:
    """What the check before the first offer asks for is what a real connection has."""
    serving = serve()
    StreamProtocol._can_hand_over = None
    read_all(serving.ask("/finite"))

    assert StreamProtocol._can_hand_over is True


def test_a_protocol_after_the_hand_over_has_slots_only() -> None:
    """A dictionary a connection would double what an idle watcher costs."""
    assert not hasattr(HandedOver, "__dict__") or "__dict__" not in dir(HandedOver.__new__(HandedOver))


def test_an_application_made_for_elsewhere_is_served_as_ever(serve: Serve) -> None:
    """Without the offer nothing changes: keep-alive, two requests, one connection."""
    serving = serve(Application())
    client = serving.ask("/plain")
    first = read_until(client, b"plain 0")
    client.sendall(b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    second = read_until(client, b"plain 3")
    (connection,) = serving.server.server_state.connections

    assert b"connection: close" not in first + second
    assert connection.app is serving.server.config.loaded_app, "what wraps a request outlived it"
