"""The package as it leaves a clone: the same bytes whenever and wherever it is built, with all that it needs, and typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import progress_stream

ROOT = Path(__file__).parents[2]
#: Builds, and mypy without a cache.
pytestmark = pytest.mark.slow


def command(*words: str | Path, folder: Path, umask: int = 0o022, **env: str) -> str:
    done = subprocess.run(
        list(map(str, words)), cwd=folder, umask=umask, env=os.environ | env, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def built(clone: Path, umask: int = 0o022) -> dict[str, Path]:
    """Wheel and sdist of a folder, by the ends of their names."""
    out = clone.with_name(f"{clone.name}-dist")
    command(sys.executable, "-m", "hatchling", "build", "-d", out, folder=clone, umask=umask)
    return {path.suffix: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed here, and nothing else."""
    place = tmp_path_factory.mktemp("package") / "clone"
    command("git", "clone", "--quiet", ROOT, place, folder=ROOT)
    return place


@pytest.fixture(scope="module")
def dist(clone: Path) -> dict[str, Path]:
    return built(clone)


def test_a_build_is_the_same_elsewhere_and_later(clone: Path, dist: dict[str, Path]) -> None:
    """Another folder, other times, other rights; and from the sdist comes the same wheel."""
    other = clone.with_name("elsewhere")
    shutil.copytree(clone, other)
    for path in other.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (1_000_000_000, 1_000_000_000))
    again = built(other, umask=0o077)
    with tarfile.open(dist[".gz"]) as sdist:
        sdist.extractall(clone.parent / "unpacked", filter="data")
    (unpacked,) = (clone.parent / "unpacked").iterdir()

    assert {".whl", ".gz"} == dist.keys()
    for kind, path in dist.items():
        assert path.read_bytes() == again[kind].read_bytes()
    assert dist[".whl"].read_bytes() == built(unpacked)[".whl"].read_bytes()


def test_the_wheel_has_all_that_the_program_reads(clone: Path, dist: dict[str, Path]) -> None:
    """Its code, its scripts, its page and the note that it is typed; and nothing of ours besides."""
    with zipfile.ZipFile(dist[".whl"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tracked = command("git", "ls-files", "src/progress_stream", "web", folder=clone).splitlines()
    wanted = {re.sub(r"^web/", "progress_stream/_web/", name.removeprefix("src/")) for name in tracked}
    for_others = {"package.json", "client/LICENSE", "client/README.md"}

    assert wanted - {f"progress_stream/_web/{name}" for name in for_others} == names
    assert {"progress_stream/py.typed", "progress_stream/_web/dashboard/index.html"} <= names


def test_its_metadata_name_version_and_extras(dist: dict[str, Path]) -> None:
    """As the documents name them."""
    with zipfile.ZipFile(dist[".whl"]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        metadata = Parser().parsestr(wheel.read(name).decode())

    assert ("progress-stream", progress_stream.__version__) == (metadata["Name"], metadata["Version"])
    assert {"dev", "otel", "rabbitmq", "s3", "test"} == set(metadata.get_all("Provides-Extra", []))
    assert "# progress_stream" in str(metadata.get_payload())


@pytest.fixture(scope="module")
def installed(dist: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel; what it depends on is taken from this one."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "lib" / version / "site-packages"
    with zipfile.ZipFile(dist[".whl"]) as wheel:
        wheel.extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "python"


def test_a_typed_application_passes_strictly(installed: Path, tmp_path: Path) -> None:
    """`py.typed` says that there are types; `consumer.py` uses every public name."""
    consumer = Path(__file__).with_name("consumer.py")
    shutil.copy(consumer, tmp_path)
    said = command(
        sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "consumer.py", folder=tmp_path,
        PYTHONPATH="", MYPYPATH="",
    )  # fmt: skip

    assert said.startswith("Success")
    assert set() == {name for name in progress_stream.__all__ if name not in consumer.read_text()}


def test_an_installed_page_is_served(installed: Path, tmp_path: Path) -> None:
    """From the wheel, and not from this clone."""
    program = """
import progress_stream, pathlib
from starlette.testclient import TestClient
app = progress_stream.create_app(progress_stream.load(redis_url="redis://127.0.0.1:1/0", jwt_secret="x" * 32))
client = TestClient(app)
print(pathlib.Path(progress_stream.__file__).parent.parent)
print(client.get("/").status_code, client.get("/assets/client/index.js").status_code)
"""
    where, answers = command(installed, "-I", "-c", program, folder=tmp_path, PYTHONPATH="").splitlines()

    assert installed.parent.parent == Path(where).parents[2]
    assert "200 200" == answers
