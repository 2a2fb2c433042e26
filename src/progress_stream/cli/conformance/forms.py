"""The rules of the stream's other forms, of a page's one stream, and of who else may look; registered beside those of `rules`."""

from __future__ import annotations

import json
from typing import Any, Final

from ...client.probing import Answer, json_object
from ...frames.ndjson import MEDIA_TYPE as NDJSON
from .evidence import Event, Evidence
from .expectations import (
    NotTried,
    after,
    broken,
    expect_equal,
    expect_problem,
    expect_stream,
    listed,
    state,
)  # fmt: skip
from .rules import rule

JSON: Final = "application/json"


@rule("ndjson")
def ndjson(seen: Evidence) -> str:
    """The same events, a JSON object a line: its id, then its data's fields; the same positions."""
    answer = seen.ask(accept=NDJSON)
    _expect_type(answer, NDJSON)
    first, *rest = _lines(answer)
    if (first.get("type"), first.get("position"), first.get("resumed")) != ("position", "0-0", False):
        broken(f"the first line is {json.dumps(first)[:160]}")
    _expect_objects("lines", rest, seen.events)
    middle = seen.ids[len(seen.ids) // 2]
    _expect_objects(
        f"lines after {middle}", _lines(seen.ask(accept=NDJSON, position=middle))[1:], after(seen, middle)
    )
    return f"{len(rest)} lines, and the rest after {middle}"


@rule("long-poll")
def long_poll(seen: Evidence) -> str:
    """Asked for by `Accept` or by `wait`: what there is at once, then the rest, then 204; a hole is told."""
    for how in ({"accept": JSON}, {"query": {"wait": "1"}}):
        found = _polled(seen, how, "0-0")
        _expect_objects(f"a long-poll by {listed(how)}", found, seen.events)
    unknown = seen.ask(accept=JSON, position="x")
    _expect_type(unknown, JSON)
    body = json_object(bytes(unknown.body))
    if (body.get("gap"), body.get("reason")) != (True, "malformed"):
        broken(f"a malformed position: {bytes(unknown.body[:160])!r}")
    return f"{len(seen.events)} events, in both ways of asking, then 204"


@rule("page")
def page(seen: Evidence) -> str:
    """`/jobs/events`: whole states without their results, and `gone` for what is none of the caller's; never an error."""
    never = f"{seen.job}.not"
    answer = seen.server.read(
        "", path="/jobs/events", query={"jobs": f"{seen.job},{never}"},
        enough=lambda answer: {"job", "gone"} <= set(answer.types),
    )  # fmt: skip
    seen.statuses.add(answer.status)
    expect_stream(answer)
    bodies = {frame.event: json_object(frame.data) for frame in answer.frames}
    shown_state, final = bodies.get("job", {}), seen.ids[-1]
    if (
        shown_state.get("id") != seen.job
        or shown_state.get("last_event_id") != final
        or "result" in shown_state
    ):
        broken(f"the job's state is {json.dumps(shown_state)[:160]}")
    if bodies.get("gone") != {"id": never}:
        broken(f"of {never}: {json.dumps(bodies.get('gone'))}")
    if answer.types[0] != "position" or not answer.last_id.isdecimal():
        broken(f"begins with {answer.types[0]}, its position is {answer.last_id or 'none'}")
    return "one state, one gone"


@rule("ping", slow=True)
def ping(seen: Evidence) -> str:
    """`ping=event`: the heartbeat as an event that JavaScript sees, which moves nobody's position."""
    job = seen.start_another()
    try:
        answer = seen.ask(job=job, query={"ping": "event"}, enough=lambda answer: "ping" in answer.types)
    finally:
        seen.server.cancel(job)
    at = answer.types.index("ping") if "ping" in answer.types else None
    if at is None:
        raise NotTried(f"none came in the {answer.seconds:.0f} s that the job ran")
    before = answer.frames[at - 1].id if at else ""
    if answer.frames[at].id != before:
        broken(f"it has the id {answer.frames[at].id}")
    if not answer.data_of(at).get("at"):
        broken(f"its data is {answer.frames[at].data[:120]}")
    return f"an event without an id, after {answer.seconds:.0f} s or less"


@rule("another-owner")
def another_owner(seen: Evidence) -> str:
    """Another's job is answered as one that does not exist, whatever position is known of it."""
    if seen.stranger is None:
        raise NotTried("no --other-token of somebody else was given")
    asked: tuple[dict[str, Any], ...] = (
        {}, {"position": seen.ids[0]}, {"position": seen.ids[-1]}, {"accept": NDJSON}, {"accept": JSON},
    )  # fmt: skip
    for how in asked:
        answer = seen.stranger.read(seen.job, **how)
        seen.statuses.add(answer.status)
        expect_problem(answer, 404, f"another's job, asked with {listed(how.values()) or 'nothing more'}")
    return f"404, {len(asked)} times"


# -- expectations


def _expect_type(answer: Answer, media_type: str) -> None:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status != 200 or kind != media_type:
        broken(f"answered {answer.status} {kind or 'nothing'}, not {media_type}")


def _lines(answer: Answer) -> list[dict[str, Any]]:
    found = [json_object(line) for line in bytes(answer.body).split(b"\n")]
    if not found or found[-1] or not all(found[:-1]):
        broken(f"not a JSON object a line: {bytes(answer.body[:120])!r}")
    return found[:-1]


def _polled(seen: Evidence, how: dict[str, Any], position: str) -> list[dict[str, Any]]:
    """All that a client of long-polls is given, until it is told that nothing more will come."""
    found: list[dict[str, Any]] = []
    for _ in range(len(seen.events) + 2):
        answer = seen.ask(position=position, **how)
        if answer.status == 204:
            return found
        _expect_type(answer, JSON)
        body = json_object(bytes(answer.body))
        if body.get("gap") is not False or not state(body):
            broken(f"after {position}: {bytes(answer.body[:160])!r}")
        found += body.get("events") or []
        position = str(body.get("last_event_id"))
    return broken("no 204 after the last event")


def _expect_objects(what: str, objects: list[dict[str, Any]], events: list[Event]) -> None:
    """The same as in the stream: `id` beside what an event's data holds."""
    found = [(str(one.get("id")), str(one.get("type")), json.dumps(_without_id(one))) for one in objects]
    expected = [(id, type, json.dumps(json_object(data))) for id, type, data in events]
    expect_equal(what, found, expected)


def _without_id(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name != "id"}
