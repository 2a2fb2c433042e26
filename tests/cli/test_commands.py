"""What commands refuse before they do anything, and what they load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import progress_stream
from progress_stream.cli.display import describe
from progress_stream.cli.logs import hide_secrets
from progress_stream.cli.terminal import printable
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
