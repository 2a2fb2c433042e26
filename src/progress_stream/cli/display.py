"""How `watch` shows events: a live bar in a terminal, plain lines elsewhere, or JSON. Text of strangers only as text."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from .. import jobs
from ..client.rules import WatchEvent
from ..events import TERMINAL
from .terminal import json_line, printable

#: Seconds between two plain lines of progress: a log file needs no ten a second.
PLAIN_PROGRESS_SECONDS: Final = 1.0
#: Characters of a result or of an own event's data that are shown on a line.
SHOWN_CHARACTERS: Final = 300


class Display(ABC):
    """Shows events as they come and keeps the job's state."""

    wants_the_state_alone = False

    def __init__(self) -> None:
        self.state: jobs.State = dict.fromkeys(jobs.FIELDS) | {"state": "queued", "steps": []}

    def show(self, event: WatchEvent) -> None:
        """One event, in the stream's order."""
        self.state = event.state
        self.write(event)

    @abstractmethod
    def write(self, event: WatchEvent) -> None:
        """The output for one event; the state has it already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonLines(Display):
    """For programs: every event, none left out."""

    def __init__(self, out: IO[str]) -> None:
        super().__init__()
        self._out = out

    def write(self, event: WatchEvent) -> None:
        named = {} if "type" in event.data else {"type": event.type}
        print(json_line({"id": event.id or None, **named, **event.data}), file=self._out, flush=True)


class Lines(Display):
    """For logs and pipes: a line an event, `progress` at most once a second."""

    def __init__(
        self, out: IO[str], clock: Callable[[], float] = time.monotonic, *, parts: bool = False
    ) -> None:
        super().__init__()
        self._out = out
        self._clock = clock
        self._parts = parts
        self._said_at = -PLAIN_PROGRESS_SECONDS
        self._held: WatchEvent | None = None

    def write(self, event: WatchEvent) -> None:
        # Of its parts only those that fail are worth a line, unless all of them were asked for: what they move is the bar.
        moves = event.type == "progress" or (
            event.type == "part" and not self._parts and "error" not in event.data
        )
        if moves and self._clock() - self._said_at < PLAIN_PROGRESS_SECONDS:
            self._held = event
            return
        if moves:
            self._said_at = self._clock()
        elif self._held is not None:
            self._line(self._held)
        self._held = None
        self._line(event)

    def _line(self, event: WatchEvent) -> None:
        at = str(event.data.get("at") or self.state.get("updated_at") or "")
        kind = (
            "progress"
            if event.type == "part" and not self._parts and "error" not in event.data
            else event.type
        )
        words = [at[11:19], kind, describe(kind, event.data)]
        print(printable("  ".join(word for word in words if word)), file=self._out, flush=True)


class Bar(Display):
    """For a person: one bar that moves, and above it what is worth reading."""

    wants_the_state_alone = True

    def __init__(self, console: Console, *, parts: bool = False) -> None:
        super().__init__()
        self._parts = parts
        self._running: dict[int, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.fields[title]}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[said]}", markup=False),
            console=console,
            expand=True,
        )
        self._bar = self._progress.add_task("", total=None, title="", said="waiting")

    def write(self, event: WatchEvent) -> None:
        if event.type == "part":
            self._show_part(event.data)
        elif event.type not in {"progress", "queued", "snapshot", *TERMINAL}:
            line = f"{event.type}  {describe(event.type, event.data)}"
            self._progress.console.print(Text(printable(line)), highlight=False)
        state = self.state
        ended_well = state["state"] == "succeeded"
        done, total = state["done"] or 0, state["total"]
        self._progress.update(
            self._bar,
            completed=(total or 1) if ended_well else done,
            total=total or (1 if ended_well else None),
            title=printable(
                str(state["title"] or state["actor"] or state["id"] or event.data.get("job", ""))
            ),
            said=printable(said_of(state)),
        )

    def _show_part(self, data: Mapping[str, Any]) -> None:
        """A line of its own while it runs, where that is wanted; one that fails is said in any case."""
        number, state = data.get("part"), data.get("state")
        if "error" in data:
            self._progress.console.print(Text(printable(f"part  {describe('part', data)}")), highlight=False)
        if not isinstance(number, int):
            return
        if (task := self._running.pop(number, None)) is not None:
            self._progress.remove_task(task)
        if state == "running" and self._parts:
            self._running[number] = self._progress.add_task(
                "", total=None, title=f"  part {number}", said="running"
            )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def display(as_json: bool, *, parts: bool = False) -> Display:
    """The one that fits where standard output goes."""
    if as_json:
        return JsonLines(sys.stdout)
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(console, parts=parts)
    return Lines(sys.stdout, parts=parts)


def said_of(state: Mapping[str, Any]) -> str:
    """The words beside the bar."""
    if state["state"] == "succeeded":
        return " ".join(["succeeded", *_words_of_result(state.get("result"))])
    if state["state"] in TERMINAL or state["state"] == "retrying":
        return " ".join([state["state"], *_words_of_error(state.get("error"))])
    if state["state"] == "queued":
        return state.get("waiting_for") or "queued"
    words = [describe("progress", state), _words_of_parts(state.get("parts"))]
    if state.get("stalled"):
        words.insert(0, "stalled: no sign from its worker;")
    return " ".join(word for word in words if word) or "running"


def describe(kind: str, data: Mapping[str, Any]) -> str:
    """An event's data in words."""
    words = _WORDS.get(kind)
    if words is not None:
        return "  ".join(word for word in words(data) if word)
    return _short(data.get("data"))


