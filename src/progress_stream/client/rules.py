"""What following a job over HTTP means: what to ask next, what an answer says, when to wait, when to stop.

Pure: sends nothing, sleeps nowhere; clock and randomness are arguments (in the `Backoff`). `watch.py` moves the bytes.

A job is followed by its stream. Where something on the way lets none through (no byte within three seconds, or three
streams in a row that last under a second), by long-polls, until the stream is tried again. Where the server itself refuses
streams, by its state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode, urlsplit

from .. import events
from ..errors import AccessError, InvalidInput, NoSuchJob, NotAuthenticated, ProgressStreamError, TokenExpired
from ..events import BEGINNING, SERVER_ADDED, TERMINAL, EventId
from ..frames.sse import Frame, Parser
from ..jobs import State
from .fold import Fold, position_of
from .retry import Backoff

#: The server's default.
HEARTBEAT_SECONDS: Final = 15.0
#: Heartbeats without a byte after which a connection counts as dead.
SILENT_HEARTBEATS: Final = 2.5
#: A stream's first bytes come at once: who waits longer is behind something that keeps them.
OPENING_SECONDS: Final = 3.0
#: So many streams in a row that lasted no longer than this are as good as none.
SHORT_STREAMS: Final = 3
SHORT_SECONDS: Final = 1.0
#: How long a long-poll is asked to wait: less than proxies cut idle answers at. Halved each time one is cut.
WAIT_SECONDS: Final = 25.0
LEAST_WAIT_SECONDS: Final = 2.0
#: Long-polls that failed in a row before the stream is tried once more.
FAILED_POLLS: Final = 2
#: Between two long-polls of a busy job: what comes meanwhile comes with the next.
GATHER_SECONDS: Final = 0.2
#: How long there are long-polls before the stream is tried again: doubled each time that was in vain, up to the longest.
POLLED_SECONDS: Final = 60.0
LONGEST_POLLED_SECONDS: Final = 600.0
#: Between two looks at the state.
STATE_SECONDS: Final = 2.0
#: A wait longer than this is not a server's pause but a mistake on the way.
MAX_TOLD_SECONDS: Final = 300.0
#: An answer for which nobody waits, and how long to look at the state where the server does not say.
ANSWER_SECONDS: Final = 30.0
#: Answers that say "later": all but the 5xx, which say so too.
LATER: Final = frozenset({408, 425, 429})
#: Reasons of `busy` that will not pass in a moment. The job itself can be asked meanwhile.
_STREAMS_REFUSED: Final = frozenset({"streaming_off", "too_many_streams", "too_many_streams_of_owner"})

Kind = Literal["identity", "stream", "poll", "state"]
_EXPECTED: Final[Mapping[Kind, str]] = {"stream": "event stream", "poll": "list of events"}
Replay = Literal["events", "snapshot"]
_MEDIA_TYPES: Final[Mapping[Kind, str]] = {"stream": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a job, or a `snapshot` of it.

    `state` is the job with this event in it. `id` is the place to come back to; empty for a snapshot that moves none.
    """

    id: str
    type: str
    data: dict[str, Any]
    state: State


@dataclass(frozen=True, slots=True)
class Ask:
    """One GET to send, and how long to wait for its first byte and between two of them."""

    kind: Kind
    url: str
    headers: dict[str, str]
    opening_seconds: float
    silence_seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Ask again after so many seconds. `why` is empty where nothing went wrong."""

    seconds: float
    why: str = ""


def check_url(url: str) -> str:
    """The server's address without a slash at its end. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
        )
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable():
        raise InvalidInput("url", "is not the address of a server", "http://host:port or https://host/path")
    return url.rstrip("/")


def check_job(job: str) -> str:
    """Raises InvalidInput for what no job can be called."""
    if not isinstance(job, str) or not events.is_job_id(job):
        raise InvalidInput("job", "is not a job's id", "what submitting it gave")
    return job


