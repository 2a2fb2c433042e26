"""A job's way as one trace, by OpenTelemetry's API: from whoever sends it, over each attempt, to the streams that show it.

Spans are made only where the process has set a provider of them, as everybody has who exports them; a trace that a request names
is handed on without one. What is carried are the W3C headers (`traceparent`, `tracestate`), whatever the process uses towards
others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.context import Context

#: The option of a message, and the kind of record, that hold what is carried.
KEY: Final = "trace"
_NAME: Final = "progress_stream"


def is_on() -> bool:
    """Whether anybody records. Loads nothing: who has set a provider has loaded the API."""
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def carried() -> dict[str, str]:
    """The current trace as headers; empty where there is none."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


@contextmanager
def named_by(headers: Mapping[str, str]) -> Iterator[None]:
    """What is sent meanwhile belongs to the trace that a request's headers name, unless somebody has begun a span for the request
    already. Loads nothing for a request that names none."""
    if "traceparent" not in headers:
        yield
        return
    try:
        from opentelemetry import context, trace
    except ImportError:
        yield
        return
    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(_context_of(headers))
    try:
        yield
    finally:
        context.detach(token)


def pack(headers: Mapping[str, str]) -> bytes:
    return json.dumps(headers).encode()


def unpack(record: bytes | None) -> dict[str, str]:
    """Empty for what is none of ours."""
    try:
        headers = json.loads(record or b"{}")
    except (ValueError, RecursionError):
        return {}
    return _usable(headers)


def _usable(headers: Any) -> dict[str, str]:
    """A message may come from anywhere."""
    if not isinstance(headers, dict):
        return {}
    return {name: text for name, text in headers.items() if isinstance(name, str) and isinstance(text, str)}


class Attempt:
    """The span of one attempt, and the current one of this thread until `end`. Each sender's message is above its attempts."""

    def __init__(self, actor: str, job: str, headers: Any) -> None:
        from opentelemetry import context, trace

        above = _context_of(_usable(headers))
        self._span = trace.get_tracer(_NAME).start_span(
            f"{actor} process",
            above,
            trace.SpanKind.CONSUMER,
            {
                "messaging.system": "dramatiq",
                "messaging.operation.type": "process",
                "messaging.message.id": job,
            },
        )
        self._token = context.attach(trace.set_span_in_context(self._span, above))

    def fail(self, error: BaseException) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.record_exception(error)
        self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))

    def end(self) -> None:
        """In the thread that began it."""
        from opentelemetry import context

        context.detach(self._token)
        self._span.end()


class Stream:
    """The span of one stream, linked to the trace of its job: one of many that look at it, and none of its causes."""

    def __init__(self, job: str, headers: Mapping[str, str]) -> None:
        from opentelemetry import trace

        of_job = trace.get_current_span(_context_of(headers)).get_span_context()
        self._span = trace.get_tracer(_NAME).start_span(
            "follow job",
            kind=trace.SpanKind.SERVER,
            attributes={"messaging.message.id": job},
            links=[trace.Link(of_job)] if of_job.is_valid else None,
        )

    def end(self, sent_bytes: int) -> None:
        self._span.set_attribute("http.response.body.size", sent_bytes)
        self._span.end()


def _context_of(headers: Mapping[str, str]) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers, Context())
