"""The rules of the stream, one function each: returns what it saw, raises Broken. Each stands for words of docs/contract.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from ...client.probing import Answer, Server, json_object
from ...events import TERMINAL
from .evidence import Evidence, follow_with_cuts, shown
from .expectations import (
    MALFORMED,
    NotTried,
    after,
    broken,
    expect_cut_right,
    expect_equal,
    expect_gap,
    expect_headers,
    expect_position,
    expect_problem,
    expect_rest,
    expect_stream,
    listed,
    spread,
    state,
)

#: "At once": before Redis is asked for anything. Generous to a network, not to a buffer.
AT_ONCE_SECONDS: Final = 2.0
#: Connections among which not all draw the same `retry`.
DRAWS: Final = 6
#: Replays of the ended job over cuts.
CUT_REPLAYS: Final = 3
BEGINNING: Final = "0-0"
_ID: Final = re.compile(r"([1-9][0-9]{0,19})-([1-9][0-9]{0,19})", re.ASCII)

#: A comment, and the byte that follows its line.
_HEARTBEAT: Final = re.compile(rb"^:[^\n]*\n(.)", re.MULTILINE | re.DOTALL)


Check = Callable[[Evidence], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """`slow` ones take a job of their own and many seconds."""

    name: str
    check: Check
    slow: bool = False


RULES: Final[list[Rule]] = []


def rule(name: str, *, slow: bool = False) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        RULES.append(Rule(name, check, slow))
        return check

    return register


# -- how it begins


@rule("first-frame")
def first_frame(seen: Evidence) -> str:
    """`retry`, `position`, its id and `resumed`, at once."""
    expect_stream(seen.whole)
    expect_position(seen.whole, BEGINNING, resumed=False)
    retry = seen.whole.frames[0].retry
    if not retry:
        broken("it holds no retry")
    waited = seen.whole.frame_at[0] - seen.whole.asked_at
    if waited > AT_ONCE_SECONDS:
        broken(f"came after {waited:.1f} s")
    return f"after {waited * 1000:.0f} ms, retry {retry} ms"


@rule("retry-drawn")
def retry_drawn(seen: Evidence) -> str:
    """Anew for each connection, so that a fleet's reconnects spread out."""
    answers = [seen.ask(enough=lambda answer: bool(answer.frames)) for _ in range(DRAWS)]
    drawn = {answer.frames[0].retry for answer in answers if answer.frames}
    if len(drawn) < 2:
        broken(f"{DRAWS} connections were all told {listed(drawn)}")
    return f"{len(drawn)} values in {DRAWS} connections"


@rule("headers")
def headers(seen: Evidence) -> str:
    """An event stream, which nobody may keep, change or buffer."""
    expect_headers(seen.whole.headers)
    return "text/event-stream, no-store, no-transform, no buffering"


@rule("head")
def head(seen: Evidence) -> str:
    """The headers alone."""
    answer = seen.ask(method="HEAD")
    expect_stream(answer)
    expect_headers(answer.headers)
    if answer.body:
        broken(f"HEAD was answered with {len(answer.body)} bytes of a body")
    return "the same headers and no body"


# -- what comes


@rule("ids")
def ids(seen: Evidence) -> str:
    """`<epoch>-<n>`, n counting 1, 2, 3 …, the epoch never falling."""
    found = [_ID.fullmatch(id) for id in seen.ids]
    if None in found or not found:
        broken(f"{listed(seen.ids)} are not all <epoch>-<n>")
    pairs = [(int(match[1]), int(match[2])) for match in found if match is not None]
    numbers = [n for _, n in pairs]
    if numbers != list(range(1, len(pairs) + 1)):
        broken(f"n is not 1, 2, 3 … but {listed(numbers)}")
    if sorted(pairs) != pairs:
        broken("the epoch falls")
    return f"1 to {len(pairs)} without a hole"


