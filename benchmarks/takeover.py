"""How long does a job stand still when its worker is killed with -9, and when do watchers hear of it?

A whole `progress-stream dev` each (embedded Redis, worker, web server); a countdown is followed over HTTP, its worker process
is killed, and the time until `stalled`, until attempt 2 and until the end is taken at the watcher.

What would fool the reader: Dramatiq gives a dead worker's messages back by chance, at the polls of the workers that live; one
worker process polls least. More processes take over sooner. Nothing here depends on the machine's speed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from progress_stream.frames.sse import Frame, Parser

LIMIT_SECONDS = 180.0


@dataclass
class Try:
    stalled: float
    again: float


def one(number: int) -> Try:
    """One kill, from the first event to attempt 2."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "progress_stream.cli.main", "dev", "--port", "0", "--data", folder]
        dev = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            return _kill_and_watch(dev)
        finally:
            dev.send_signal(signal.SIGINT)
            try:
                dev.wait(20)
            except subprocess.TimeoutExpired:
                dev.kill()


def _kill_and_watch(dev: subprocess.Popen[str]) -> Try:
    said: dict[str, str] = {}
    for line in dev.stdout or ():
        name, _, value = line.strip().partition(": ")
        said[name] = value
        if {"link", "token"} <= set(said):
            break
    base = said["link"].partition("/?")[0]
    with httpx.Client(
        base_url=base, headers={"Authorization": f"Bearer {said['token']}"}, timeout=60
    ) as client:
        job = _submit(client)
        return _times(client, job, dev.pid)


def _submit(client: httpx.Client) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = client.post("/jobs", json={"actor": "countdown", "args": {"seconds": 5}})
        if answer.status_code == 201:
            return str(answer.json()["id"])
        time.sleep(0.2)
    raise TimeoutError("no worker announced its actors")


def _times(client: httpx.Client, job: str, dev: int) -> Try:
    killed = stalled = 0.0
    for frame in _frames(client, job):
        body = json.loads(frame.data)
        if frame.event == "progress" and not killed:
            killed = time.monotonic()
            for pid in worker_processes(dev):
                os.kill(pid, signal.SIGKILL)
        elif frame.event == "stalled":
            stalled = time.monotonic() - killed
        elif frame.event == "started" and body["attempt"] == 2:
            return Try(stalled, time.monotonic() - killed)
    raise RuntimeError("the stream ended before attempt 2")


def _frames(client: httpx.Client, job: str) -> Iterator[Frame]:
    parser = Parser()
    with client.stream("GET", f"/jobs/{job}/events", timeout=LIMIT_SECONDS) as response:
        for chunk in response.iter_bytes():
            yield from parser.feed(chunk)


def worker_processes(ancestor: int) -> list[int]:
    """Every process of the tree that runs Dramatiq: the master and what it forked."""
    found, todo = [], [ancestor]
    while todo:
        pid = todo.pop()
        children = Path(f"/proc/{pid}/task").glob("*/children")
        todo += [int(child) for file in children for child in file.read_text().split()]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"progress_stream.cli.worker" in words[:4] and b"-I" not in words[:4]:
            found.append(pid)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=5)
    options = parser.parse_args()
    with ThreadPoolExecutor(options.at_once) as pool:
        tries = list(pool.map(one, range(options.tries)))
    for name in ("stalled", "again"):
        values = sorted(getattr(each, name) for each in tries)
        print(f"{name}: {' '.join(f'{value:.1f}' for value in values)}")
        print(
            f"figure takeover_{name} median {statistics.median(values):.1f} s max {values[-1]:.1f} s "
            f"of {len(values)}"
        )


if __name__ == "__main__":
    main()
