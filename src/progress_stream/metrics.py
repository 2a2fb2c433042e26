"""Every number that Prometheus may ask for: its name, its meaning, and how plain counting on a hot path reaches it.

What counts, counts into a `Tally` of its own, plain integers that cost nothing; once a second and at each scrape a tally's growth
goes into the process' metrics. Those are shared over processes where `PROMETHEUS_MULTIPROC_DIR` names a folder: then each process
answers for all. No metric tells jobs or owners apart: a label for each would be a time series for each, for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

PREFIX: Final = "progress_stream_"
#: Names a folder that all processes of an installation on this machine write to. It must be empty at the start of the first.
FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
#: From what nobody notices to what everybody does.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. A counter's name ends in `_total`, a unit stands before that."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    #: How a gauge of many processes is one number: each counts its own things, or all look at the same one.
    together: Literal["livesum", "livemax"] = "livesum"

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


WEB: Final = (
    Definition("watchers", "gauge", "Open streams."),
    Definition("deliveries_total", "counter", "Events written to watchers, once for each watcher."),
    Definition("delivered_bytes_total", "counter", "Bytes of events and heartbeats written to watchers."),
    Definition("replayed_events_total", "counter", "Deliveries that were read from the history in Redis."),
    Definition("history_reads_total", "counter", "Reads of a job's history in Redis; who comes at about the same time shares one."),
    Definition(
        "resumes_total", "counter",
        "Streams that went on from a position: live (nothing was missed), replay (all of it was sent), gap (some was gone).",
        ("kind",),
    ),
    Definition("folded_events_total", "counter", "Progress events that went out as part of a later one, to watchers far behind."),
    Definition(
        "append_to_delivery_seconds", "histogram",
        "From an event's report by the actor to its first write to a watcher; a sample, of live delivery alone.",
    ),
    Definition("missed_wakeups_total", "counter", "Wake-ups that did not continue what was heard before: read again from Redis."),
    Definition("tail_check_repairs_total", "counter", "Streams found to lack their newest event by the check every 20 seconds."),
    Definition("probe_failures_total", "counter", "Probes of the live path that did not come back."),
    Definition("redis_reconnects_total", "counter", "Connections for wake-ups that were lost or could not be made."),
    Definition("refusals_total", "counter", "Requests refused for now or for their size, by reason.", ("reason",)),
    Definition("http_requests_total", "counter", "Answers, by route and status.", ("method", "route", "status")),
    Definition(
        "queue_messages", "gauge",
        "Messages in the broker, waiting or being worked on, by queue. Every web server tells the same: take max, not sum.",
        ("queue",), "livemax",
    ),
)  # fmt: skip
WORKER: Final = (
    Definition("worker_appended_events_total", "counter", "Events that Redis took."),
    Definition("worker_coalesced_events_total", "counter", "Progress reports that a newer one replaced before they were sent."),
    Definition("worker_buffered_events", "gauge", "Events that wait for Redis."),
    Definition("worker_dropped_events_total", "counter", "Events left out: over LOG_RATE, or more than could wait for Redis."),
    Definition("worker_superseded_attempts_total", "counter", "Attempts that a later one took over while they ran."),
)  # fmt: skip
ALL: Final = WEB + WORKER

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})


class Known:
    """The process' metrics, made when the first is wanted: the client library looks at its environment then."""

    def __init__(self) -> None:
        from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

        makers: dict[str, Callable[..., Any]] = {
            "counter": Counter,
            "gauge": Gauge,
            "histogram": partial(Histogram, buckets=SECONDS),
        }
        #: Ours alone. A host application finds them in its own registry too.
        self.registry: CollectorRegistry = CollectorRegistry()
        self._metrics: dict[str, Any] = {}
        for one in ALL:
            more = {"multiprocess_mode": one.together} if one.kind == "gauge" else {}
            metric = makers[one.kind](one.full_name, one.help, one.labels, registry=REGISTRY, **more)
            self.registry.register(metric)
            self._metrics[one.name] = metric

    def add(self, name: str, amount: float, *labels: str) -> None:
        metric = self._metrics[name]
        (metric.labels(*labels) if labels else metric).inc(amount)

    def set(self, name: str, value: float, *labels: str) -> None:
        self._metrics[name].labels(*labels).set(value)

    def observe(self, name: str, value: float) -> None:
        self._metrics[name].observe(value)


_making: Final = threading.Lock()


@cache
def _made() -> Known:
    return Known()


def known() -> Known:
    # Two threads may want them first, and `cache` would make them twice, which the library refuses.
    with _making:
        return _made()


def wanted() -> bool:
    """True where somebody collects already: in a process that nobody scrapes the library stays unloaded."""
    return FOLDER in os.environ or "prometheus_client" in sys.modules


