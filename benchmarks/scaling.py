"""Writes docs/scaling.md: what so many watchers and events need, reckoned from the figures of docs/performance.md.

`python -m benchmarks.scaling`. It measures nothing itself; the formulas are in `Costs`, and stand in the page's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

from .document import DOCUMENT, ROOT

PAGE: Final = ROOT / "docs" / "scaling.md"
TEXT: Final = Path(__file__).parent / "scaling.txt"
WATCHERS: Final = (10**4, 10**6, 10**7)
EVENTS: Final = (10**3, 10**5, 10**6)
#: Of a core: what is planned for, so that a burst and a lost machine find room.
FULL: Final = 0.7
#: Between two comments on a stream that rests (HEARTBEAT_SECONDS).
HEARTBEAT_SECONDS: Final = 15
#: Streams of one process, as docs/operations.md plans them: what a process that dies leaves must fit into the others.
STREAMS: Final = 5_000
_ROW: Final = re.compile(
    r"^\| (?P<name>\S+) \| (?P<value>\S+) \([^)]*\) (?P<unit>\S+) \| (?:(?P<ratio>\S+) \([^)]*\) of [^|]*)?\s*\|",
    re.MULTILINE,
)


class Measured(NamedTuple):
    value: float
    ratio: float | None

    @property
    def yardstick(self) -> float:
        """What it was measured beside."""
        if self.ratio is None:
            raise ValueError("this figure has no yardstick")
        return self.value / self.ratio


def figures(document: str) -> dict[str, Measured]:
    """Of the table at the top of docs/performance.md."""
    return {
        row["name"]: Measured(float(row["value"]), float(row["ratio"]) if row["ratio"] else None)
        for row in _ROW.finditer(document)
    }


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a core for one of each, and bytes."""

    #: An event brought to one watcher who follows its job alone at that process; one more write of the same bytes.
    first_delivery: float
    further_delivery: float
    opening: float
    #: An event sent again to one who comes back.
    resent: float
    #: An event at Redis, alone in its call; and for each process that follows the job.
    append: float
    follower: float
    #: At the worker.
    reported: float
    watcher_bytes: float
    process_bytes: float
    job_bytes: float
    event_bytes: float

    @classmethod
    def of(cls, found: dict[str, Measured]) -> Costs:
        one, four = found["processes_shared_4_redis"].yardstick, found["processes_shared_4_redis"].value
        return cls(
            first_delivery=found["many_jobs"].value / 1e6,
            further_delivery=found["trickle_hand-over"].value / 1e6,
            opening=found["connect"].value / 1e6,
            resent=found["resume_storm_cpu"].value / 1e6,
            append=found["append_1"].value / 1e6,
            follower=max(0.0, four - one) / 3 / 1e6,
            reported=(found["report_event"].value - found["report_event"].yardstick) / 1e6,
            watcher_bytes=found["idle_hand-over_own_jobs"].value * 1024,
            process_bytes=found["processes_memory"].value * 2**20,
            job_bytes=found["stored_job"].value,
            event_bytes=found["stored_event"].value,
        )  # fmt: skip

    def need(self, watchers: int, events: int) -> Need:
        """Of so many watchers, each of one job, and so many events a second, one of each job."""
        jobs, together = events, max(1.0, watchers / events)
        # By how many processes a job is followed decides what an event costs them, and they decide by how many.
        processes = ceil(watchers / STREAMS)
        for _ in range(20):
            followers = min(together, processes)
            deliveries = min(watchers, together * events)
            first = min(jobs, watchers) * followers
            web = (
                first * self.first_delivery
                + (deliveries - first) * self.further_delivery
                + watchers / HEARTBEAT_SECONDS * self.further_delivery
            )
            wanted = max(ceil(watchers / STREAMS), ceil(web / FULL))
            if wanted == processes:
                break
            processes = wanted
        watched = min(1.0, watchers / jobs)
        redis = events * (self.append + watched * min(together, processes) * self.follower)
        memory = watchers * self.watcher_bytes + processes * self.process_bytes
        shards = ceil(redis / FULL)
        # How many times over one of each would be full.
        full = {"streams a process": watchers / STREAMS, "web CPU": web / FULL, "Redis' CPU": redis / FULL}
        return Need(
            web, processes, redis, shards, events * self.reported, watchers * self.opening, memory, max(full, key=full.__getitem__)
        )  # fmt: skip


