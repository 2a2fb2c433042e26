"""`submit` and `watch` against a running `dev`, as a person or a script uses them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, Dev, Running, dev_in, environment, in_a_terminal, run, until

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ered\nsecond line"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev_in(tmp_path_factory.mktemp("dev")) as running:
        yield running


@pytest.mark.contract("submit")
def test_submit_prints_the_id_alone_and_watch_ends_well(dev: Dev) -> None:
    """So that a script can take it; the whole story is told in plain lines, and the exit code is 0."""
    job = dev.submit("shout", "--arg", "text=hello", "--title", "A title")

    done = dev.watch(job)

    assert (0, "") == (done.returncode, done.stderr)
    assert ["queued", "started", "step", "log", "step", "succeeded"] == [
        line.split()[1] for line in done.stdout.splitlines()
    ]


@pytest.mark.contract("watch")
@pytest.mark.parametrize(
    ("arguments", "code", "last_word"),
    [
        (["fail", "--arg", "reason=boom"], 1, "RuntimeError: boom"),
        (["skip"], 3, "not today"),
        (["shout", "--arg", "text=x"], 0, '"x"'),
    ],
)
def test_the_exit_code_says_how_the_job_ended(
    dev: Dev, arguments: list[str], code: int, last_word: str
) -> None:
    """Also when it had ended before anybody watched."""
    job = dev.submit(*arguments)

    for _ in range(2):
        done = dev.watch(job)
        assert code == done.returncode
        assert done.stdout.rstrip().endswith(last_word)


@pytest.mark.contract("watch")
def test_json_is_one_event_a_line_with_its_id(dev: Dev) -> None:
    """Dense ids, the data's fields, and nothing else."""
    done = dev.watch("--json", dev.submit("count", "--arg", "seconds=0.5", "--arg", "ticks=20"))

    events = [json.loads(line) for line in done.stdout.splitlines()]

    assert 0 == done.returncode
    assert list(range(1, len(events) + 1)) == [int(event["id"].partition("-")[2]) for event in events]
    assert ["queued", "started", "progress"] == [event["type"] for event in events[:3]]
    assert {"type": "succeeded", "result": 20}.items() <= events[-1].items()