class Tally:
    """What one part of a process counts. Plain attributes; a subclass names them, each with the metric that it feeds."""

    __slots__ = ("__weakref__", "_lock", "_pid", "_told", "refresh")
    FEEDS: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init__(self, refresh: Callable[[], None] | None = None) -> None:
        """`refresh` is called before the numbers are read, for what is known elsewhere."""
        for name in self.FEEDS:
            setattr(self, name, 0)
        self.refresh = refresh
        self._told = dict.fromkeys(self.FEEDS, 0)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        _tallies.add(self)

    def publish(self) -> None:
        """Add what came since the last time to the process' metrics. A forked child leaves it to its parent."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self.refresh is not None:
                self.refresh()
            for name, (metric, *labels) in self.FEEDS.items():
                now = getattr(self, name)
                if grown := now - self._told[name]:
                    self._told[name] = now
                    known().add(metric, grown, *labels)


_tallies: weakref.WeakSet[Tally] = weakref.WeakSet()


class WebTally(Tally):
    """Of one hub."""

    __slots__ = FEEDS = {  # noqa: RUF012
        "watchers": ("watchers",),
        "deliveries": ("deliveries_total",),
        "sent_bytes": ("delivered_bytes_total",),
        "replayed": ("replayed_events_total",),
        "live": ("resumes_total", "live"),
        "replay": ("resumes_total", "replay"),
        "gap": ("resumes_total", "gap"),
        "folded": ("folded_events_total",),
        "history_reads": ("history_reads_total",),
        "missed_wakeups": ("missed_wakeups_total",),
        "tail_repairs": ("tail_check_repairs_total",),
        "probe_failures": ("probe_failures_total",),
        "reconnects": ("redis_reconnects_total",),
    }
    watchers: int
    deliveries: int
    sent_bytes: int
    replayed: int
    live: int
    replay: int
    gap: int
    folded: int
    history_reads: int
    missed_wakeups: int
    tail_repairs: int
    probe_failures: int
    reconnects: int


class WorkerTally(Tally):
    """Of one flusher."""

    __slots__ = FEEDS = {  # noqa: RUF012
        "appended": ("worker_appended_events_total",),
        "coalesced": ("worker_coalesced_events_total",),
        "buffered": ("worker_buffered_events",),
        "dropped": ("worker_dropped_events_total",),
        "superseded": ("worker_superseded_attempts_total",),
    }
    appended: int
    coalesced: int
    buffered: int
    dropped: int
    superseded: int


def delivered_after(seconds: float) -> None:
    """One event's way from its report to its first write. Two machines' clocks may differ: never less than nothing."""
    known().observe("append_to_delivery_seconds", max(seconds, 0.0))


def refused(reason: str) -> None:
    known().add("refusals_total", 1, reason)


def level(name: str, value: float, *labels: str) -> None:
    """A gauge that somebody has just looked at."""
    known().set(name, value, *labels)


def answered(method: str, route: str, status: int) -> None:
    """`route` is the template of the address. A method is whatever a client wrote: only common ones get a series."""
    known().add("http_requests_total", 1, method if method in _METHODS else "other", route, str(status))


# -- what is shown


def exposition(accept: str = "") -> tuple[bytes, str]:
    """The text for Prometheus, and its media type. With a shared folder it speaks for all processes."""
    from prometheus_client.exposition import choose_encoder

    for tally in list(_tallies):
        tally.publish()
    encode, media_type = choose_encoder(accept)
    return encode(_registry()), media_type


def _registry() -> CollectorRegistry:
    folder = os.environ.get(FOLDER)
    if folder is None:
        _process_collectors()
        return known().registry
    from prometheus_client import CollectorRegistry

    known()
    bury_dead()
    registry = CollectorRegistry()
    registry.register(_Shared(folder))
    return registry


@cache
def _process_collectors() -> None:
    """Memory, CPU and open files of this process, under the names that all exporters use."""
    from prometheus_client import GCCollector, ProcessCollector

    ProcessCollector(registry=known().registry)
    GCCollector(registry=known().registry)


class _Shared:
    """All processes' metrics from the shared folder, without those of others who write there too (Dramatiq's own, say)."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.multiprocess import MultiProcessCollector

        every = MultiProcessCollector(None, self._folder).collect()  # type: ignore[no-untyped-call]
        return [metric for metric in every if metric.name.startswith(PREFIX)]


def bury_dead() -> None:
    """A gauge of a process that was killed would count for ever: its file goes. Counters stay, as they must."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    for file in Path(folder).glob("gauge_live*_*.db"):
        found = re.fullmatch(r"gauge_live\w+_(\d+)", file.stem)
        if found is not None and not _lives(int(found[1])):
            with contextlib.suppress(OSError):
                file.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
