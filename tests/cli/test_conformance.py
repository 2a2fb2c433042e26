"""`conformance` finds the real server faultless, and each fault of a faulty one under the rule that it breaks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.auth.verify import sign
from progress_stream.cli.conformance.command import arguments, examined
from progress_stream.cli.conformance.evidence import gather
from progress_stream.cli.conformance.rules import RULES
from progress_stream.cli.dev import start_worker
from progress_stream.client.probing import Server
from progress_stream.errors import InvalidInput, ProgressStreamError
from progress_stream.settings import Settings, load
from tests.cli import faulty
from tests.cli.processes import ACTORS, run, until
from tests.support.redis import RedisServer
from tests.support.server import SECRET, serving

#: Enough events for every rule, in little time.
SHORT = {"seconds": 1.0, "ticks": 8}
#: Longer than the heartbeat of these servers.
LONG = {"seconds": 5.0, "ticks": 10}

FAULTS = [
    (faulty.OneEventLess, "ids"),
    pytest.param(faulty.RepeatsAfterResume, "resume", marks=pytest.mark.slow),
    (faulty.UrlWins, "header-wins"),
    (faulty.OneSpelling, "position-in-url"),
    (faulty.DollarIsTheBeginning, "from-now-on"),
    (faulty.NoSnapshot, "snapshot"),
    (faulty.OtherBytesForEach, "same-for-all"),
    pytest.param(faulty.WrongPosition, "cuts", marks=pytest.mark.slow),
    (faulty.FixedRetry, "retry-drawn"),
    (faulty.SilentHole, "no-silent-hole"),
    (faulty.MalformedIsAnError, "no-silent-hole"),
    (faulty.MoreAfterTheEnd, "end"),
    (faulty.CutAtTheEnd, "end"),
    (faulty.OtherJob, "data"),
    (faulty.BlankLineAfterHeartbeat, "heartbeat"),
    (faulty.LateFirstBytes, "first-frame"),
    (faulty.MayBeTransformed, "headers"),
    (faulty.EmptyStreamAtTheEnd, "over"),
    (faulty.NoHead, "head"),
    (faulty.SendsToALoginPage, "refusals"),
    (faulty.SendsToALoginPage, "no-redirect"),
    (faulty.LinesWithoutIds, "ndjson"),
    (faulty.PollsForEver, "long-poll"),
    (faulty.PingsMoveOn, "ping"),
    (faulty.ShowsResults, "page"),
    (faulty.ShowsAnybody, "another-owner"),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a Redis with a worker at it, for as many servers as these tests make."""
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "actors.py").write_text(ACTORS)
    with RedisServer(folder / "redis") as server:
        settings = load(
            redis_url=server.url(0), broker_url=server.url(1), data=folder, jwt_secret=SecretStr(SECRET),
            ready_seconds=0, drain_seconds=0, heartbeat_seconds=1,
        )  # fmt: skip
        worker = start_worker(settings, "actors", [folder])
        try:
            yield settings
        finally:
            worker.stop()


def examine(settings: Settings, fault: type[faulty.Faulty], names: set[str]) -> dict[str, bool]:
    """Which of these rules such a server keeps."""
    with serving(fault(create_app(settings)), settings) as url:
        server = Server(url, sign(SECRET, "alice", "jobs:read jobs:write", 600))
        until(lambda: _submits(server))
        seen = gather(server, "count", SHORT, Random(1), LONG)
        seen.stranger = Server(url, sign(SECRET, "bob", "jobs:read", 600))
        rules = [rule for rule in RULES if rule.name in names]
        lines = list(examined(seen, rules, slow=True))
    print(*(line for _, line in lines), sep="\n")
    return {rule.name: kept for rule, (kept, _) in zip(rules, lines, strict=True)}


def _submits(server: Server) -> bool:
    try:
        return bool(server.submit("skip", {}, "is the worker there?"))
    except ProgressStreamError:
        return False


@pytest.mark.contract("conformance")
def test_the_real_server_keeps_every_rule(settings: Settings) -> None:
    """As a person runs it; a line a rule."""
    token = sign(SECRET, "alice", "jobs:read jobs:write", 600)
    with serving(create_app(settings), settings) as url:
        until(lambda: _submits(Server(url, token)))
        done = run(
            "conformance", url, "--actor", "count", "--arg", "seconds=3.0", "--slow",
            env={"PROGRESS_STREAM_TOKEN": token, "PROGRESS_STREAM_OTHER_TOKEN": sign(SECRET, "bob", "jobs:read", 600)},
        )  # fmt: skip

    *lines, last = done.stdout.splitlines()
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert [rule.name for rule in RULES] == [line.removeprefix("ok   ").partition(":")[0] for line in lines]
    assert last.startswith("every rule tried is kept")


@pytest.mark.slow
def test_what_passes_through_unchanged_keeps_every_rule(settings: Settings) -> None:
    """The faults below are found for their own sake, and not for the way in which they are made."""
    kept = examine(settings, faulty.Faulty, {rule.name for rule in RULES})

    assert dict.fromkeys((rule.name for rule in RULES), True) == kept


@pytest.mark.slow
@pytest.mark.contract("conformance")
@pytest.mark.parametrize(("fault", "rule"), FAULTS, ids=lambda part: getattr(part, "__name__", part))
def test_a_fault_is_found_by_its_rule(settings: Settings, fault: type[faulty.Faulty], rule: str) -> None:
    """Whatever else it breaks beside."""
    # `no-redirect` looks at what the others were answered.
    kept = examine(settings, fault, {rule, "refusals"})

    assert not kept[rule]


@pytest.mark.slow
def test_a_broken_rule_ends_the_command_with_one(settings: Settings) -> None:
    """For a script."""
    token = sign(SECRET, "alice", "jobs:read jobs:write", 600)
    with serving(faulty.NoHead(create_app(settings)), settings) as url:
        until(lambda: _submits(Server(url, token)))
        done = run(
            "conformance",
            url,
            "--actor",
            "count",
            "--arg",
            "seconds=1.0",
            env={"PROGRESS_STREAM_TOKEN": token},
        )

    assert 1 == done.returncode
    assert "FAIL head: answered 405" in done.stdout
    assert "-    heartbeat: not tried without --slow" in done.stdout
    assert "-    another-owner: not tried: no --other-token" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        (["nowhere"], "is not the address of a server"),
        (["http://127.0.0.1:1", "--arg", "x"], "allowed: name=value"),
    ],
)
def test_what_cannot_be_examined_is_said_in_one_line(arguments: list[str], said: str) -> None:
    """And no traceback."""
    done = run("conformance", *arguments)

    assert 0 != done.returncode
    assert said in done.stderr
    assert 1 == done.stderr.count("\n")


def test_arguments_are_json_or_text() -> None:
    """As the actor's own types are told by the caller."""
    assert {"n": 3, "name": "abc", "list": [1]} == arguments(["n=3", "name=abc", "list=[1]"])
    with pytest.raises(InvalidInput):
        arguments(["n=1", "n=2"])


def test_the_rules_do_not_know_the_server() -> None:
    """They would share its mistakes: neither its application nor its store is loaded by them."""
    program = (
        "import sys, progress_stream.cli.conformance.rules; "
        "ours = tuple('progress_stream.' + name for name in ('api', 'streaming', 'store')); "
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path("/")
    )

    assert "[]" == done.stdout.strip()
