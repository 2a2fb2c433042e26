"""`serve --processes` as in production: numbers of all processes, one killed, and a reload under load that nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from progress_stream.settings import Settings, load
from progress_stream.store.connect import sync_client
from tests.chaos.check import faults_of
from tests.chaos.faults import WebProcess, free_port
from tests.chaos.history import History
from tests.chaos.traffic import OWN_TYPE, Asking, Program, announce, crowd, until_ready
from tests.cli.processes import alive, descendants, until
from tests.contract.test_metrics import numbers_at
from tests.server.test_notify import Listening
from tests.support.redis import RedisServer
from tests.support.server import SECRET, Site
from tests.support.streams import follow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROCESSES = 2
#: Fewer than MAX_STREAMS_PER_OWNER: one process may have them all.
WATCHERS = 90
EVENTS = 2_000
RELOADS = 2
READY_SECONDS = 1.0
DRAIN_SECONDS = 1.0
SEED = 11


class Served:
    """Two processes, as systemd runs them."""

    def __init__(self, web: WebProcess, systemd: Listening, admin: str, env_file: Path) -> None:
        self.web = web
        self.systemd = systemd
        self.admin = admin
        self.env_file = env_file

    @property
    def children(self) -> set[int]:
        return {pid for pid, line in descendants(self.web.pid) if "spawn_main" in line and alive(pid)}

    def reload(self) -> dict[str, str]:
        """What systemd is told at its end."""
        os.kill(self.web.pid, signal.SIGHUP)
        self.systemd.until("RELOADING")
        return self.systemd.until("READY")


@pytest.fixture(scope="module")
def settings(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load(
        redis_url=redis_server.url(0), broker_url=redis_server.url(1), namespace=f"t{uuid4().hex[:12]}",
        data=tmp_path_factory.mktemp("data"), jwt_secret=SecretStr(SECRET),
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For all tests here: each leaves two processes that serve."""
    folder = tmp_path_factory.mktemp("many")
    systemd = Listening(str(folder / "notify"))
    env_file, port = folder / "settings.env", free_port()
    env_file.write_text("PROGRESS_STREAM_POLL_SECONDS=3\n")
    web = WebProcess(
        settings, SECRET, folder / "web", "--processes", str(PROCESSES), "--env-file", str(env_file),
        ready_seconds=READY_SECONDS, drain_seconds=DRAIN_SECONDS,
        env={"NOTIFY_SOCKET": systemd.address, "PROGRESS_STREAM_ADMIN_PORT": str(port)},
    )  # fmt: skip
    with web:
        assert "serving with 2 processes" == systemd.until("READY")["STATUS"]
        yield Served(web, systemd, f"http://127.0.0.1:{port}", env_file)
    systemd.socket.close()


@pytest.fixture
def site(settings: Settings, served: Served) -> Iterator[Site]:
    with sync_client(str(settings.redis_url)) as client:
        yield Site(served.web.url, settings, client)


def test_any_process_tells_of_all_and_none_of_the_dead(served: Served, site: Site) -> None:
    """Gauges and counters are those of both; what a killed one held open is closed, what it counted stays counted."""
    before = _quietly(served.admin, ("deliveries_total",)) or 0
    job = site.job()
    job.start()
    with ExitStack() as stack:
        streams = [stack.enter_context(follow(site)) for _ in range(20)]
        for stream in streams:
            stream.until_number(2)
        until(lambda: 20 == numbers_at(served.admin)[("watchers",)])
        told = [numbers_at(served.admin) for _ in range(10)]
        assert {20} == {each[("watchers",)] for each in told}
        assert {before + 40} == {each[("deliveries_total",)] for each in told}

        for child in served.children:
            os.kill(child, signal.SIGKILL)
        for stream in streams:
            stream.to_end()
    until(lambda: PROCESSES == len(served.children))
    until(lambda: 0 == _quietly(served.admin, ("watchers",)))
    with follow(site) as stream:
        stream.until_number(2)
        until(
            lambda: (
                (1, 42)
                == (_quietly(served.admin, ("watchers",)), _quietly(served.admin, ("deliveries_total",)))
            )
        )