class Need(NamedTuple):
    """Cores at work, and how many of each that is."""

    web_cores: float
    web_processes: int
    redis_cores: float
    shards: int
    reporting_cores: float
    #: Seconds of a core when everybody comes back at once.
    storm_seconds: float
    web_bytes: float
    #: Of one web process and one Redis.
    runs_out_first: str


def needs(costs: Costs) -> str:
    """The table of all sizes."""
    lines = [
        "| watchers | events/s | web cores busy | web processes | their memory | all come back | Redis cores busy | shards "
        "| cores to report | runs out first |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for watchers in WATCHERS:
        for events in EVENTS:
            need = costs.need(watchers, events)
            back = need.storm_seconds / need.web_processes
            lines.append(
                f"| {watchers:,} | {events:,} | {_short(need.web_cores)} | {need.web_processes:,} | {_bytes(need.web_bytes)} "
                f"| {back:.1f} s | {_short(need.redis_cores)} | {need.shards:,} | {_short(need.reporting_cores)} "
                f"| {need.runs_out_first} |"
            )
    return "\n".join(lines)


def costs_table(costs: Costs) -> str:
    """What is reckoned with, and which figure each is."""
    micro = [
        ("an event to the first watcher of its job at a process", costs.first_delivery, "`many_jobs`"),
        ("each further watcher there; each heartbeat", costs.further_delivery, "`trickle_hand-over`"),
        ("a stream opened", costs.opening, "`connect`"),
        ("an event sent again at a resume", costs.resent, "`resume_storm_cpu`"),
        ("an event appended, at Redis", costs.append, "`append_1`"),
        ("each process that follows the job, at Redis", costs.follower, "`processes_shared_4_redis`: a third of what three add"),
        ("an event reported, in the worker", costs.reported, "`report_event`, less the loop alone"),
    ]  # fmt: skip
    size = [
        ("an idle watcher of a job of its own", costs.watcher_bytes, "`idle_hand-over_own_jobs`"),
        ("a web process with a thousand watchers", costs.process_bytes, "`processes_memory`"),
        ("a job in Redis", costs.job_bytes, "`stored_job`"),
        ("an event in Redis", costs.event_bytes, "`stored_event`"),
    ]
    return "\n".join(
        [
            "| what | costs | figure |", "|---|---|---|",
            *(f"| {what} | {_short(seconds * 1e6)} µs of a core | {source} |" for what, seconds, source in micro),
            *(f"| {what} | {_bytes(count)} | {source} |" for what, count, source in size),
        ]
    )  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _bytes(count: float) -> str:
    return next(
        f"{count / size:.3g} {unit}"
        for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes"))
        if count >= size
    )


def measured(found: dict[str, Measured], prefixes: tuple[str, ...]) -> str:
    """The rows of docs/performance.md that these names begin."""
    rows = [
        f"| `{name}` | {_short(one.value)} | {'' if one.ratio is None else f'{one.ratio:.3g}'} |"
        for name, one in found.items()
        if name.startswith(prefixes)
    ]
    return "\n".join(["| figure | value | beside one |", "|---|---|---|", *rows])


def page(document: str) -> str:
    """docs/scaling.md as it should be with these figures."""
    found = figures(document)
    costs = Costs.of(found)
    return TEXT.read_text("utf-8").format(
        costs=costs_table(costs),
        needs=needs(costs),
        processes=measured(found, ("processes_",)),
        shards=measured(found, ("shards_",)),
        full=f"{FULL:.0%}",
        heartbeat=HEARTBEAT_SECONDS,
        streams=f"{STREAMS:,}",
    )


def main() -> None:
    PAGE.write_text(page(DOCUMENT.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
