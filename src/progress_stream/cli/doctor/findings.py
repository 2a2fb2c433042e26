"""What the observations mean: each possible fault, found or not. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ...client.probing import Answer
from ...events import TERMINAL
from .probes import Observed

#: Seconds by which a stream may be later than a long-poll, which takes a request of its own each time.
DELAY_SECONDS: Final = 0.1
#: Later than this an event waited for others to come, not for a timer.
BUFFER_SECONDS: Final = 0.8
#: "At once", over a network.
FIRST_SECONDS: Final = 2.0
#: Two streams that end within so many seconds of their lives ended for the same reason.
SAME_SECONDS: Final = 2.0
#: Fewer events than this prove nothing about lateness.
LEAST_EVENTS: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault that could be there. `faulty` None: it could not be tried."""

    name: str
    faulty: bool | None
    text: str


Check = Callable[[Observed], Finding]


def judge(seen: Observed) -> Iterator[Finding]:
    """In the order in which one would mend them; after the first where there is no stream at all."""
    answered = _answer(seen)
    yield answered
    if not answered.faulty:
        yield from (check(seen) for check in CHECKS)


def _answer(seen: Observed) -> Finding:
    answer = seen.talking
    if answer.status == 200 and seen.reference:
        return Finding("answer", False, f"200 after {answer.head_at - answer.asked_at:.2f} s")
    if answer.status == 200:
        return Finding("answer", True, "a stream, but no long-poll got an answer: nothing to compare with")
    what = f"answered {answer.status}" if answer.status else f"no answer: {answer.fault or answer.ending}"
    hint = {401: ": a wrong token, or something took the Authorization header away"}.get(answer.status, "")
    return Finding("answer", True, f"{what} in place of a stream{hint}")


def _headers(seen: Observed) -> Finding:
    headers = seen.talking.headers
    kind = headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        return Finding("headers", True, f"Content-Type: {kind or 'none'}")
    if "no-transform" not in headers.get("cache-control", ""):
        return Finding("headers", True, f"Cache-Control: {headers.get('cache-control', 'none')}")
    swallowed = "x-accel-buffering" not in headers
    note = "; X-Accel-Buffering did not come through: an nginx outside of this one would not see it"
    return Finding("headers", False, "as the server sends them" + (note if swallowed else ""))


def _compression(seen: Observed) -> Finding:
    encoding = seen.talking.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return Finding("compression", False, "none")
    return Finding(
        "compression",
        True,
        f"Content-Encoding: {encoding}, against the answer's no-transform: events wait in it",
    )


def _buffering(seen: Observed) -> Finding:
    first = (seen.talking.frame_at or [seen.talking.ended_at])[0] - seen.talking.asked_at
    late = lateness(seen)
    if first > FIRST_SECONDS:
        return Finding("buffering", True, f"the first bytes, sent at once, came after {first:.1f} s")
    if late is None:
        return Finding("buffering", None, "too few events came to tell")
    if late >= BUFFER_SECONDS:
        return Finding("buffering", True, f"events came {late:.1f} s late: they wait until more have come")
    return Finding("buffering", False, f"the first bytes after {first:.2f} s, events as they happen")


def _delay(seen: Observed) -> Finding:
    late = lateness(seen)
    if late is None:
        return Finding("delay", None, "too few events came to tell")
    milliseconds = f"{max(late, 0) * 1000:.0f} ms"
    if DELAY_SECONDS <= late < BUFFER_SECONDS:
        return Finding("delay", True, f"each event comes {milliseconds} late")
    if late >= BUFFER_SECONDS:
        return Finding("delay", None, "the buffering hides it")
    return Finding("delay", False, milliseconds)


def _idle(seen: Observed) -> Finding:
    answer = seen.silent
    if answer is None:
        return Finding("idle", None, "needs a job that is silent")
    if answer.status != 200:
        return Finding("idle", None, f"answered {answer.status}")
    if not was_cut(answer):
        if is_kept_to_the_end(answer):
            return Finding("idle", None, "the buffering hides it")
        return Finding("idle", False, f"up to {answer.longest_silence:.0f} s without a byte, and not cut")
    if was_cut(seen.talking) and abs(answer.seconds - seen.talking.seconds) <= SAME_SECONDS:
        return Finding("idle", None, "the limit on long streams came first")
    since = answer.ended_at - (answer.byte_at or [answer.head_at])[-1]
    return Finding("idle", True, f"cut after {since:.0f} s without a byte")


def _long(seen: Observed) -> Finding:
    answer = seen.talking
    if not was_cut(answer):
        if is_kept_to_the_end(answer):
            return Finding("long", None, "the buffering hides it")
        return Finding("long", False, f"open for {answer.seconds:.0f} s and not cut (longer was not tried)")
    how = "ended" if answer.ending == "clean" else "cut"
    return Finding(
        "long", True, f"{how} after {answer.seconds:.0f} s, in the middle of a job that was speaking"
    )


def _last_event_id(seen: Observed) -> Finding:
    by_header, by_url = _resumed(seen.resumed), _resumed(seen.resumed_by_url)
    if by_header is None:
        return Finding("last-event-id", None, "the stream did not begin a second time")
    if by_header:
        return Finding("last-event-id", False, "arrives")
    also = "in the URL it arrives" if by_url else "and last_event_id in the URL does not arrive either"
    return Finding(
        "last-event-id", True, f"does not arrive: every reconnect begins from the first event ({also})"
    )


CHECKS: Final[tuple[Check, ...]] = (
    _headers, _compression, _buffering, _delay, _idle, _long, _last_event_id,
)  # fmt: skip


def lateness(seen: Observed) -> float | None:
    """Seconds by which the stream brought events later than they could be had; the median, for a busy machine is late at times."""
    came = seen.talking.arrivals()
    late = [came[id] - at for id, at in seen.reference.items() if id in came]
    return statistics.median(late) if len(late) >= LEAST_EVENTS else None


def was_cut(answer: Answer) -> bool:
    """It ended while its job went on: by whatever stands between, for to such a request the server does not do so."""
    told_to_leave = bool({"draining", "busy", "expired"} & set(answer.types))
    ended = bool(answer.types) and answer.types[-1] in TERMINAL
    return answer.ending in {"clean", "cut"} and not ended and not told_to_leave


def is_kept_to_the_end(answer: Answer) -> bool:
    """Something on the way kept it, so that how the server's own connection fared cannot be seen."""
    first = (answer.byte_at or [answer.ended_at])[0]
    return first - answer.asked_at > FIRST_SECONDS


def _resumed(answer: Answer) -> bool | None:
    told = answer.data_of(0).get("resumed")
    return told if isinstance(told, bool) else None
