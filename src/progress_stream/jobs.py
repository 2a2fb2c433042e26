"""What a job is: its states, the fold of its events into one object, and the form in which that is stored. All pure.

The fold runs where an event is made (one rule in one language); `web/client/fold.js` follows the same vectors. When somebody must
step in with a job is `verdicts`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import events
from .errors import InvalidEvent, UnknownForm
from .events import TERMINAL, Event, EventId

State = dict[str, Any]

# Lifecycle events only (progress, step, log and own types need "running"). Not in a row: refused. No row: terminal.
NEXT: Final[dict[str, dict[str, str]]] = {
    "queued": {"started": "running", "failed": "failed", "cancelled": "cancelled"},
    "running": {
        "started": "running", "retrying": "retrying",
        "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled",
    },
    "retrying": {"started": "running", "failed": "failed", "cancelled": "cancelled"},
}  # fmt: skip
LIFECYCLE: Final = frozenset({"queued", "started", "retrying"}) | TERMINAL

#: Every key of the state object, in the contract's order. One that is not known is null.
FIELDS: Final = (
    "id", "actor", "queue", "title", "owner", "state", "attempt", "max_attempts", "run_at", "next_at", "done", "total",
    "unit", "rate", "eta", "message", "steps", "parent", "parts", "retry_of", "stalled", "cancel_requested", "error",
    "result", "created_at", "started_at", "finished_at", "updated_at", "seen_at", "last_event_id", "waiting_for",
)  # fmt: skip

MAX_STEPS: Final = 100


def advance(state: str, event_type: str) -> str:
    """The state after an event of this type. Raises InvalidEvent when the table does not allow it."""
    row = NEXT.get(state)
    if row is None:
        raise InvalidEvent("type", f"{event_type!r} after the end ({state})", "nothing")
    if event_type in LIFECYCLE:
        if event_type not in row:
            raise InvalidEvent("type", f"{event_type!r} while {state}", ", ".join(sorted(row)))
        return row[event_type]
    return state


@dataclass(frozen=True, slots=True)
class Header:
    """What a job is before anything has happened to it: travels in the message, so that a lost `queued` loses nothing."""

    id: str
    actor: str
    queue: str | None = None
    title: str | None = None
    owner: str | None = None
    max_attempts: int | None = None
    created_at: int = 0  #: milliseconds since 1970
    run_at: int | None = None  #: milliseconds since 1970, of a delayed message
    parent: str | None = None
    retry_of: str | None = None

    def to_options(self) -> dict[str, Any]:
        """What a message's options carry of it: JSON, without what the message itself says."""
        kept = ("title", "owner", "max_attempts", "created_at", "run_at", "parent", "retry_of")
        return {name: value for name in kept if (value := getattr(self, name)) is not None}

    @classmethod
    def from_options(cls, id: str, actor: str, queue: str | None, options: Mapping[str, Any]) -> Header:
        """The header of a message. What is missing in the options is unknown; what is foreign is ignored."""
        kept = ("title", "owner", "max_attempts", "created_at", "run_at", "parent", "retry_of")
        return cls(
            id, actor, queue, **{name: options[name] for name in kept if options.get(name) is not None}
        )


def new(header: Header) -> State:
    """The state of a job that has just been queued."""
    state: State = dict.fromkeys(FIELDS)
    state.update(
        id=header.id, actor=header.actor, queue=header.queue, title=header.title, owner=header.owner, state="queued",
        max_attempts=header.max_attempts, parent=header.parent, retry_of=header.retry_of,
        steps=[], stalled=False, cancel_requested=False, created_at=events.text_of(header.created_at),
        run_at=None if header.run_at is None else events.text_of(header.run_at),
    )  # fmt: skip
    state["updated_at"] = state["created_at"]
    return state


#: Events that say nothing of whether the worker lives, for others write them.
_BY_OTHERS: Final = frozenset({"stalled", "cancelling"})
#: What a new attempt begins without.
_FORGOTTEN: Final = (
    "done",
    "total",
    "unit",
    "rate",
    "eta",
    "message",
    "error",
    "result",
    "finished_at",
    "next_at",
)


def fold(state: State, event: Event) -> State:
    """The state after one event. The argument stays as it is; an event that the table does not allow changes nothing."""
    kind = event["type"]
    try:
        following = advance(state["state"], kind)
    except InvalidEvent:
        return state
    after = {**state, "state": following, "updated_at": event["at"]}
    if kind not in _BY_OTHERS and "attempt" in event:
        after["attempt"] = event["attempt"]
        after["stalled"] = False
    if following != "queued" and after.get("waiting_for") is not None:
        # A client's state may have it, from a look at the job.
        after["waiting_for"] = None
    handle = _FOLDS.get(kind)
    if handle is not None:
        handle(after, event)
    return after


