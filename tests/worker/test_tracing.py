"""One trace from whoever sends a job to those who watch it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from progress_stream import tracing
from tests.conftest import BROKER_DB, STORE_DB
from tests.support.redis import RedisServer
from tests.support.server import SECRET

from .conftest import Stack
from .traced import CALLER

Span = dict[str, Any]


@pytest.fixture(scope="module")
def spans(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> list[Span]:
    """What a process that traces has recorded."""
    with redis_server.client(BROKER_DB) as client:
        client.flushdb()
    chosen = {
        "redis_url": redis_server.url(STORE_DB), "broker_url": redis_server.url(BROKER_DB), "namespace": "traced",
        "data": str(tmp_path_factory.mktemp("traced")), "jwt_secret": SECRET,
        "ready_seconds": 0, "drain_seconds": 0,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.worker.traced", json.dumps(chosen)],
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert 0 == done.returncode, done.stderr.decode()
    found: list[Span] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_job_is_one_trace(spans: list[Span]) -> None:
    """Each attempt stands below whoever sent the message, what an attempt sends below it; streams have links to the sender."""
    (sender,) = [span for span in spans if span["name"] == "sender"]
    (submitter,) = [span for span in spans if span["name"] == "submitter"]
    callers = int(CALLER.split("-")[1], 16)
    attempts = [span for span in spans if span["name"] == "parent process" and span["trace"] != callers]
    children = [span for span in spans if span["name"] == "child process" and span["trace"] != callers]
    (stream,) = [span for span in spans if span["name"] == "follow job"]

    assert [sender["id"], sender["id"], submitter["id"]] == [span["above"] for span in attempts]
    assert {sender["trace"], submitter["trace"]} == {span["trace"] for span in [*attempts, *children]}
    assert {span["id"] for span in attempts} == {span["above"] for span in children}
    assert [("ERROR", ["exception"]), ("UNSET", []), ("UNSET", [])] == [
        (span["status"], span["events"]) for span in attempts
    ]
    assert {"CONSUMER"} == {span["kind"] for span in attempts}
    assert [submitter["id"]] == stream["links"]
    assert (None, "SERVER") == (stream["above"], stream["kind"])
    assert stream["attributes"]["messaging.message.id"] == attempts[2]["attributes"]["messaging.message.id"]
    assert stream["attributes"]["http.response.body.size"] > 100


def test_a_job_that_is_started_by_http_belongs_to_its_callers_trace(spans: list[Span]) -> None:
    """By the request's `traceparent`: the attempt stands below the caller's span, and what it sends below the attempt."""
    _, trace, above, _ = CALLER.split("-")
    (attempt,) = [span for span in spans if span["above"] == int(above, 16)]
    (child,) = [span for span in spans if span["above"] == attempt["id"]]

    assert ("parent process", "child process") == (attempt["name"], child["name"])
    assert {int(trace, 16)} == {attempt["trace"], child["trace"]}


def test_the_trace_of_a_request_is_handed_on_where_nobody_records() -> None:
    """What has no trace of its own, or one that cannot be read, carries none; a span that is begun already stands before it."""
    begun = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1))
    with tracing.named_by({"traceparent": CALLER, "tracestate": "a=b"}):
        named = tracing.carried()
    with tracing.named_by({"traceparent": "00-0-0-00"}):
        broken = tracing.carried()
    with use_span(NonRecordingSpan(begun)), tracing.named_by({"traceparent": CALLER}):
        within = tracing.carried()

    assert not tracing.is_on()
    assert {"traceparent": CALLER, "tracestate": "a=b"} == named
    assert ({}, {}) == (broken, tracing.carried())
    assert f"00-{7:032x}-{8:016x}-01" == within["traceparent"]


def test_where_nobody_records_nothing_is_carried(stack: Stack) -> None:
    """Though OpenTelemetry is installed here, and a library may have loaded it."""

    @stack.actor(actor_name="plain")
    def plain() -> None:
        return

    message = plain.send()
    stack.work()
    stack.ended(message.message_id)

    assert not tracing.is_on()
    assert tracing.KEY not in message.options
    assert {} == tracing.carried()


def test_it_loads_nothing_by_itself() -> None:
    """OpenTelemetry need not be installed."""
    check = """if True:
        import sys
        from progress_stream import tracing as t
        with t.named_by({"accept": "*/*"}):
            print(t.carried(), t.is_on(), 'opentelemetry' in sys.modules)
        sys.modules["opentelemetry"] = None
        with t.named_by({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}):
            print(t.carried())
    """
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True)

    assert [b"{} False False", b"{}"] == done.stdout.splitlines()


@pytest.mark.parametrize("found", [None, b"", b"{", b"[]", b'{"traceparent": 1}', b'"x"'])
def test_what_is_no_trace_is_none(found: bytes | None) -> None:
    """Another program may have written it."""
    assert {} == tracing.unpack(found)


def test_what_is_kept_is_what_was_carried() -> None:
    """The W3C headers as they are."""
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}

    assert headers == tracing.unpack(tracing.pack(headers))