class Rules:
    """Following one job. In turn: `ask`; then `answered` or `refused`, and `feed` or `whole`; `dropped` or `silent` where it
    failed; `pause`, until `over`.

    Raises NoSuchJob, NotAuthenticated (TokenExpired among it) and AccessError as soon as the server says so, and
    ProgressStreamError where the address is not a server of ours. Everything else is a drop.
    """

    def __init__(
        self,
        url: str,
        job: str,
        *,
        backoff: Backoff,
        replay: Replay = "events",
        last_event_id: str = "",
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        can_renew: bool = False,
    ) -> None:
        self.over = False
        #: The token is no longer good: another one is needed before `ask`.
        self.wants_token = False
        self._address = f"{check_url(url)}/jobs/{quote(check_job(job), safe='~')}"
        self._job = job
        self._backoff = backoff
        self._clock = backoff.clock
        self._replay = replay
        self._silence_seconds = heartbeat_seconds * SILENT_HEARTBEATS
        self._can_renew = can_renew
        self._renewed = False
        self._place = last_event_id
        self._fold = Fold(job)
        self._resumes = bool(last_event_id)
        self._mode: Kind = "identity" if replay == "events" else "stream"
        self._met = False
        self._parser = Parser()
        # Of the connection
        self._opened_at: float | None = None
        self._sent_away = False
        self._failed = False
        self._asked_at = 0.0
        self._state_is_terminal = False
        self._pause: Pause | None = None
        self._why = ""
        # Of streams that do not get through
        self._short_streams = 0
        self._polled_seconds = POLLED_SECONDS
        self._stream_again_at = 0.0
        self._wait_seconds = WAIT_SECONDS
        self._failed_polls = 0
        self._etag = ""
        self._looked: State | None = None

    # -- asking

    def ask(self, token: str | None) -> Ask:
        """The next request."""
        if self._mode in {"poll", "state"} and self._clock() >= self._stream_again_at:
            self._mode = "stream"
        self._parser = Parser()
        self._asked_at, self._opened_at = self._clock(), None
        self._sent_away = self._failed = self._state_is_terminal = False
        self._pause, self._why = None, "the stream ended"
        kind = self._mode
        headers = {
            "Accept": _MEDIA_TYPES.get(kind, "application/json"),
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if kind == "state" and self._etag:
            headers["If-None-Match"] = self._etag
        query: dict[str, str] = {}
        if kind in {"stream", "poll"}:
            self._place_in(headers, query)
        if kind == "poll":
            query["wait"] = f"{self._wait_seconds:g}"
        path = "" if kind in {"identity", "state"} else "/events"
        url = f"{self._address}{path}" + (f"?{urlencode(query)}" if query else "")
        opening, silence = {
            "stream": (OPENING_SECONDS, self._silence_seconds),
            "poll": (self._wait_seconds + ANSWER_SECONDS, ANSWER_SECONDS),
        }.get(kind, (ANSWER_SECONDS, ANSWER_SECONDS))
        return Ask(kind, url, headers, opening, silence)

    def _place_in(self, headers: dict[str, str], query: dict[str, str]) -> None:
        if self._place:
            # In both: some proxies eat the one, some caches ignore the other.
            headers["Last-Event-ID"] = query["last_event_id"] = self._place
        elif self._replay == "snapshot":
            query["replay"] = "snapshot"

    # -- answers

    def answered(self, status: int, headers: Mapping[str, str]) -> Literal["pieces", "whole", "nothing"]:
        """How the body of an answer is to be read: `feed` its pieces, or hand it over to `whole`, or to `refused`."""
        if status == 204 and self._mode in {"stream", "poll"}:
            self.over = True
            return "nothing"
        if status == 304:
            self._proved()
            self._pause = self._between_looks()
            return "nothing"
        if status != 200 or not headers.get("content-type", "").startswith(
            _MEDIA_TYPES.get(self._mode, "application/json")
        ):
            return "whole"
        self._met = True
        if self._mode != "stream":
            self._etag = headers.get("etag", "") if self._mode == "state" else ""
            return "whole"
        self._opened_at = self._clock()
        self._backoff.opened()
        return "pieces"

    def feed(self, piece: bytes) -> list[WatchEvent]:
        """The events that this piece of a stream completes."""
        try:
            frames = self._parser.feed(piece)
        except InvalidInput as error:
            self.dropped(str(error))
            self._sent_away = True
            return []
        return [event for frame in frames if (event := self._take(frame)) is not None]

    @property
    def wants_more(self) -> bool:
        """Whether there is anything left to read on this connection."""
        return not (self.over or self.wants_token or self._sent_away)

    def _take(self, frame: Frame) -> WatchEvent | None:
        if not self.wants_more:
            return None
        data = _object(frame.data)
        if frame.event == "snapshot" and data is not None and isinstance(data.get("state"), dict):
            return self._snapshot(frame.id, data)
        if frame.event in SERVER_ADDED:
            self._notice(frame, data or {})
            return None
        if data is None:
            self._place = frame.id or self._place
            return None
        return self._event(frame.id, frame.event, data)

    def _event(
        self, id: str, type: str, data: dict[str, Any], state: State | None = None
    ) -> WatchEvent | None:
        place, known = position_of(id), position_of(self._place)
        if place is not None and known is not None and place <= known:
            return None  # Something on the way lost where we were, or gave an old answer again.
        self._place = id or self._place
        self._backoff.progressed()
        self._fold.event(place, type, data)
        if state is not None:
            self._fold.snapshot(state, id)
        self.over = self.over or type in TERMINAL
        return WatchEvent(id, type, data, self._fold.state)

    def _snapshot(self, id: str, data: dict[str, Any]) -> WatchEvent:
        self._place = id or self._place
        self._backoff.progressed()
        self._proved()
        self._fold.snapshot(data["state"], data.get("through"))
        # Kept events may still follow a snapshot of an ended job, so its stream is read to its end.
        self._state_is_terminal = data["state"].get("state") in TERMINAL
        return WatchEvent(id, "snapshot", data, self._fold.state)

    def _notice(self, frame: Frame, data: dict[str, Any]) -> None:
        """What the server says about this connection, not about the job."""
        told = None if frame.retry is None else min(frame.retry / 1000, MAX_TOLD_SECONDS)
        if frame.event == "expired":
            self._token_refused(TokenExpired("the token has run out"))
        elif frame.event == "position":
            self._proved()
            self._place = frame.id if frame.id and frame.id != str(BEGINNING) else self._place
            self._backoff.base_seconds = told or self._backoff.base_seconds
        elif frame.event in {"busy", "draining"}:
            self._sent_away = True
            self._why = f"the server says {frame.event}"
            if data.get("reason") in _STREAMS_REFUSED:
                self._look_at_state(told)
            else:
                self._pause = Pause(self._backoff.wait(told), self._why)

    def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> list[WatchEvent]:
        """The events in an answer that is no stream."""
        if status != 200:
            self._refused(status, headers, body)
            return []
        data = _object(body.decode("utf-8", "replace"))
        wanted = {"poll": "events", "stream": ""}.get(self._mode, "last_event_id")
        if data is None or wanted not in data:
            self._foreign()
            return []
        self._proved()
        if self._mode == "identity":
            self._fold.identify(data, whole=self._resumes)
            self._mode, self._pause = "stream", Pause(0)
            return []
        return self._poll_answer(data) if self._mode == "poll" else self._look(data)

    def _poll_answer(self, data: dict[str, Any]) -> list[WatchEvent]:
        self._failed_polls = 0
        state, through = data.get("state"), data.get("through")
        last = data.get("last_event_id")
        found = [event for event in data["events"] if isinstance(event, dict)]
        seen: list[WatchEvent | None] = []
        told = {name: data.get(name) for name in ("gap", "reason", "through", "state")}
        if isinstance(state, dict) and (data.get("gap") or (not self._place and self._replay == "snapshot")):
            seen.append(self._snapshot(_before(found) or str(last), told))
        for event in found:
            id, type = str(event.pop("id", "")), str(event.get("type", ""))
            is_last = id == through and isinstance(state, dict)
            seen.append(self._event(id, type, event, state if is_last else None))
        if isinstance(last, str) and not self.over:
            self._place = last
        more = bool(data.get("more"))
        self.over = self.over or (self._state_is_terminal and not more)
        if found or self._clock() - self._asked_at >= SHORT_SECONDS:
            self._backoff.progressed()
            self._pause = Pause(0 if more else GATHER_SECONDS)
        return [event for event in seen if event is not None]

    def _look(self, state: dict[str, Any]) -> list[WatchEvent]:
        """The job's state, as the answer to polling: a snapshot that moves no place, for no event has been missed yet."""
        self._pause = self._between_looks()
        self.over = state.get("state") in TERMINAL
        self._backoff.progressed()
        if state == self._looked:
            return []
        self._looked = state
        through = state.get("last_event_id")
        self._fold.snapshot(state, through)
        data = {"gap": False, "reason": None, "through": through, "state": state}
        return [WatchEvent("", "snapshot", data, self._fold.state)]

    # -- refusals

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        detail = problem_detail(body)
        if status in LATER or status >= 500:
            return self._refused_for_now(status, headers)
        if status == 401:
            return self._token_refused(NotAuthenticated(detail or "no valid token"))
        if status == 404:
            raise NoSuchJob(self._job)
        if status == 403:
            raise AccessError(detail or "not allowed")
        raise ProgressStreamError(f"the server answered {status}" + (f": {detail}" if detail else ""))

    def _refused_for_now(self, status: int, headers: Mapping[str, str]) -> None:
        told = _retry_after(headers.get("retry-after"))
        self.dropped(f"the server answered {status}")
        if self._mode == "poll" and (status == 429 or "link" in headers):
            self._look_at_state(told)
        else:
            self._pause = Pause(self._backoff.wait(told), self._why)

    def _token_refused(self, error: NotAuthenticated) -> None:
        """Once a new one is asked for. If that is refused too, it is not its age."""
        if not self._can_renew or self._renewed:
            raise error
        self._renewed = self.wants_token = True
        self._pause = Pause(0)

    def _foreign(self) -> None:
        """A page from something on the way is a drop, unless there was never anything else at this address."""
        what = f"answered something that is no {_EXPECTED.get(self._mode, 'job')}"
        if not self._met:
            raise ProgressStreamError(f"{self._address} {what}")
        self.dropped(what)

    # -- drops

    def dropped(self, why: str) -> None:
        """The connection is over before its time."""
        self._why, self._failed = why, True
        if self._mode == "poll":
            self._failed_polls += 1
            self._wait_seconds = max(self._wait_seconds / 2, LEAST_WAIT_SECONDS)
            if self._failed_polls >= FAILED_POLLS:
                self._failed_polls = 0
                self._stream_again_at = self._clock()

    def silent(self, *, opening: bool) -> None:
        """Nothing came for as long as `Ask` says; `opening`: not even the first byte."""
        if opening and self._mode == "stream":
            self._why = "the stream gave nothing; something on the way may keep it"
            self._fall_back()
        else:
            self.dropped("nothing came any more")

    def pause(self) -> Pause:
        """After a connection's end: what to wait before the next `ask`."""
        if self._mode == "stream":
            self._mind_the_length()
            self.over = self.over or (self._state_is_terminal and not (self._sent_away or self._failed))
        if self._pause is None:
            self._pause = Pause(self._backoff.wait(), self._why)
        return self._pause

    def _mind_the_length(self) -> None:
        if self._opened_at is None or self._sent_away or self.wants_token:
            return
        if self._clock() - self._opened_at >= SHORT_SECONDS:
            self._short_streams, self._polled_seconds = 0, POLLED_SECONDS
            return
        self._short_streams += 1
        if self._short_streams >= SHORT_STREAMS:
            self._fall_back()

    def _fall_back(self) -> None:
        self._mode, self._short_streams = "poll", 0
        self._stream_again_at = self._clock() + self._polled_seconds
        self._polled_seconds = min(2 * self._polled_seconds, LONGEST_POLLED_SECONDS)
        self._pause = Pause(0, self._why)

    def _look_at_state(self, told: float | None) -> None:
        self._mode = "state"
        self._stream_again_at = self._clock() + self._backoff.spread(told or ANSWER_SECONDS)
        self._pause = Pause(0, self._why)

    def _between_looks(self) -> Pause:
        return Pause(STATE_SECONDS * (0.75 + 0.5 * self._backoff.random()))

    def _proved(self) -> None:
        """The token was taken and the server is ours."""
        self._renewed = False


def problem_detail(body: bytes) -> str:
    """What an error answer says of itself (RFC 9457); empty where it is not one of ours."""
    problem = _object(body.decode("utf-8", "replace")) or {}
    said = problem.get("detail") or problem.get("title") or ""
    return said if isinstance(said, str) else ""


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _before(found: list[dict[str, Any]]) -> str:
    """The place right before the first of these events."""
    first = position_of(found[0].get("id")) if found else None
    return "" if first is None else str(EventId(first.epoch, max(first.n - 1, 0)))


def _retry_after(text: str | None) -> float | None:
    """Seconds; the form with a date is not worth a clock that may be wrong."""
    return min(float(text), MAX_TOLD_SECONDS) if text and text.isascii() and text.isdigit() else None