def _started(state: State, event: Event) -> None:
    state.update(dict.fromkeys(_FORGOTTEN), steps=[], stalled=False, started_at=event["at"])


def _progress(state: State, event: Event) -> None:
    done, total = event.get("done"), event.get("total")
    if total is not None:
        state["total"] = total
    if done is not None and (state["done"] is None or done >= state["done"]):
        state["done"] = done
    if state["done"] is not None and state["total"] is not None and state["done"] > state["total"]:
        state["total"] = state["done"]
    for name in ("unit", "message"):
        if name in event:
            state[name] = event[name]
    state["rate"] = event.get("rate", state["rate"])
    # Without a number it says nothing of how long the job will take.
    if done is not None or total is not None:
        state["eta"] = event.get("eta")
    if "parts" in event:
        state["parts"] = event["parts"]


def _step(state: State, event: Event) -> None:
    steps = [dict(step) for step in state["steps"]]
    known = next((step for step in steps if step["name"] == event.get("name")), None)
    if known is None:
        known = {"name": event.get("name"), "state": None, "seconds": None}
        steps.append(known)
    known["state"] = event.get("state")
    known["seconds"] = event.get("seconds")
    state["steps"] = steps[-MAX_STEPS:]


def _stalled(state: State, event: Event) -> None:
    state.update(stalled=True, eta=None)


def _cancelling(state: State, event: Event) -> None:
    state["cancel_requested"] = True


def _retrying(state: State, event: Event) -> None:
    state.update(error=event.get("error"), next_at=event.get("next_at"), eta=None, rate=None)


def _ended(state: State, event: Event) -> None:
    state.update(
        finished_at=event["at"], next_at=None, eta=None, error=event.get("error"), result=event.get("result")
    )


_FOLDS = {
    "started": _started, "progress": _progress, "part": _progress, "step": _step, "stalled": _stalled, "cancelling": _cancelling,
    "retrying": _retrying, "succeeded": _ended, "failed": _ended, "cancelled": _ended,
}  # fmt: skip


#: Of the stored form. A name that is added does not change it: what a release does not know it leaves out. What an older
#: release would read wrongly does, and that one then leaves such a job alone.
FORM: Final = 1
#: What the stored form leaves out: null everywhere, and these.
_UNSAID: Final[State] = {"steps": [], "stalled": False, "cancel_requested": False}


def pack(state: State) -> bytes:
    """The stored form of a state: its known fields as JSON, with the form's version."""
    return events.encode(
        {"v": FORM} | {name: value for name, value in state.items() if value != _UNSAID.get(name)}
    )


#: What a stored form holds under its names. `result` and `error` may be anything; null is left out.
_TEXTS: Final = frozenset(
    {
        "id",
        "actor",
        "queue",
        "title",
        "owner",
        "state",
        "unit",
        "message",
        "parent",
        "retry_of",
        "last_event_id",
    }
)
_NUMBERS: Final = frozenset({"attempt", "max_attempts", "done", "total", "rate", "eta"})
_TIMES: Final = frozenset({"run_at", "next_at", "created_at", "started_at", "finished_at", "updated_at"})


def unpack(packed: bytes) -> State:
    """The state of a stored form. Raises UnknownForm for a newer release's, ValueError for what is none: others can write there."""
    known = events.decode_any(packed)
    form = known.get("v") if isinstance(known, dict) else None
    if isinstance(form, int) and form > FORM:
        raise UnknownForm("the job is stored in a form that this release does not know")
    if form != FORM:
        raise ValueError("a stored state of an unknown form")
    state: State = dict.fromkeys(FIELDS)
    state.update(_UNSAID, steps=[])
    state.update((name, value) for name, value in known.items() if name in state)
    if not all(_may_be(name, value) for name, value in known.items() if value is not None):
        raise ValueError("a stored state with a field of another kind")
    if None in (state["id"], state["actor"], state["created_at"]):
        raise ValueError("a stored state that lacks what each has")
    return state


