"""`jobs` against a running `dev`: what a person, a pipe and a program see of their jobs."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Iterator

import httpx2
import pytest

from progress_stream.cli import jobs
from tests.cli.processes import COMMAND, Dev, dev_in, run


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """With five jobs that succeeded and one that failed, after what it took to be ready."""
    with dev_in(tmp_path_factory.mktemp("dev")) as running:
        for number in range(5):
            job = running.submit("shout", "--arg", f"text={number}", "--title", f"Number {number}")
            assert 0 == running.watch(job).returncode
        assert 1 == running.watch(running.submit("fail", "--arg", "reason=x")).returncode
        yield running


def rows(dev: Dev, *options: str) -> list[list[str]]:
    done = run("jobs", *options, env=dev.client)
    assert (0, "") == (done.returncode, done.stderr)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.contract("jobs")
def test_a_pipe_gets_a_line_a_job_newest_first(dev: Dev) -> None:
    """Id, state, how much is done, title and time, with a tab between."""
    found = rows(dev)

    assert ["failed", "", "fail"] == found[0][1:4]
    assert [f"Number {number}" for number in (4, 3, 2, 1, 0)] == [row[3] for row in found[1:6]]


@pytest.mark.contract("jobs")
def test_state_actor_and_limit_narrow_it(dev: Dev) -> None:
    """Each by itself."""
    assert ["fail"] == [row[3] for row in rows(dev, "--state", "failed")]
    assert 5 == len(rows(dev, "--actor", "shout"))
    assert ["Number 4", "Number 3"] == [row[3] for row in rows(dev, "--actor", "shout", "--limit", "2")]


def test_more_jobs_than_a_page_holds_are_all_listed(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    """None twice; with `--limit 0` to the last one."""
    monkeypatch.setattr("progress_stream.cli.jobs.MOST_OF_A_PAGE", 2)
    with httpx2.Client(headers={"Authorization": f"Bearer {dev.token}"}) as client:
        found = [row["title"] for row in jobs.rows(client, f"{dev.url}/jobs", {"actor": "shout"}, 0)]

    assert [f"Number {number}" for number in (4, 3, 2, 1, 0)] == found


def test_a_program_gets_json(dev: Dev) -> None:
    """The whole state of each, one a line."""
    done = run("jobs", "--json", "--limit", "1", env=dev.client)

    (state,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert ("failed", "fail", "RuntimeError") == (state["state"], state["actor"], state["error"]["type"])


@pytest.mark.contract("jobs")
def test_a_terminal_gets_a_table(dev: Dev) -> None:
    """With a line that names its columns."""
    shown = bytearray()

    def read(fd: int) -> bytes:
        data = os.read(fd, 65_536)
        shown.extend(data)
        return data

    os.environ |= dev.client | {"COLUMNS": "160"}
    try:
        code = pty.spawn([*COMMAND, "jobs", "--limit", "2"], read)
    finally:
        for name in [*dev.client, "COLUMNS"]:
            os.environ.pop(name, None)

    text = shown.decode()
    assert 0 == os.waitstatus_to_exitcode(code)
    assert "created" in text.splitlines()[0]
    assert "Number 4" in text


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--state", "asleep"], 2, "state: is no state of a job"),
        (["--owner", "bob"], 4, "the server answered 403"),
        (["--token", "wrong"], 4, "the server answered 401"),
        (["--url", "http://127.0.0.1:1"], 1, "no answer from http://127.0.0.1:1"),
    ],
)
def test_a_refusal_is_one_line(dev: Dev, options: list[str], code: int, said: str) -> None:
    """With the server's own words."""
    done = run("jobs", *options, env=dev.client)

    assert (code, "") == (done.returncode, done.stdout)
    assert said in done.stderr
    assert 1 == done.stderr.count("\n")
