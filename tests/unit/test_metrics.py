"""Plain counting, and how it reaches Prometheus: from one process, from many that share a folder, and after one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from progress_stream import metrics

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
PROGRAM = """
import sys
from progress_stream import metrics
web, worker = metrics.WebTally(), metrics.WorkerTally()
for line in sys.stdin:
    web.watchers, web.deliveries = 2, web.deliveries + 10
    worker.buffered = 5
    metrics.refused("draining")
    metrics.delivered_after(0.02)
    text = metrics.exposition()[0].decode()
    print(len(text.encode()), flush=True)
    print(text, end="", flush=True)
"""


class Process:
    """Counts a little more at each `turn`, and says what a scraper would be told by it."""

    def __init__(self, folder: Path | None) -> None:
        env = {**os.environ}
        env.pop(metrics.FOLDER, None)
        if folder is not None:
            env[metrics.FOLDER] = str(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )

    def turn(self) -> dict[str, float]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        text = self._process.stdout.read(int(self._process.stdout.readline())).decode()
        return {
            sample.name.removeprefix(metrics.PREFIX): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self._process.communicate()


def test_one_process_tells_of_itself(tmp_path: Path) -> None:
    """And of its memory, under the name that every exporter uses."""
    process = Process(None)
    process.turn()
    told = process.turn()
    process.end(signal.SIGTERM)

    assert (2, 20, 5) == (told["watchers"], told["deliveries_total"], told["worker_buffered_events"])
    assert (2, 2) == (told["refusals_total"], told["append_to_delivery_seconds_count"])
    assert told["process_resident_memory_bytes"] > 10**6


def test_each_of_many_processes_tells_of_all(tmp_path: Path) -> None:
    """Whichever is asked: counters, gauges and histograms are those of all together."""
    processes = [Process(tmp_path), Process(tmp_path)]
    processes[0].turn()
    processes[1].turn()
    told = processes[0].turn()
    for process in processes:
        process.end(signal.SIGTERM)

    assert (4, 30, 10) == (told["watchers"], told["deliveries_total"], told["worker_buffered_events"])
    assert (3, 3) == (told["refusals_total"], told["append_to_delivery_seconds_count"])
    assert 3 * 0.02 == pytest.approx(told["append_to_delivery_seconds_sum"])


def test_a_killed_process_watches_nothing_any_more(tmp_path: Path) -> None:
    """What it counted stays, or every rate would dip; what it held open does not."""
    killed, living = Process(tmp_path), Process(tmp_path)
    killed.turn()
    killed.end(signal.SIGKILL)
    told = living.turn()
    living.end(signal.SIGTERM)

    assert (2, 20) == (told["watchers"], told["deliveries_total"])


def test_a_shared_folder_s_other_metrics_are_left_out(tmp_path: Path) -> None:
    """Dramatiq's own middleware writes there too, and shows them itself."""
    other = "from prometheus_client import Counter; Counter('dramatiq_messages_total', 'x').inc()"
    subprocess.run(
        [sys.executable, "-c", other], env={**os.environ, metrics.FOLDER: str(tmp_path)}, check=True
    )
    process = Process(tmp_path)
    told = process.turn()
    process.end(signal.SIGTERM)

    assert 10 == told["deliveries_total"]
    assert not any("dramatiq" in name for name in told)


def test_a_forked_child_does_not_count_its_parent_s_work_again() -> None:
    """It holds a copy of what the parent has not published yet."""
    tally = metrics.WorkerTally()
    tally.appended = 7
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        tally.publish()
        os.write(writer, b"%d" % tally._told["appended"])
        os._exit(0)
    os.waitpid(child, 0)
    tally.publish()

    assert b"0" == os.read(reader, 10)
    assert 7 == tally._told["appended"]


def test_a_negative_way_is_none() -> None:
    """A worker's clock may be ahead of ours; a histogram's sum must not fall."""
    before = metrics.known().registry.get_sample_value("progress_stream_append_to_delivery_seconds_sum") or 0
    metrics.delivered_after(-5)

    assert before == metrics.known().registry.get_sample_value(
        "progress_stream_append_to_delivery_seconds_sum"
    )


def test_importing_it_does_not_load_the_library() -> None:
    """A worker that nobody scrapes does not pay for it."""
    check = "import sys, progress_stream.metrics as m; assert not m.wanted(); m.WorkerTally().appended += 1"
    env = {name: value for name, value in os.environ.items() if name != metrics.FOLDER}

    subprocess.run([sys.executable, "-c", check], check=True, env=env)


def test_the_document_lists_every_metric_and_no_other() -> None:
    """With its kind, its labels and its meaning."""
    rows = [
        f"| `{one.full_name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in metrics.ALL
    ]

    assert rows == [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{metrics.PREFIX}")]
