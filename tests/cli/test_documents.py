"""What the documents tell people to type does what they say."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, Dev, Running, environment, run, until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def as_typed(commands: str, port: str) -> str:
    """With this interpreter's command in place of the virtual environment's, and the port of a server of ours."""
    return commands.replace(".venv/bin/progress-stream", " ".join(COMMAND)).replace(":8000", f":{port}")


def test_the_readmes_commands_follow_a_job_to_its_end(tmp_path: Path) -> None:
    """Word by word: token, submit, `curl -N`, and the loop that resumes until 204."""
    _, second_terminal = blocks("sh")
    (loop,) = blocks("bash")
    with Running("dev", "--port", "0", cwd=tmp_path) as dev:
        url = dev.line("link: ").partition("/?token=")[0]
        commands = as_typed(second_terminal.replace("seconds=20", "seconds=2") + loop, url.rpartition(":")[2])
        env = environment(PROGRESS_STREAM_URL=url)
        until(lambda: "countdown" in run_curl(url, tmp_path))

        done = subprocess.run(
            ["bash", "-c", commands],
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
