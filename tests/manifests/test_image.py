"""The image and the compose file: what they name is there, and the image's steps work, as far as can be shown without an engine.

Not shown: that the base images hold what their names say, that layers go together, and what a container's kernel forbids.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from progress_stream.server.run import GRACE_SECONDS
from progress_stream.settings import PREFIX, Settings
from tests.support.redis import RedisServer

from .building import ROOT, pod_specs
from .conftest import overlay
from .test_settings import SET

DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
DIGEST: Final = r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_base_images_are_pinned_by_digest() -> None:
    """A tag is moved; and both stages are one, or the interpreter of the first would be missing in the second."""
    bases = [re.sub(r" AS \w+$", "", rest) for word, rest in instructions() if word == "FROM"]

    assert 2 == len(bases) and 1 == len(set(bases))
    assert re.fullmatch(DIGEST, bases[0])


def test_the_image_runs_as_the_user_that_pods_run_as() -> None:
    """And begins the same program, on the same port."""
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    (command,) = [rest for word, rest in instructions() if word == "CMD"]
    web = pod_specs(overlay("prod"))["progress-stream-web"]

    assert f"{web['securityContext']['runAsUser']}:{web['securityContext']['runAsGroup']}" == user
    assert yaml.safe_load(command) == web["containers"][0]["args"]


def test_compose_names_only_settings_that_there_are() -> None:
    """And no secret has a value of its own there."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for service in COMPOSE["services"].values():
        assert service.get("environment", {}).keys() <= known
    assert COMPOSE["services"]["web"]["environment"][PREFIX + "JWT_SECRET"].startswith("${")
    assert PREFIX + "JWT_SECRET" not in COMPOSE["services"]["worker"]["environment"]


def test_compose_waits_for_the_drain() -> None:
    """Docker's own patience is ten seconds."""
    drain = int(SET["READY_SECONDS"]) + int(SET["DRAIN_SECONDS"]) + GRACE_SECONDS
    command = COMPOSE["services"]["worker"]["command"]
    shutdown_ms = int(command[command.index("--worker-shutdown-timeout") + 1])

    assert drain < int(COMPOSE["services"]["web"]["stop_grace_period"].removesuffix("s"))
    assert shutdown_ms / 60_000 < int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("m"))


def test_compose_is_as_closed_as_the_pods_are() -> None:
    """The same Redis too, with the same words."""
    for service in COMPOSE["services"].values():
        assert service["read_only"] and ["ALL"] == service["cap_drop"]
    (redis,) = pod_specs(overlay("dev"))["progress-stream-redis"]["containers"]
    assert (redis["image"], redis["args"]) == (
        COMPOSE["services"]["redis"]["image"], COMPOSE["services"]["redis"]["command"],
    )  # fmt: skip
    assert re.fullmatch(DIGEST, redis["image"])


# -- the steps


@dataclass
class Steps:
    """The Dockerfile, carried out under `root` with this machine's Python in the place of the base image's."""

    root: Path
    stage: int = 0
    workdir: str = "/"
    env: dict[str, str] = field(
        default_factory=lambda: {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    )

    def place(self, path: str) -> Path:
        return self.root / str(self.stage) / os.path.join(self.workdir, path).lstrip("/")

    def take(self, word: str, rest: str) -> None:
        match word:
            case "FROM":
                self.stage, self.workdir = self.stage + 1, "/"
            case "WORKDIR":
                self.workdir = rest
                self.place("").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(rest.split())
            case "RUN":
                self._run(rest)
            case "ENV" | "USER" | "EXPOSE" | "CMD":
                pass
            case _:
                raise AssertionError(f"this test knows no {word}")

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            # Its address is part of it: it is used where it was made.
            assert ["/opt/progress-stream", "/opt/progress-stream"] == words[1:]
            return
        *sources, target = words
        for source in sources:
            place = self.place(target) / source if target.endswith("/") else self.place(target)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
                )
            else:
                shutil.copy(ROOT / source, place)

    def _run(self, command: str) -> None:
        words = [str(self.venv) + word.removeprefix("/opt/progress-stream") if word.startswith("/opt/progress-stream") else word
                 for word in shlex.split(command)]  # fmt: skip
        if words[:3] == ["python3", "-m", "venv"]:
            words[0] = sys.executable
        subprocess.run(
            words,
            cwd=self.place(""),
            env={**os.environ, **self.env},
            check=True,
            capture_output=True,
            timeout=300,
        )

    @property
    def venv(self) -> Path:
        return self.root / "opt"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_image_s_steps_make_a_server_that_starts(tmp_path: Path) -> None:
    """In an empty virtual environment; then the image's command, with a working folder that holds the workers and nothing else."""
    steps = Steps(tmp_path)
    for word, rest in instructions():
        steps.take(word, rest)
    app, programs = steps.place(""), steps.venv / "bin"
    env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}

    assert ["workers"] == [path.name for path in app.iterdir()]
    listed = subprocess.run(
        [programs / "python", "-c", "import pip"], env=env, capture_output=True, check=False
    )
    assert 0 != listed.returncode
    with RedisServer(tmp_path / "redis", persistent=False) as redis:
        env |= {
            PREFIX + "REDIS_URL": redis.url(0), PREFIX + "BROKER_URL": redis.url(1), PREFIX + "JWT_SECRET": "s" * 32,
            PREFIX + "DATA": str(tmp_path / "data"), PREFIX + "READY_SECONDS": "0", PREFIX + "DRAIN_SECONDS": "0",
        }  # fmt: skip
        _begins([programs / "progress-stream", "serve", "--port", "0"], app, env, "listening on")
        _begins([programs / "dramatiq", "workers", "--processes", "1"], app, env, "ready for action")


def _begins(command: list[Any], folder: Path, env: dict[str, str], word: str) -> None:
    """It says the word on standard error, and ends well at SIGTERM."""
    with subprocess.Popen(
        [str(part) for part in command], cwd=folder, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if word in line:
                break
        process.terminate()
        process.communicate(timeout=30)

    assert word in said[-1], "".join(said)
    assert 0 == process.returncode
