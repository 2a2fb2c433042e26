"""What commands refuse before they do anything, and what they load."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import progress_stream
from progress_stream import jobs
from progress_stream.cli.display import Bar, Lines, describe
from progress_stream.cli.logs import hide_secrets
from progress_stream.cli.terminal import printable
from progress_stream.client.rules import WatchEvent
from tests.cli.processes import run

SECRET = "correct-horse-battery-staple-0123456789"
REDIS = {"PROGRESS_STREAM_REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.contract("version")
def test_version_is_the_packages_own() -> None:
    """The one in the package."""
    assert progress_stream.__version__ == run("version").stdout.strip()


@pytest.mark.contract("serve")
@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, "PROGRESS_STREAM_REDIS_URL"),
        (REDIS, "PROGRESS_STREAM_JWT_SECRET"),
        (REDIS | {"PROGRESS_STREAM_JWT_SECRET": "too-short-hunter2"}, "PROGRESS_STREAM_JWT_SECRET"),
        (
            REDIS | {"PROGRESS_STREAM_JWT_SECRET": SECRET, "PROGRESS_STREAM_BODY_BYTES": "many"},
            "PROGRESS_STREAM_BODY_BYTES",
        ),
        ({"PROGRESS_STREAM_REDIS_URL": "http://127.0.0.1"}, "PROGRESS_STREAM_REDIS_URL"),
    ],
)
def test_serve_refuses_what_it_cannot_run_with(env: dict[str, str], name: str) -> None:
    """One line that names the setting and what is allowed, never a secret's value."""
    done = run("serve", "--port", "0", env=env)

    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.splitlines()), done.stderr
    assert name in done.stderr
    assert "allowed: " in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.contract("serve")
@pytest.mark.parametrize("options", [(), ("--processes", "2")])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "--env-file: "),
        (b"\xff", "is not UTF-8"),
        (b"PROGRESS_STREAM_BODY_BYTES=many", "PROGRESS_STREAM_BODY_BYTES: "),
        (b"PROGRESS_STREAM_REDIS_URL=", "PROGRESS_STREAM_JWT_SECRET: is not set"),
    ],
)
def test_serve_refuses_a_file_that_it_cannot_use(
    tmp_path: Path, options: tuple[str, ...], text: bytes | None, fault: str
) -> None:
    """As it refuses the environment, which wins over the file."""
    file = tmp_path / "settings.env"
    if text is not None:
        file.write_bytes(text)
    done = run("serve", "--port", "0", "--env-file", str(file), *options, env=REDIS)

    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.splitlines()), done.stderr
    assert fault in done.stderr
    assert "allowed: " in done.stderr


@pytest.mark.contract("token")
@pytest.mark.parametrize(
    "options", [("--sub", "a", "--scope", "jobs:everything"), ("--sub", "a", "--seconds", "0")]
)
def test_token_refuses_what_no_server_would_take(options: tuple[str, ...]) -> None:
    """A scope that does not exist, a life that is over."""
    done = run("token", *options, env={"PROGRESS_STREAM_JWT_SECRET": SECRET})

    assert (2, "") == (done.returncode, done.stdout)


