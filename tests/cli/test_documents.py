"""What the documents tell people to type does what they say."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.settings import load
from tests.cli.processes import COMMAND, Dev, Running, environment, run, until
from tests.conftest import BROKER_DB, STORE_DB
from tests.foreign.strings import HOSTILE
from tests.support.proxy import Proxy
from tests.support.readme import blocks, shell_loop
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site, serving

ROOT = Path(__file__).parents[2]


def as_typed(commands: str, port: str) -> str:
    """With this interpreter's command in place of the virtual environment's, and the port of a server of ours."""
    return commands.replace(".venv/bin/progress-stream", " ".join(COMMAND)).replace(":8000", f":{port}")


def test_the_readmes_commands_follow_a_job_to_its_end(tmp_path: Path) -> None:
    """Word by word: token, submit, `curl -N`, and the loop that resumes until 204."""
    _, second_terminal, loop = blocks("sh")
    with Running("dev", "--port", "0", cwd=tmp_path) as dev:
        url = dev.line("link: ").partition("/?token=")[0]
        commands = as_typed(second_terminal.replace("seconds=20", "seconds=2") + loop, url.rpartition(":")[2])
        env = environment(PROGRESS_STREAM_URL=url)
        until(lambda: "countdown" in run_curl(url, tmp_path))

        done = subprocess.run(
            ["sh", "-c", commands],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert 0 == done.returncode, done.stderr
    types = re.findall(r"^event: (\w+)$", done.stdout, re.MULTILINE)
    assert 2 == types.count("succeeded")  # once by `curl -N`, once by the loop
    assert "http 204" == done.stdout.splitlines()[-1]


@pytest.fixture
def site(redis_server: RedisServer, namespace: str, tmp_path: Path) -> Iterator[Site]:
    settings = load(
        redis_url=redis_server.url(STORE_DB), broker_url=redis_server.url(BROKER_DB), namespace=namespace,
        data=tmp_path, jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
    )  # fmt: skip
    with redis_server.client(STORE_DB) as client, serving(create_app(settings), settings) as url:
        yield Site(url, settings, client)


@contextmanager
def looping(url: str, token: str, job: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The README's loop, with a shorter rest; ended with the block."""
    shell = subprocess.Popen(
        ["sh", "-c", shell_loop(url)], cwd=folder, env=environment(TOKEN=token, JOB=job), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield shell
    finally:
        shell.kill()
        shell.wait()


def test_the_readmes_loop_loses_and_repeats_nothing_over_cuts(site: Site, tmp_path: Path) -> None:
    """Cut anywhere, in the middle of events and of ids; half of the job comes while it follows. It ends with the job."""
    job = site.job()
    job.start()
    job.append(count=100)
    with ExitStack() as open_now:
        proxy = open_now.enter_context(Proxy(site.url))
        proxy.cut_after = (1, 6_000)
        shell = open_now.enter_context(looping(proxy.url, site.token(), job.job, tmp_path))
        until(lambda: (tmp_path / "last").exists() and (tmp_path / "last").read_text() not in ("0-0\n", ""))
        for text in HOSTILE.values():
            job.append("log", message=text)
        job.append(count=50)
        job.succeed()
        out, errors = shell.communicate(timeout=60)

    entries = site.redis.xrange(site.store.commands.keys.events(job.job))
    stored = [b"event: %b\ndata: %b\nid: %b" % (*fields.values(), id) for id, fields in entries]
    *printed, last = out.split("\n\n")
    assert stored == [frame.encode() for frame in printed if "event: position" not in frame]
    assert "http 204\n" == last
    assert (0, "") == (shell.returncode, errors)
    assert len(proxy.streams()) > 5


@pytest.mark.parametrize(("token", "job", "code"), [("wrong", "job-1", 401), (None, "job-2", 404)])
def test_the_readmes_loop_ends_where_it_may_not_see(
    site: Site, tmp_path: Path, token: str | None, job: str, code: int
) -> None:
    """And says which answer ended it."""
    site.job()

    with looping(site.url, token or site.token(), job, tmp_path) as shell:
        out, _ = shell.communicate(timeout=20)

    assert f"http {code}\n" == out


def run_curl(url: str, folder: Path) -> str:
    token = run("token", "--sub", "dev", "--data", str(folder / "data")).stdout.strip()
    command = ["curl", "-s", "-H", f"Authorization: Bearer {token}", f"{url}/actors"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout


def test_the_readmes_actor_runs(tmp_path: Path) -> None:
    """Saved as `tasks.py`, as it stands."""
    (tasks,) = blocks("python")
    (tmp_path / "tasks.py").write_text(tasks)
    with Dev(tmp_path, "--worker", "tasks") as dev:
        until(lambda: "422" not in run("submit", "tidy", "--arg", 'names=["x"]', env=dev.client).stderr)
        done = dev.watch("--json", dev.submit("tidy", "--arg", 'names=["a", "b"]'))

    last = json.loads(done.stdout.splitlines()[-1])
    assert ("succeeded", 2) == (last["type"], last["result"])


@pytest.mark.parametrize(
    "document",
    sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]),
)
def test_links_lead_somewhere(document: str) -> None:
    """Every file that a document points to is there."""
    text = (ROOT / document).read_text()

    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]

    assert [] == [link for link in links if link and not (ROOT / document).parent.joinpath(link).exists()]


def test_every_dependency_has_its_reason() -> None:
    """One row a library, and no row for what is gone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    building = {"hatchling", "editables", "async-timeout"}
    rows = re.findall(r"^\| ([\w-]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)

    names = {re.split(r"[^\w-]", name, maxsplit=1)[0] for name in wanted}
    assert names | building == set(rows) - {"library"}
    assert len(rows) - rows.count("library") == len(set(rows)) - 1