@pytest.mark.contract("submit")
def test_a_file_and_numbers_reach_the_actor(dev: Dev, tmp_path: Path) -> None:
    """The argument becomes what the actor's signature asks for."""
    file = tmp_path / "ünï.bin"
    file.write_bytes(bytes(1_000))

    done = dev.watch("--json", dev.submit("measure", "--file", str(file), "--arg", "times=3"))

    assert 3_000 == json.loads(done.stdout.splitlines()[-1])["result"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_text_of_strangers_cannot_command_a_terminal(dev: Dev, options: tuple[str, ...]) -> None:
    """Escapes, control characters and direction marks are shown, not done; a line stays one line."""
    job = dev.submit("shout", "--arg", f"text={HOSTILE}")

    out = dev.watch(*options, job).stdout

    assert not any(character in out for character in "\x1b\x07\x9b\u202e\r")
    assert all(line.startswith("{" if options else ("0", "1", "2")) for line in out.splitlines())
    assert "owned" in out


def test_json_keeps_the_text_as_it_was(dev: Dev) -> None:
    """What is escaped for a terminal is still the same JSON."""
    job = dev.submit("shout", "--arg", f"text={HOSTILE}")

    last = json.loads(dev.watch("--json", job).stdout.splitlines()[-1])

    assert HOSTILE.replace("\n", "\r\n") == last["result"] or HOSTILE == last["result"]


@pytest.mark.contract("watch")
def test_a_terminal_gets_a_bar_that_moves(dev: Dev) -> None:
    """With numbers beside it, redrawn in place."""
    job = dev.submit("count", "--arg", "seconds=1.5", "--title", "Counting")

    code, shown = in_a_terminal("watch", job, env=dev.client)

    assert 0 == code
    assert "Counting" in shown
    assert "━" in shown
    assert "/10 ticks" in shown
    assert "succeeded 10" in shown


def test_a_terminal_is_not_commanded_by_a_log_line(dev: Dev) -> None:
    """Not in the lines above the bar, nor in its title or its end."""
    job = dev.submit("count", "--arg", "seconds=0.2", "--title", "safe")
    other = dev.submit("shout", "--arg", f"text={HOSTILE}")

    _, quiet = in_a_terminal("watch", job, env=dev.client)
    code, shown = in_a_terminal("watch", other, env=dev.client)

    assert 0 == code
    assert "safe" in quiet
    assert not any(part in shown for part in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e"))


@pytest.mark.parametrize(
    ("job", "env", "code"),
    [
        ("unknown", {}, 4),
        ("unknown", {"PROGRESS_STREAM_TOKEN": "forged"}, 4),
        ("unknown", {"PROGRESS_STREAM_TOKEN": ""}, 4),
        ("no job id", {}, 2),
        ("unknown", {"PROGRESS_STREAM_URL": "nowhere"}, 2),
        ("--what", {}, 2),
    ],
)
def test_what_cannot_be_watched_is_said_in_one_line(
    dev: Dev, job: str, env: dict[str, str], code: int
) -> None:
    """And told apart by the exit code."""
    done = run("watch", job, env=dev.client | env)

    assert code == done.returncode
    assert "Traceback" not in done.stderr
    assert "" != done.stderr
    assert "" == done.stdout


def test_another_owners_job_is_no_job(dev: Dev) -> None:
    """As one that does not exist."""
    job = dev.submit("skip")
    stranger = run("token", "--sub", "mallory", "--data", str(dev.data)).stdout.strip()

    done = run("watch", job, env=dev.client | {"PROGRESS_STREAM_TOKEN": stranger})

    assert 4 == done.returncode
    assert "no such job" in done.stderr


def test_ctrl_c_ends_watch_and_not_the_job(dev: Dev, tmp_path: Path) -> None:
    """Exit code 130; leaving cancels nothing."""
    job = dev.submit("count", "--arg", "seconds=2")
    with Running("watch", job, cwd=tmp_path, env=dev.client) as watching:
        until(lambda: "started" in watching.out.read_text())
        watching.signal(signal.SIGINT)
        code = watching.ends()

    assert 130 == code
    assert "Traceback" not in watching.errors()
    assert 0 == dev.watch(job).returncode


def test_a_closed_pipe_is_no_error(dev: Dev) -> None:
    """`watch … | head -n 1`."""
    job = dev.submit("count", "--arg", "seconds=1")

    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" watch {job} | head -n 1', "bash", *COMMAND],
        env=environment(**dev.client), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (141, "") == (done.returncode, done.stderr)
    assert 1 == len(done.stdout.splitlines())


@pytest.mark.contract("submit")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nobody"], 2, ["nobody", "count", "shout"]),
        (["count", "--arg", "seconds=soon"], 2, ["seconds"]),
        (["count"], 2, ["seconds"]),
        (["count", "--arg", "seconds"], 2, ["--arg", "name=value"]),
        (["count", "--arg", "seconds=1", "--arg", "seconds=2"], 2, ["seconds"]),
        (["measure", "--arg", "file=text", "--arg", "times=1"], 2, ["file"]),
        (["measure", "--file", "/no/such/file"], 2, ["/no/such/file"]),
    ],
)
def test_what_cannot_be_submitted_is_said(
    dev: Dev, arguments: list[str], code: int, words: list[str]
) -> None:
    """Naming the fault and what is allowed; nothing on standard output, where a script looks for an id."""
    done = run("submit", *arguments, env=dev.client)

    assert (code, "") == (done.returncode, done.stdout)
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_submit_without_a_server_or_a_right_is_said(dev: Dev) -> None:
    """1: nobody there; 4: not allowed."""
    reader = run("token", "--sub", "dev", "--scope", "jobs:read", "--data", str(dev.data)).stdout.strip()

    away = run("submit", "skip", env=dev.client | {"PROGRESS_STREAM_URL": f"http://127.0.0.1:{free_port()}"})
    barred = run("submit", "skip", env=dev.client | {"PROGRESS_STREAM_TOKEN": reader})

    assert (1, 1) == (away.returncode, len(away.stderr.splitlines()))
    assert (4, 1) == (barred.returncode, len(barred.stderr.splitlines()))
    assert "jobs:write" in barred.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(dev: Dev, port: int, folder: Path) -> Running:
    """A second web server on the same Redis, which a test may kill."""
    env = {
        "PROGRESS_STREAM_REDIS_URL": f"unix://{dev.data}/redis/redis.sock?db=0",
        "PROGRESS_STREAM_JWT_SECRET": (dev.data / "secret").read_text().strip(),
        "PROGRESS_STREAM_DATA": str(dev.data),
    }
    return Running("serve", "--port", str(port), cwd=folder, env=env)


@pytest.mark.contract("watch")
def test_watch_goes_on_over_a_web_process_that_was_killed(dev: Dev, tmp_path: Path) -> None:
    """Killed with -9 twice in the middle of a job: every event once, in order, and the right end."""
    port = free_port()
    job = dev.submit("count", "--arg", "seconds=6", "--arg", "ticks=60")
    client = dev.client | {"PROGRESS_STREAM_URL": f"http://127.0.0.1:{port}"}

    with Running("watch", "--json", job, cwd=tmp_path, env=client) as watching:
        for _ in range(2):
            before = len(watching.lines())
            with serve(dev, port, tmp_path) as web:
                until(lambda before=before: len(watching.lines()) > before + 3, what=watching.errors)  # type: ignore[misc]
                web.signal(signal.SIGKILL)
                web.ends()
        with serve(dev, port, tmp_path):
            code = watching.ends()

    numbers = [int(json.loads(line)["id"].partition("-")[2]) for line in watching.lines()]
    assert 0 == code
    assert list(range(1, len(numbers) + 1)) == numbers
    assert "trying again" in watching.errors()
