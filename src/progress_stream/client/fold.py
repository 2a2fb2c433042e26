"""The state of a followed job as its events make it, on the client's side. Pure; the fold of one event is `jobs.fold`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .. import jobs
from ..events import EventId
from ..jobs import State

#: What events do not tell and the state does.
_IDENTITY: Final = (
    "id", "actor", "queue", "title", "owner", "max_attempts", "run_at", "parent", "retry_of", "created_at",
)  # fmt: skip


class Fold:
    """The state of a job as its events make it, from a snapshot on where there was one."""

    def __init__(self, job: str) -> None:
        self.state: State = dict.fromkeys(jobs.FIELDS) | {
            "id": job, "state": "queued", "steps": [], "stalled": False, "cancel_requested": False,
        }  # fmt: skip
        self._through: EventId | None = None

    def identify(self, state: Mapping[str, Any], *, whole: bool) -> None:
        """What the job is; `whole`: and how far it was, for who will see no event from before."""
        if whole:
            self.snapshot(state, state.get("last_event_id"))
        else:
            self.state = self.state | {name: state.get(name) for name in _IDENTITY}
            self.state["updated_at"] = state.get("created_at")

    def snapshot(self, state: Mapping[str, Any], through: object) -> None:
        """Everything up to `through` is in this state."""
        self.state = {**self.state, **state}
        self._through = position_of(through)

    def event(self, id: EventId | None, type: str, data: dict[str, Any]) -> None:
        """One more event. One that the state holds already changes nothing, nor does one that makes no sense."""
        if self._through is not None and id is not None and id <= self._through:
            return
        try:
            folded = jobs.fold(self.state, {**data, "type": type})
        except (KeyError, TypeError, ValueError, AttributeError):
            folded = self.state
        self.state = folded if id is None else {**folded, "last_event_id": str(id)}


def position_of(text: object) -> EventId | None:
    try:
        return EventId.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None