def _may_be(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _NUMBERS:
        return isinstance(value, int | float) and abs(value) <= 2**53
    if name in _TIMES:
        return isinstance(value, str) and events.is_time(value)
    return name != "steps" or (isinstance(value, list) and all(isinstance(step, dict) for step in value))


def check_end(end: Mapping[str, Any]) -> Mapping[str, Any]:
    """What somebody else than the attempt wrote as a job's end. Raises ValueError for what is none."""
    if not isinstance(end.get("at"), str) or not events.is_time(end["at"]):
        raise ValueError("an end without a time")
    return end


@dataclass(frozen=True, slots=True)
class Control:
    """What the scripts guard by; only they write it."""

    epoch: int
    n: int
    attempt: int
    nonce: str
    sequence: int
    status: str
    replid: str
    born: EventId

    @property
    def last(self) -> EventId:
        """The id of the newest event."""
        return EventId(self.epoch, self.n)

    @classmethod
    def read(cls, packed: Sequence[Any]) -> Control:
        """From the list that `_control.lua` describes. Raises ValueError, TypeError or IndexError for what is none."""
        epoch, n, attempt, nonce, sequence, status, replid, *born = packed[:9]
        control = cls(
            int(epoch),
            int(n),
            int(attempt),
            str(nonce),
            int(sequence),
            str(status),
            str(replid),
            EventId(*map(int, born)),
        )
        counts = (*control.last, *control.born, control.attempt, control.sequence)
        if not all(0 <= count <= events.MAX_PART for count in counts):
            raise ValueError("a count that none can have")
        if control.status not in NEXT and control.status not in TERMINAL:
            raise ValueError("a status that none can have")
        return control


#: How many parts of a job are where, in the order in which they are shown.
PARTS: Final = ("total", "queued", "running", "succeeded", "failed", "cancelled")


#: A part's number has nine digits at most.
MAX_PARTS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Spread:
    """What is known of the parts of a job that was spread over many messages; only the scripts write it."""

    parts: Mapping[str, int]
    bar: Mapping[str, Any]  #: done, total, unit, rate, eta as they were shown last
    sealed: bool = False  #: no more parts will come
    released: bool = False  #: its actor has returned: the parts' ends decide
    follow_up: str = ""  #: "" (none), waiting, due, sent, ended

    @classmethod
    def read(cls, packed: Mapping[str, Any]) -> Spread:
        """From the packed map that `_parent.lua` describes. Raises ValueError, TypeError or KeyError for what is none."""
        bar = {"done": packed.get("done"), "total": packed.get("of_shown"), "unit": packed.get("unit_shown")}
        parts = {name: int(packed[name]) for name in PARTS}
        if not all(0 <= count <= MAX_PARTS for count in parts.values()):
            raise ValueError("a count of parts that none can have")
        return cls(
            parts,
            bar | {"rate": packed.get("rate"), "eta": packed.get("eta")},
            bool(packed["sealed"]), bool(packed["released"]), packed["after"],
        )  # fmt: skip

    @property
    def open(self) -> int:
        """Parts that have not ended."""
        return self.parts["queued"] + self.parts["running"]


@dataclass(frozen=True, slots=True)
class Record:
    """A job as Redis holds it: the attempt's packed state, and beside it what others write. Times in Redis' milliseconds."""

    packed: State
    control: Control
    seen_at: int | None = None
    stalled_at: int | None = None
    cancel_at: int | None = None
    end: Mapping[str, Any] | None = None
    file: Mapping[str, Any] | None = None
    confirmed: bool = True
    fingerprint: str = ""
    spread: Spread | None = None
    waiting_for: str | None = field(default=None, compare=False)

    @property
    def terminal(self) -> bool:
        return self.control.status in TERMINAL


def view(record: Record) -> State:
    """The state object that the outside sees."""
    state = dict(record.packed)
    state["state"] = record.control.status
    state["attempt"] = record.control.attempt or None
    state["stalled"] = record.stalled_at is not None and not record.terminal
    state["cancel_requested"] = record.cancel_at is not None
    state["seen_at"] = None if record.seen_at is None else events.text_of(record.seen_at)
    state["last_event_id"] = str(record.control.last)
    if record.spread is not None:
        state.update(record.spread.bar, parts=dict(record.spread.parts))
    if state["stalled"]:
        state["eta"] = None
    if record.end is not None:
        _ended(state, dict(record.end))
        state["updated_at"] = record.end["at"]
    if state["state"] == "queued":
        state["waiting_for"] = record.waiting_for
    return state


def pack_arguments(args: Sequence[Any], kwargs: Mapping[str, Any], limit: int) -> bytes:
    """What a job was called with, so that it can be called again; empty where it is no JSON or larger than `limit` bytes."""
    try:
        packed = events.encode({"args": list(args), "kwargs": dict(kwargs)})
    except InvalidEvent:
        return b""
    return packed if len(packed) <= limit else b""


def unpack_arguments(packed: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Raises ValueError for what `pack_arguments` did not make."""
    known = events.decode(packed)
    args, kwargs = known.get("args"), known.get("kwargs")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ValueError("no arguments")
    return args, kwargs