@rule("data")
def data(seen: Evidence) -> str:
    """One JSON object a frame, with `job`, `type` and `at`."""
    for frame in seen.whole.events:
        body = json_object(frame.data)
        if (body.get("job"), body.get("type")) != (seen.job, frame.event) or not body.get("at"):
            broken(f"{frame.id} ({frame.event}): {frame.data[:120]}")
    return f"{len(seen.events)} objects"


@rule("same-for-all")
def same_for_all(seen: Evidence) -> str:
    """Two watchers of one job, and one who comes when it is over, get the same bytes in the same order."""
    replay = seen.ask()
    for who, answer in (("a second watcher", seen.second), ("a late reader", replay)):
        expect_equal(who, shown(answer.events), seen.events)
    return f"{len(seen.events)} events, three times the same"


@rule("end")
def end(seen: Evidence) -> str:
    """Clean, after the terminal event and nothing after it."""
    last = seen.whole.types[-1] if seen.whole.types else "nothing"
    if last not in TERMINAL:
        broken(f"the last frame was {last}")
    if seen.whole.ending != "clean":
        broken(f"the answer was {seen.whole.ending} after {last}: {seen.whole.fault}")
    return f"clean, after {last}"


# -- coming back


@rule("resume")
def resume(seen: Evidence) -> str:
    """After any id exactly the rest, and the first frame says that a position came."""
    tried = spread(seen.ids[:-1])
    for id in tried:
        expect_rest(seen, f"after {id}", seen.ask(position=id), id)
    return f"after each of {len(tried)} ids"


@rule("header-wins")
def header_wins(seen: Evidence) -> str:
    """Over everything in the URL, for a browser asks for the same URL again."""
    first, late = seen.ids[0], seen.ids[-2]
    for query in (
        {"last_event_id": first}, {"lastEventId": first}, {"replay": "snapshot"}, {"last_event_id": "$"},
    ):  # fmt: skip
        answer = seen.ask(position=late, query=query)
        expect_rest(seen, f"header {late}, URL {query}", answer, late)
    return "over last_event_id, lastEventId and replay"


