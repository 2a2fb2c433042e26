"""A process that traces: sends a job by Dramatiq and one by HTTP, works on them, follows them, and prints its spans as JSON.

`python -m tests.worker.traced SETTINGS`; of its own, for a provider of spans is one for a process and for good.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from progress_stream.api.app import create_app
from progress_stream.settings import load
from progress_stream.submitting import Submission, Submitter
from tests.support.server import Site, serving
from tests.support.streams import follow_to_end

from .conftest import Stack, until

#: The trace of a browser or a service that starts a job by HTTP.
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def main(chosen: dict[str, Any]) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    settings = load(**chosen)
    stack = Stack(settings, settings.effective_broker_url or "")

    @stack.actor(actor_name="child")
    def child() -> None:
        return

    @stack.actor(actor_name="parent", max_retries=1, submit=True)
    def parent(fail: bool = False) -> None:
        child.send()
        if fail and not parent.__dict__.setdefault("failed", False):
            parent.__dict__["failed"] = True
            raise ValueError("once")

    stack.work()
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("sender"):
        sent = parent.send(fail=True).message_id
    until(lambda: stack.middleware.flusher and stack.ended(sent))
    until(lambda: stack.store.send(stack.store.commands.announced(["parent"])))
    submitter = Submitter(settings, stack.store, stack.broker)
    with tracer.start_as_current_span("submitter"):
        submitted = submitter.submit(Submission("parent", {}, "alice")).job
    stack.ended(submitted)
    with serving(create_app(settings), settings) as url:
        site = Site(url, settings, redis.Redis.from_url(settings.redis_url or ""))
        with site.client() as client:
            asked = client.post("/jobs", json={"actor": "parent"}, headers={"traceparent": CALLER}).json()[
                "id"
            ]
        stack.ended(asked)
        follow_to_end(site, submitted)
        until(lambda: any(span.name == "follow job" for span in spans.get_finished_spans()))
    until(lambda: sum(span.name == "child process" for span in spans.get_finished_spans()) == 4)
    stack.stop()
    print(json.dumps([described(span) for span in spans.get_finished_spans()]))


def described(span: ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name, "id": span.context.span_id, "trace": span.context.trace_id,
        "above": span.parent.span_id if span.parent else None, "links": [link.context.span_id for link in span.links],
        "status": span.status.status_code.name, "events": [event.name for event in span.events],
        "kind": span.kind.name, "attributes": dict(span.attributes or {}),
    }  # fmt: skip


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
