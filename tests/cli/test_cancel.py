"""`cancel` against a running `dev`, as a person uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.processes import Dev, dev_in, run


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev_in(tmp_path_factory.mktemp("dev")) as running:
        yield running


@pytest.mark.contract("cancel")
def test_a_running_job_is_cancelled_and_its_watcher_told(dev: Dev) -> None:
    """What becomes of it goes to standard output; `watch` ends with 3; the second time there is nothing to cancel."""
    job = dev.submit("count", "--arg", "seconds=60", "--arg", "ticks=600")

    done = run("cancel", job, env=dev.client)
    watched = dev.watch(job)
    again = run("cancel", job, env=dev.client)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout in {"cancelling\n", "cancelled\n"}
    assert 3 == watched.returncode
    assert (1, "") == (again.returncode, again.stdout)
    assert "409" in again.stderr


@pytest.mark.contract("cancel")
def test_a_job_that_is_not_there_is_4(dev: Dev) -> None:
    """As `watch` says it; and no server at all is 1."""
    assert 4 == run("cancel", "never", env=dev.client).returncode
    assert 1 == run("cancel", "never", "--url", "http://127.0.0.1:1").returncode