def _quietly(url: str, name: tuple[str, ...]) -> float | None:
    """None while nobody answers."""
    try:
        return numbers_at(url).get(name)
    except httpx.TransportError:
        return None


def watched(
    served: Served, settings: Settings, token: str, watchers: int, events: int, seconds: float,
    fault: Callable[[], object],
) -> tuple[History, Asking]:  # fmt: skip
    """A crowd that follows a job, and others who ask for everything else, while `fault` happens; in a thread, once."""
    announce(settings)
    happened = threading.Event()

    async def scene(program: Program) -> tuple[History, Asking]:
        over = asyncio.Event()
        asking = Asking(served.web.url, program.job)

        async def happen(noted: list[str]) -> None:
            await asyncio.sleep(1)
            await asyncio.to_thread(fault)
            noted.append(f"over at event {program.reported}")
            happened.set()

        async def watch() -> History:
            try:
                return await crowd(
                    served.web.url,
                    program.job,
                    token,
                    watchers,
                    seed=SEED,
                    cut_every=watchers + 1,
                    faults=happen,
                )
            finally:
                over.set()

        history, _ = await asyncio.gather(watch(), asking.until(over))
        return history, asking

    asyncio.run(until_ready(served.web))
    program = Program(settings, events, seconds, before_end=lambda: happened.wait(200)).start()
    found = asyncio.run(scene(program))
    program.join(200)
    return found


def test_a_reload_under_load_is_noticed_by_nobody(
    served: Served, settings: Settings, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No event lost or repeated, no gap, nothing refused or broken or of status 500; the new settings are in force after it."""
    served.env_file.write_text("PROGRESS_STREAM_POLL_SECONDS=4\n")

    def reload() -> None:
        for _ in range(RELOADS):
            old = served.children
            assert "serving with 2 processes" == served.reload()["STATUS"]
            until(lambda old=old: not old & served.children)  # type: ignore[misc]

    history, asking = watched(served, settings, token, WATCHERS, EVENTS, 8, reload)

    with capsys.disabled():
        print(f"\n  {history.summary()}\n  {dict(asking.statuses)}")
    assert [] == faults_of(history, OWN_TYPE, EVENTS)
    # Each stream is moved once in each: to a process that stays.
    assert RELOADS == max(len(seen.told) for seen in history.watchers)
    assert {(0, 0)} == {(seen.refused, seen.broken) for seen in history.watchers}
    assert {"draining"} == {word for seen in history.watchers for word in seen.told}
    assert [] == asking.broken
    assert {("state", 200), ("list", 200), ("submit", 201)} == set(asking.statuses)
    assert 4 == httpx.get(f"{served.web.url}/config.json").json()["poll_seconds"]


def test_a_process_killed_under_load_costs_nobody_an_event(
    served: Served, settings: Settings, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its streams go on at the other, which refuses nobody; and it is started again."""
    killed = min(served.children)

    def kill() -> None:
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in served.children and PROCESSES == len(served.children))

    history, asking = watched(served, settings, token, 30, 300, 3.0, kill)

    with capsys.disabled():
        print(f"\n  {history.summary()}\n  {dict(asking.statuses)}")
    assert [] == faults_of(history, OWN_TYPE, 300)
    assert 0 == sum(seen.refused for seen in history.watchers)
    assert not any(status >= 500 for _, status in asking.statuses)


def test_a_setting_that_cannot_be_is_refused_and_all_goes_on(served: Served) -> None:
    """With the fault's name, as at a start."""
    before, old = served.children, served.env_file.read_text()
    config = httpx.get(f"{served.web.url}/config.json").json()
    served.env_file.write_text("PROGRESS_STREAM_POLL_SECONDS=often\n")

    assert "not reloaded: PROGRESS_STREAM_POLL_SECONDS" in served.reload()["STATUS"]
    assert before == served.children
    assert config == httpx.get(f"{served.web.url}/config.json").json()
    served.env_file.write_text(old)