@rule("position-in-url")
def position_in_url(seen: Evidence) -> str:
    """In both spellings; empty or `0-0` is the beginning."""
    middle = seen.ids[len(seen.ids) // 2]
    for name in ("last_event_id", "lastEventId"):
        expect_rest(seen, f"{name}={middle}", seen.ask(query={name: middle}), middle)
        expect_equal(f"{name}=", shown(seen.ask(query={name: ""}).events), seen.events)
        expect_equal(f"{name}=0-0", shown(seen.ask(query={name: BEGINNING}).events), seen.events)
    return "last_event_id and lastEventId"


@rule("from-now-on")
def from_now_on(seen: Evidence) -> str:
    """`$`: only what comes after this moment, and the first frame names the moment."""
    expect_stream(seen.late)
    where = seen.late.data_of(0).get("position")
    if where not in seen.ids:
        broken(f"the first frame names {where}, which is no event of the job")
    expect_position(seen.late, str(where), resumed=True)
    expect_rest(seen, f"$ at {where}", seen.late, str(where))
    return f"from {where} on"


@rule("snapshot")
def snapshot(seen: Evidence) -> str:
    """`replay=snapshot`: the state first, then what comes after it; the frame before it has no id."""
    for when, answer in (
        ("while it ran", seen.late_snapshot),
        ("at the end", seen.ask(query={"replay": "snapshot"})),
    ):
        expect_stream(answer)
        if answer.types[:2] != ["position", "snapshot"] or answer.types.count("snapshot") != 1:
            broken(f"{when}: {listed(answer.types)}")
        body = answer.data_of(1)
        through = answer.frames[1].id
        if answer.frames[0].id:
            broken(f"{when}: the position frame has the id {answer.frames[0].id}")
        if body.get("gap") is not False or state(body).get("last_event_id") != through:
            broken(f"{when}: {answer.frames[1].data[:160]}, id {through}")
        expect_equal(when, shown(answer.events), after(seen, through))
    return "the state, then the rest"


@rule("no-silent-hole")
def no_silent_hole(seen: Evidence) -> str:
    """A position that cannot be found: one snapshot that says so, then all that is kept; never an error."""
    last = _ID.fullmatch(seen.ids[-1]) or broken(f"the last event's id is {seen.ids[-1]}")
    epoch, n = last[1], last[2]
    for position in MALFORMED:
        expect_gap(seen, position, {"malformed"}, seen.events)
    lost = {"unknown", "lost", "trimmed"}
    for position in (f"{epoch}-{int(n) + 1000}", f"{int(epoch) + 1_000_000}-1"):
        expect_gap(seen, position, lost, [])
    expect_gap(seen, "1-1", lost, seen.events)
    return f"{len(MALFORMED)} malformed, 2 in the future, 1 that never was"


@rule("over")
def over(seen: Evidence) -> str:
    """Asked again with the terminal event's id: 204, as often as one asks."""
    last = seen.ids[-1]
    asked: list[dict[str, Any]] = [
        {"position": last}, {"position": last}, {"query": {"last_event_id": last}},
    ]  # fmt: skip
    for how in asked:
        answer = seen.ask(**how)
        if answer.status != 204 or answer.body:
            broken(f"{how} was answered {answer.status} with {len(answer.body)} bytes")
    return "204, three times"


@rule("cuts")
def cuts(seen: Evidence) -> str:
    """A connection that is cut at any byte loses nothing and repeats nothing, live and later."""
    connections = seen.cut.connections
    expect_cut_right("live", seen, seen.cut.events, seen.cut.gaps)
    for number in range(CUT_REPLAYS):
        again = follow_with_cuts(seen.server, seen.job, Random(f"{seen.job}/{number}"), lambda: False)
        connections += again.connections
        expect_cut_right("replayed", seen, again.events, again.gaps)
    return f"{connections} connections, none lost an event"


@rule("heartbeat", slow=True)
def heartbeat(seen: Evidence) -> str:
    """One comment line and no blank line after it: some clients hand their user an empty message at every blank line."""
    job = seen.start_another()
    try:
        answer = seen.ask(job=job, enough=_holds_a_whole_heartbeat)
    finally:
        seen.server.cancel(job)
    body = bytes(answer.body).replace(b"\r\n", b"\n")
    if (found := _HEARTBEAT.search(body)) is None:
        raise NotTried(f"none came in the {answer.seconds:.0f} s that the job ran")
    if found[1] == b"\n":
        broken(f"a blank line follows {found[0]!r}")
    return f"one line, after {answer.seconds:.0f} s or less"


def _holds_a_whole_heartbeat(answer: Answer) -> bool:
    return _HEARTBEAT.search(answer.body.replace(b"\r\n", b"\n")) is not None


# -- who may not


@rule("refusals")
def refusals(seen: Evidence) -> str:
    """No such job: 404. No token, or a wrong one: 401 with WWW-Authenticate. Each as RFC 9457 has it, none a redirect."""
    expect_problem(seen.ask(job=f"{seen.job}.not"), 404, "no such job")
    stranger = Server(seen.server.url, "not.a.token")
    for what, answer in (
        ("no token", seen.ask(with_token=False)), ("a wrong token", stranger.read(seen.job)),
    ):  # fmt: skip
        expect_problem(answer, 401, what)
        if "www-authenticate" not in answer.headers:
            broken(f"{what}: 401 without WWW-Authenticate")
    return "404 and 401, which EventSource takes as final"


@rule("no-redirect")
def no_redirect(seen: Evidence) -> str:
    """Of whatever was asked for by the rules before, nothing was answered with another address."""
    redirects = {status for status in seen.statuses if 300 <= status < 400}
    if redirects:
        broken(f"answered {listed(redirects)}")
    return f"statuses {listed(sorted(seen.statuses))}"
