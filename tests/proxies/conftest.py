"""One server with a worker for all proxies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import Running, run, until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("long") is None:
            item.add_marker(pytest.mark.slow)


class Served:
    """A running `dev` with the project's own actors: `countdown` among them."""

    def __init__(self, dev: Running) -> None:
        self.url = dev.line("link: ").partition("/?token=")[0]
        self.token = dev.line("token: ")

    def doctor(self, url: str, *options: str) -> tuple[int, str]:
        """The exit code and what it said."""
        done = run("doctor", url, *options, timeout=100, env={"PROGRESS_STREAM_TOKEN": self.token})
        print(done.stdout, done.stderr)
        return done.returncode, done.stdout


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Running("dev", "--port", "0", cwd=tmp_path_factory.mktemp("served")) as dev:
        served = Served(dev)
        ask = {"PROGRESS_STREAM_URL": served.url, "PROGRESS_STREAM_TOKEN": served.token}
        until(
            lambda: not run("submit", "countdown", "--arg", "seconds=0", env=ask).returncode, what=dev.errors
        )
        yield served