def _words_of_progress(data: Mapping[str, Any]) -> list[str]:
    done, total, unit = data.get("done"), data.get("total"), data.get("unit") or ""
    words = []
    if done is not None:
        words.append(
            f"{_number(done)}"
            + (f"/{_number(total)}" if total is not None else "")
            + (f" {unit}" if unit else "")
        )
    if done is not None and total:
        words.append(f"{100 * done / total:.0f}%")
    if data.get("rate"):
        words.append(f"{data['rate']:.4g}/s")
    if data.get("eta") is not None:
        words.append(f"{data['eta']:.0f} s left")
    return [*words, data.get("message") or ""]


def _words_of_parts(parts: object) -> str:
    """How many of a job's parts are where; empty for a job without."""
    if not isinstance(parts, Mapping) or not parts.get("total"):
        return ""
    ended = sum(parts[name] for name in ("succeeded", "failed", "cancelled"))
    failed = f", {parts['failed']} failed" if parts["failed"] else ""
    return f"{ended}/{parts['total']} parts{failed}"


def _words_of_error(error: object) -> list[str]:
    if not isinstance(error, Mapping):
        return []
    return [f"{error.get('type')}: {error.get('message')}"]


def _words_of_result(result: object) -> list[str]:
    return [] if result is None else [_short(result)]


def _words_of_step(data: Mapping[str, Any]) -> list[str]:
    seconds = data.get("seconds")
    return [
        str(data.get("name")),
        str(data.get("state") or ""),
        "" if seconds is None else f"{seconds:.1f} s",
    ]


_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    "queued": lambda data: [],
    "started": lambda data: [f"attempt {data.get('attempt')}"],
    "progress": _words_of_progress,
    "step": _words_of_step,
    "part": lambda data: [f"{data.get('part')} {data.get('state')}", *_words_of_error(data.get("error"))],
    "log": lambda data: [str(data.get("level") or ""), str(data.get("message") or "")],
    "stalled": lambda data: [f"no sign from its worker for {data.get('silent_seconds')} s"],
    "cancelling": lambda data: [],
    "retrying": lambda data: [*_words_of_error(data.get("error")), f"again at {data.get('next_at')}"],
    "succeeded": lambda data: _words_of_result(data.get("result")),
    "failed": lambda data: _words_of_error(data.get("error")),
    "cancelled": lambda data: [str(data.get("reason") or "")],
    "snapshot": lambda data: [
        str(data["state"].get("state")),
        "some of its past is gone" if data.get("gap") else "",
    ],
}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