@pytest.mark.contract("token")
def test_token_needs_a_secret(tmp_path: Path) -> None:
    """The configured one, or that of `dev` in the data folder; it makes none."""
    done = run("token", "--sub", "a", "--data", str(tmp_path))

    assert (2, "") == (done.returncode, done.stdout)
    assert "PROGRESS_STREAM_JWT_SECRET" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_client_commands_load_no_server() -> None:
    """They start in a moment, and run where no server could."""
    heavy = "{'starlette', 'sse_starlette', 'uvicorn', 'dramatiq', 'redis', 'authlib', 'joserfc', 'pydantic'}"
    program = f"""
import sys
from progress_stream.cli.main import app
from progress_stream.cli import display
import progress_stream.client.watch
print(sorted({heavy} & set(sys.modules)))
"""

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本 🎉", "plain é 日本 🎉"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_only_what_shows_is_shown(text: str, shown: str) -> None:
    """Everything that a terminal would obey, or that reorders text, is written as its code."""
    assert shown == printable(text)


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("GET /?token=abc.def&x=1", "abc.def"),
        ("Authorization: Bearer abcdef", "abcdef"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln from", "eyJzdWIiOiJhIn0"),
        ("ticket pst_abc-DEF_1", "pst_abc-DEF_1"),
        ("redis://user:hunter2@host:6379/0", "hunter2"),
    ],
)
def test_a_log_line_holds_no_secret(line: str, secret: str) -> None:
    """Whoever wrote it."""
    assert secret not in hide_secrets(line)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("progress", {"done": 5, "total": 10, "unit": "rows", "rate": 2.5, "eta": 2.0, "message": "m"},
         "5/10 rows  50%  2.5/s  2 s left  m"),
        ("progress", {"done": 0, "total": 0}, "0/0"),
        ("progress", {"message": "reading"}, "reading"),
        ("log", {"level": "warning", "message": "row 3"}, "warning  row 3"),
        ("step", {"name": "read", "state": "finished", "seconds": 1.25}, "read  finished  1.2 s"),
        ("stalled", {"silent_seconds": 15}, "no sign from its worker for 15 s"),
        ("preview", {"data": {"a": 1}}, '{"a": 1}'),
        ("succeeded", {"result": None}, ""),
    ],
)  # fmt: skip
def test_an_event_in_words(kind: str, data: dict[str, object], words: str) -> None:
    """What a plain line says after the time and the type."""
    assert words == describe(kind, data)


PARTS = {"total": 3, "queued": 0, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0}
ERROR = {"type": "ValueError", "message": "no such column"}


def _spread_events() -> list[WatchEvent]:
    """A part begins, another one fails, the first ends."""
    state = dict.fromkeys(jobs.FIELDS) | {
        "state": "running", "steps": [], "done": 5, "total": 30, "unit": "rows", "parts": PARTS, "actor": "whole", "title": "Whole",
    }  # fmt: skip
    told: list[dict[str, Any]] = [
        {"part": 1, "state": "running"}, {"part": 2, "state": "failed", "error": ERROR}, {"part": 1, "state": "succeeded"},
    ]  # fmt: skip
    data = [
        {"at": "2026-01-01T10:00:00.000Z", "done": 5, "total": 30, "unit": "rows", "parts": PARTS, **one}
        for one in told
    ]
    return [WatchEvent(f"7-{n}", "part", one, state) for n, one in enumerate(data, 1)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            False,
            [
                "progress  5/30 rows  17%",
                "part  2 failed  ValueError: no such column",
                "progress  5/30 rows  17%",
            ],
        ),
        (True, ["part  1 running", "part  2 failed  ValueError: no such column", "part  1 succeeded"]),
    ],
)
def test_a_line_tells_of_parts_as_far_as_it_is_wanted(parts: bool, expected: list[str]) -> None:
    """One that fails is said in any case; what the others move is the bar."""
    out = io.StringIO()
    clock = itertools.count(0, 2)
    shown = Lines(out, lambda: float(next(clock)), parts=parts)
    for event in _spread_events():
        shown.show(event)

    assert expected == [line.partition("  ")[2] for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("parts", [False, True])
def test_a_bar_has_a_line_for_each_part_that_runs_where_that_is_wanted(parts: bool) -> None:
    """And counts them beside it; a part that ended leaves its line."""
    out = io.StringIO()
    with Bar(Console(file=out, force_terminal=True, width=120), parts=parts) as shown:
        first, *rest = _spread_events()
        shown.show(first)
        running = [task.fields["title"] for task in shown._progress.tasks]
        for event in rest:
            shown.show(event)
        left = [task.fields["title"] for task in shown._progress.tasks]

    assert ["Whole", *(["  part 1"] if parts else [])] == running
    assert ["Whole"] == left
    assert "2/3 parts, 1 failed" in out.getvalue()
    assert "ValueError: no such column" in out.getvalue()
