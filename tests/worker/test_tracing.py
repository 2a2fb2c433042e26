"""One trace from whoever sends a job to those who watch it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from progress_stream import tracing
from tests.support.server import SECRET

from .conftest import Stack

Span = dict[str, Any]


@pytest.fixture
def spans(redis_url: str, broker_url: str, namespace: str, tmp_path: Path) -> list[Span]:
    """What a process that traces has recorded."""
    chosen = {
        "redis_url": redis_url, "broker_url": broker_url, "namespace": namespace, "data": str(tmp_path), "jwt_secret": SECRET,
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
    attempts = [span for span in spans if span["name"] == "parent process"]
    children = [span for span in spans if span["name"] == "child process"]
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
    check = "import sys; from progress_stream import tracing as t; print(t.carried(), t.is_on(), 'opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True)

    assert b"{} False False" == done.stdout.strip()


@pytest.mark.parametrize("found", [None, b"", b"{", b"[]", b'{"traceparent": 1}', b'"x"'])
def test_what_is_no_trace_is_none(found: bytes | None) -> None:
    """Another program may have written it."""
    assert {} == tracing.unpack(found)


def test_what_is_kept_is_what_was_carried() -> None:
    """The W3C headers as they are."""
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}

    assert headers == tracing.unpack(tracing.pack(headers))
