"""What the rules expect of an answer: each raises Broken, which says what came instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import httpx2

from ...client.probing import Answer
from .evidence import Event, Evidence, shown

#: Positions that are tried of a job with more events.
MOST_POSITIONS: Final = 12
#: Each breaks another part of the form of an id.
MALFORMED: Final = ("x", "1", "1-", "01-1", "1-01", "+1-1", "1-1-1", "18446744073709551616-1")


class Broken(Exception):
    """The server does not keep the rule; the text says what it did instead."""


class NotTried(Exception):
    """The rule could not be tried here, and why."""


def broken(detail: str) -> NoReturn:
    raise Broken(detail)


def expect_stream(answer: Answer) -> None:
    if answer.status != 200:
        broken(f"answered {answer.status or 'nothing'} {answer.fault}{bytes(answer.body[:120])!r}")


def expect_headers(headers: httpx2.Headers) -> None:
    if headers.get("content-type", "").partition(";")[0] != "text/event-stream":
        broken(f"Content-Type: {headers.get('content-type')}")
    missing = {"no-store", "no-transform"} - set(re.split(r"[,\s]+", headers.get("cache-control", "")))
    if missing:
        broken(f"Cache-Control lacks {listed(sorted(missing))}")
    if headers.get("x-accel-buffering") != "no":
        broken("no X-Accel-Buffering: no (nginx takes it away: ask the server itself)")
    if headers.get("content-encoding", "identity") != "identity":
        broken(f"Content-Encoding: {headers['content-encoding']}")


def expect_position(answer: Answer, position: str, *, resumed: bool) -> None:
    if answer.types[:1] != ["position"]:
        broken(f"asked for {position}: the first frame is {listed(answer.types[:1])}")
    first = answer.frames[0]
    body = answer.data_of(0)
    if body != {"position": position, "resumed": resumed} or first.id != position:
        broken(f"asked for {position}: {first.data[:160]}, id {first.id or 'none'}")


def expect_rest(seen: Evidence, what: str, answer: Answer, position: str) -> None:
    expect_stream(answer)
    expect_position(answer, position, resumed=True)
    if "snapshot" in answer.types:
        broken(f"{what}: a snapshot, though nothing is missing")
    expect_equal(what, shown(answer.events), after(seen, position))


def expect_gap(seen: Evidence, position: str, reasons: set[str], rest: list[Event]) -> None:
    answer = seen.ask(position=position)
    expect_stream(answer)
    if answer.types[1:2] != ["snapshot"] or answer.types.count("snapshot") != 1:
        broken(f"{position}: {listed(answer.types[:4])} and no snapshot that says so")
    body, through = answer.data_of(1), answer.frames[1].id
    if body.get("gap") is not True or body.get("reason") not in reasons or not state(body):
        broken(f"{position}: {answer.frames[1].data[:160]}")
    expect_equal(position, shown(answer.events), rest)
    before_first = f"{rest[0][0].partition('-')[0]}-0" if rest else state(body).get("last_event_id")
    if through != before_first:
        broken(f"{position}: the snapshot's id is {through or 'none'}, not {before_first}")
    if position in MALFORMED and answer.frames[0].id:
        broken(f"{position}: the first frame has an id")


def expect_cut_right(when: str, seen: Evidence, events: list[Event], gaps: int) -> None:
    if gaps:
        broken(f"{when}: {gaps} snapshots, though nothing is missing")
    expect_equal(when, events, seen.events)


def expect_problem(answer: Answer, status: int, what: str) -> None:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status != status or kind != "application/problem+json":
        broken(f"{what}: answered {answer.status} {kind}")


def expect_equal(what: str, found: list[Event], expected: list[Event]) -> None:
    if found == expected:
        return
    missing, extra = [[event[0] for event in one if event not in other] for one, other in (
        (expected, found), (found, expected),
    )]  # fmt: skip
    if missing or extra:
        broken(f"{what}: missing {listed(missing)}, not expected {listed(extra)}")
    repeated = {event[0] for event in found if found.count(event) > 1}
    broken(f"{what}: repeated {listed(sorted(repeated))}" if repeated else f"{what}: in another order")


def after(seen: Evidence, position: str) -> list[Event]:
    """The events that follow this one; none where it is not among them."""
    return seen.events[seen.ids.index(position) + 1 :] if position in seen.ids else []


def state(body: dict[str, Any]) -> dict[str, Any]:
    state = body.get("state")
    return state if isinstance(state, dict) else {}


def spread(ids: list[str]) -> list[str]:
    """Some of them, the first and the last among them."""
    chosen = ids[:: max(1, -(-len(ids) // MOST_POSITIONS))]
    return chosen if chosen[-1:] == ids[-1:] else [*chosen, ids[-1]]


def listed(values: Iterable[object]) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts[:6]) + (f" … ({len(texts)})" if len(texts) > 6 else "") or "nothing"
