"""One answer of a server, read with every byte and the time of each in sight, and jobs to read: for commands that examine.

It follows nothing by itself: no resume, no retry, no redirect. What was seen is judged by the caller.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import httpx2

from ..errors import ProgressStreamError
from ..events import SERVER_ADDED
from ..frames.sse import MEDIA_TYPE, Frame, Parser
from .rules import check_url, problem_detail

CONNECT_SECONDS: Final = 10.0
#: Longer than the server's default heartbeat, so that a stream of a silent job is not taken for a dead one.
SILENCE_SECONDS: Final = 20.0

#: `clean`: as the answer's own framing says; `cut`: before that; `silent`: nothing more came in time; `left`: we had enough.
Ending = Literal["clean", "cut", "silent", "left"]


@dataclass(slots=True)
class Answer:
    """What came of one request. Times are seconds of the monotonic clock."""

    asked_at: float
    status: int = 0
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)
    head_at: float = 0.0
    body: bytearray = field(default_factory=bytearray)
    frames: list[Frame] = field(default_factory=list)
    #: When each frame was complete, and when anything came.
    frame_at: list[float] = field(default_factory=list)
    byte_at: list[float] = field(default_factory=list)
    ended_at: float = 0.0
    ending: Ending = "cut"
    #: Why it was cut, in the library's words.
    fault: str = ""

    @property
    def events(self) -> list[Frame]:
        """Without what the server adds."""
        return [frame for frame in self.frames if frame.event not in SERVER_ADDED]

    @property
    def ids(self) -> list[str]:
        return [frame.id for frame in self.events]

    @property
    def types(self) -> list[str]:
        return [frame.event for frame in self.frames]

    @property
    def last_id(self) -> str:
        """Where this reader would come back to."""
        return self.frames[-1].id if self.frames else ""

    @property
    def seconds(self) -> float:
        return self.ended_at - self.asked_at

    @property
    def longest_silence(self) -> float:
        """Seconds without a byte, from the answer's head to its end."""
        times = [self.head_at or self.asked_at, *self.byte_at, self.ended_at]
        return max(after - before for before, after in itertools.pairwise(times))

    def arrivals(self) -> dict[str, float]:
        """When each event of the job came, by its id."""
        return {
            frame.id: at
            for frame, at in zip(self.frames, self.frame_at, strict=True)
            if frame.event not in SERVER_ADDED
        }

    def data_of(self, index: int) -> dict[str, Any]:
        """The frame's data; empty where it is no JSON object or there is no such frame."""
        return json_object(self.frames[index].data) if index < len(self.frames) else {}


class Server:
    """A server's address and who asks. Safe over threads: each request has a connection of its own."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = check_url(url)
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}

    # -- jobs

    def submit(self, actor: str, args: Mapping[str, Any], title: str) -> str:
        """The id of a new job. Raises ProgressStreamError, also where the server's answer is none of ours."""
        body = {"actor": actor, "args": dict(args), "title": title}
        answer = self._ask("POST", "/jobs", json=body)
        job = json_object(answer.content).get("id")
        if answer.status_code != 201 or not isinstance(job, str):
            detail = problem_detail(answer.content) or "no such address there"
            raise ProgressStreamError(f"POST {self.url}/jobs was answered {answer.status_code}: {detail}")
        return job

    def cancel(self, job: str) -> None:
        """As far as the server can: what is not cancelled ends by itself."""
        try:
            self._ask("POST", f"/jobs/{quote(job, safe='~')}/cancel")
        except ProgressStreamError:
            return

    def state(self, job: str) -> dict[str, Any]:
        return json_object(self._ask("GET", f"/jobs/{quote(job, safe='~')}").content)

    def poll(self, job: str, position: str, wait_seconds: int) -> dict[str, Any] | None:
        """One long-poll; None once there is nothing more to come. Raises ProgressStreamError."""
        query = urlencode({"wait": wait_seconds, "last_event_id": position})
        path = f"/jobs/{quote(job, safe='~')}/events?{query}"
        answer = self._ask("GET", path, headers={"Accept": "application/json"})
        if answer.status_code == 204:
            return None
        if answer.status_code != 200:
            raise ProgressStreamError(f"a long-poll was answered {answer.status_code}")
        return json_object(answer.content)

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        options["headers"] = self._authorization | options.get("headers", {})
        try:
            with httpx2.Client(timeout=httpx2.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)) as client:
                return client.request(method, self.url + path, **options)
        except httpx2.HTTPError as error:
            raise ProgressStreamError(
                f"no answer from {self.url}: {error or type(error).__name__}"
            ) from error

    # -- streams

    def read(
        self,
        job: str,
        *,
        path: str | None = None,
        position: str | None = None,
        query: Mapping[str, str] | None = None,
        accept: str = MEDIA_TYPE,
        method: str = "GET",
        with_token: bool = True,
        most_bytes: int | None = None,
        enough: Callable[[Answer], bool] = lambda _answer: False,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> Answer:
        """The job's stream (or the one at `path`) to its end, or until that is enough, or so many bytes of it.

        `position` is the header's.

        Never raises for what a server or the network does: the answer says it.
        """
        place = path or f"/jobs/{quote(job, safe='~')}/events"
        address = f"{self.url}{place}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Cache-Control": "no-store"}
        headers |= self._authorization if with_token else {}
        headers |= {} if position is None else {"Last-Event-ID": position}
        answer = Answer(asked_at=time.monotonic())
        timeout = httpx2.Timeout(CONNECT_SECONDS, read=silence_seconds)
        try:
            with (
                httpx2.Client(timeout=timeout) as client,
                client.stream(method, address, headers=headers) as response,
            ):
                _take_head(answer, response)
                answer.ending = _take_body(answer, response, most_bytes, enough)
        except httpx2.ReadTimeout:
            answer.ending = "silent"
        except httpx2.HTTPError as error:
            answer.fault = str(error) or type(error).__name__
        answer.ended_at = time.monotonic()
        return answer


def _take_head(answer: Answer, response: httpx2.Response) -> None:
    answer.status = response.status_code
    answer.headers = response.headers
    answer.head_at = time.monotonic()


def _take_body(
    answer: Answer, response: httpx2.Response, most_bytes: int | None, enough: Callable[[Answer], bool]
) -> Ending:
    parser = Parser()
    for chunk in response.iter_bytes():
        piece = chunk if most_bytes is None else chunk[: most_bytes - len(answer.body)]
        now = time.monotonic()
        answer.body += piece
        answer.byte_at.append(now)
        frames = parser.feed(piece)
        answer.frames += frames
        answer.frame_at += [now] * len(frames)
        if len(answer.body) == most_bytes or enough(answer):
            return "left"
    return "clean"


def json_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object; an empty one for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
