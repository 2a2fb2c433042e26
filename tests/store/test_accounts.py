"""A Cluster and a primary with Sentinels that speak TLS alone, and accounts with the rights that the docs name and no others.

The rules stand in docs/operations.md; they are taken from there.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dramatiq
import httpx
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from pydantic import SecretStr

from progress_stream import ProgressMiddleware, broker_client, current_job, report
from progress_stream.api.app import create_app
from progress_stream.auth.verify import sign
from progress_stream.errors import StoreUnavailable
from progress_stream.settings import Settings, load
from progress_stream.store.connect import sync_client
from progress_stream.store.keys import Keys
from progress_stream.store.sync import SyncStore
from tests.chaos import working
from tests.chaos.faults import WebProcess
from tests.cli.processes import COMMAND
from tests.support.cluster import Nodes, clustered
from tests.support.redis import RedisServer, make_certificate, newer_program
from tests.support.secured import Secured
from tests.support.sentinels import Watched, watched
from tests.support.server import SECRET, serving
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PASSWORD = "hush-hush"
PROGRESS, SENTINELS, QUEUE = "progress", "progress on >password +ping", "queue"

#: Groups of servers, for these tests alone.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.xdist_group("accounts")]

DOCUMENTED = (ROOT / "docs" / "operations.md").read_text()


def rule(begins: str) -> list[str]:
    """The documented rights of an account, as `ACL SETUSER` takes them, with this file's password."""
    found = re.findall(rf"^user ({re.escape(begins)}\b.*)$", DOCUMENTED, re.MULTILINE)
    return str(found[0]).replace(">password", f">{PASSWORD}").split(" ")


def account(name: str, namespace: str) -> str:
    """Of a namespace: what an earlier test has left in this process goes on by accounts, and with rights, of its own."""
    return f"{name}-{namespace}"


def login(name: str, namespace: str) -> str:
    return f"{account(name, namespace)}:{PASSWORD}"


def allow(client: redis.Redis, namespace: str, words: list[str]) -> None:
    """Make an account, with what the docs add for this server's release."""
    release = [int(part) for part in client.info()["redis_version"].split(".")[:2]]
    since, right = re.findall(r"From Redis ([0-9.]+) on\s+add\s+`([^`]+)`", DOCUMENTED)[0]
    more = [right] if release >= [int(part) for part in since.split(".")] else []
    client.execute_command("ACL", "SETUSER", account(words[0], namespace), *words[1:], *more)


@dataclass(frozen=True, slots=True)
class Place:
    """Servers, with the clients of their Sentinels. `url` and `broker` (the queue's) have a namespace's accounts.

    `home` is the primary of a key and `heir` its replica.
    """

    servers: list[RedisServer]
    url: Callable[[str], str]
    home: Callable[[str], RedisServer]
    heir: Callable[[str], RedisServer]
    broker: Callable[[str], str] | None = None
    sentinels: Sequence[Callable[[], redis.Redis]] = ()

    def clients(self) -> Iterator[redis.Redis]:
        """One of each process that lives."""
        for connect in [*(server.client for server in self.servers if server.running), *self.sentinels]:
            with connect() as client:
                yield client


def of_cluster(nodes: Nodes) -> Place:
    return Place(
        nodes.servers, lambda namespace: nodes.url_with(login("progress", namespace)), nodes.primary_of,
        lambda key: nodes.replica_of(nodes.primary_of(key)),
    )  # fmt: skip


def of_sentinels(group: Watched) -> Place:
    def url(name: str, db: int, namespace: str) -> str:
        own = f"sentinel_username={account('progress', namespace)}&sentinel_password={PASSWORD}"
        return group.url(db, login(name, namespace), own)

    return Place(
        group.servers, partial(url, "progress", 0), lambda key: group.primary(), lambda key: group.replica(),
        partial(url, "queue", 1), [partial(group.sentinel, port) for port in group.ports],
    )  # fmt: skip


def of_one(server: RedisServer) -> Place:
    def url(name: str, db: int, namespace: str) -> str:
        return f"redis://{login(name, namespace)}@127.0.0.1:{server.port}/{db}"

    return Place(
        [server],
        partial(url, "progress", 0),
        lambda key: server,
        lambda key: server,
        partial(url, "queue", 1),
    )


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    with pytest.MonkeyPatch.context() as environment, contextlib.ExitStack() as stack:
        # redis-py reads all of the machine's authorities for each connection, 60 ms of CPU: here that is one, which signed nothing.
        make_certificate(folder, "nobody")
        environment.setenv("SSL_CERT_FILE", str(folder / "server.crt"))
        yield begun(request.param, folder, stack)


def begun(kind: str, folder: Path, stack: contextlib.ExitStack) -> Place:
    """The newer server's programs speak no TLS."""
    match kind:
        case "cluster":
            secured = Secured(folder / "certificates")
            return of_cluster(stack.enter_context(clustered(folder, secured=secured)))
        case "sentinels":
            secured = Secured(folder / "certificates")
            return of_sentinels(stack.enter_context(watched(folder, secured=secured)))
        case "newer server":
            return of_one(stack.enter_context(RedisServer(folder, program=newer_program(), persistent=False)))
        case "newer cluster":
            nodes = clustered(folder, replicas=False, program=newer_program())
            return of_cluster(stack.enter_context(nodes))
        case "newer sentinels":
            return of_sentinels(stack.enter_context(watched(folder, sentinels=1, program=newer_program())))
    raise ValueError(kind)


GROUPS = ["cluster", "sentinels"]
on_groups = pytest.mark.parametrize("place", GROUPS, indirect=True, scope="module")
on_all = pytest.mark.parametrize(
    "place", [*GROUPS, "newer server", "newer cluster", "newer sentinels"], indirect=True, scope="module"
)


@pytest.fixture
def settings(place: Place, broker_url: str, namespace: str, tmp_path: Path) -> Settings:
    """With accounts for this namespace, on every server."""
    found = load(
        redis_url=place.url(namespace), broker_url=place.broker(namespace) if place.broker else broker_url, namespace=namespace,
        data=tmp_path, jwt_secret=SecretStr(SECRET), ready_seconds=0, drain_seconds=0,
    )  # fmt: skip
    progress = [word.replace("ps:*", f"{namespace}:*") for word in rule(PROGRESS)]
    queue = [word.replace("~dramatiq", f"~{found.broker_namespace}") for word in rule(QUEUE)]
    for server in place.servers:
        if not server.running:
            server.start()
        with server.client() as client:
            allow(client, namespace, progress)
            allow(client, namespace, queue)
    for connect in place.sentinels:
        with connect() as client:
            allow(client, namespace, rule(SENTINELS))
    return found


def refused(place: Place, namespace: str) -> list[str]:
    """What the servers and the Sentinels refused of the namespace's accounts."""
    return [
        f"{one['username']}: {one['object']}"
        for client in place.clients()
        for one in client.acl_log()
        if one["username"].endswith(f"-{namespace}")
    ]


@contextlib.contextmanager
def worker(settings: Settings) -> Iterator[Callable[[], str]]:
    """A worker with one actor; what is yielded sends it a job."""
    broker = RedisBroker(  # type: ignore[no-untyped-call]
        client=broker_client(settings), namespace=settings.broker_namespace, maintenance_chance=1_000_000
    )
    broker.add_middleware(ProgressMiddleware(settings))

    @dramatiq.actor(
        broker=broker,
        actor_name="count",
        progress=True,
        submit=True,
        max_retries=1,
        min_backoff=1,
        max_backoff=10,
    )
    def count() -> None:
        job = current_job()
        job.event("mine", 1)
        if job.attempt == 1:
            raise ValueError("as it was told to")
        until(lambda: over)

    over: list[str] = []
    thread = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    thread.start()
    try:
        yield lambda: count.send_with_options(owner="alice").message_id
    finally:
        over.append("over")
        thread.stop()
        broker.close()


@on_all
def test_the_documented_rights_are_enough(place: Place, settings: Settings) -> None:
    """A job of a real queue that fails once; its stream, its owner's lists, both followed live: nothing is refused."""
    headers = {"Authorization": f"Bearer {sign(SECRET, 'alice', 'jobs:read jobs:write', 600)}"}
    with (
        serving(create_app(settings), settings) as url,
        httpx.Client(base_url=url, headers=headers, timeout=30) as client,
        worker(settings) as send,
    ):
        until(lambda: client.get("/readyz").status_code == 200)
        with client.stream("GET", "/jobs/events") as all_jobs:
            rows = (line for line in all_jobs.iter_lines() if line.startswith("data: "))
            assert next(rows)
            job = send()
            # What the broker took may be known to Redis a second later than that.
            until(lambda: client.get(f"/jobs/{job}").status_code == 200)
            with client.stream("GET", f"/jobs/{job}/events") as stream:
                named = (
                    line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")
                )
                seen = [next(named) for _ in range(7)]
            assert job in next(rows)
        listed = client.get("/jobs").json()["jobs"]
        assert 202 == client.post(f"/jobs/{job}/cancel").status_code
        assert "default" in client.get("/metrics").text
        taken = client.post("/tickets", json={"jobs": [job]})

    assert ["position", "queued", "started", "mine", "retrying", "started", "mine"] == seen
    assert [job] == [row["id"] for row in listed]
    assert 201 == taken.status_code
    assert [] == refused(place, settings.namespace)


@on_groups
def test_what_is_not_among_them_is_refused(place: Place, settings: Settings) -> None:
    """Another installation's keys and channels, and what only an operator does."""
    store = SyncStore(sync_client(settings.redis_url or ""), settings)
    other = SyncStore(
        sync_client(settings.redis_url or ""), settings.model_copy(update={"namespace": "other"})
    )

    assert store.send(store.commands.look("job")).record is None
    with pytest.raises(StoreUnavailable, match="the Redis account may not do this"):
        other.send(other.commands.get_record("kind", "key"))
    with pytest.raises(StoreUnavailable, match="the Redis account may not do this"):
        other.send(other.commands.put_ended_session("kind", "key", b"", 1))
    for one in (store, other):
        one.close()


def wrong(settings: Settings) -> dict[str, str]:
    """Words of the fault, and the settings' URL with it: of the servers' account, and of the Sentinels' where there are any."""
    url = str(settings.redis_url)
    found = {"Redis refuses the password or the account": url.replace(f":{PASSWORD}@", ":not-it@")}
    if "sentinel_password" in url:
        own = url.replace(f"sentinel_password={PASSWORD}", "sentinel_password=not-it")
        found["the Sentinels refuse the password or the account"] = own
    return found


@on_groups
def test_a_wrong_password_ends_a_command_with_words_and_without_it(
    settings: Settings, tmp_path: Path
) -> None:
    """On its one line, and with its code."""
    for words, url in wrong(settings).items():
        env = os.environ | {
            "PROGRESS_STREAM_REDIS_URL": url,
            "PROGRESS_STREAM_BROKER_URL": str(settings.broker_url),
        }
        ran = subprocess.run(
            [*COMMAND, "streaming", "off"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )  # fmt: skip

        assert (1, f"progress-stream: {words}\n") == (ran.returncode, ran.stderr)
        assert "not-it" not in ran.stdout + ran.stderr


def said(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


def says(log: Path, words: str) -> bool:
    """Of what was refused at the subscription's beginning Redis' own word is there."""
    text = log.read_text()
    return words in text or ("Redis" in words and "Redis refuses the subscription: WRONGPASS" in text)


@on_groups
def test_a_wrong_password_is_in_the_log_of_who_reports_and_who_serves(
    settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """By its words, and not itself. The web server lives, and is not ready."""
    log = tmp_path / "web" / "serve.log"
    for words, url in wrong(settings).items():
        caplog.clear()
        bad = settings.model_copy(update={"redis_url": url, "namespace": words.split()[1]})
        with report("nightly", owner="alice", settings=bad) as job:
            job.log("said")
        until(partial(said, caplog, f"is kept in memory: {words}"))
        assert "not-it" not in caplog.text
        with WebProcess(bad, SECRET, tmp_path / "web") as web:
            until(partial(says, log, words))
            assert not web.is_ready
        assert "not-it" not in log.read_text()


@on_groups
@pytest.mark.parametrize("namespace", ["ps"])  # as the programs of their own have it
def test_a_job_goes_on_over_a_primary_that_is_killed(
    place: Place, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By TLS and with the same rights at the new one. A worker's jobs, whose queue goes over with them behind Sentinels."""
    struck: list[bool] = []

    def strike(jobs: list[str]) -> Callable[[], object]:
        states = [Keys(settings.namespace).state(job) for job in jobs]
        homes = [place.home(key) for key in states]
        struck.extend(home is homes[0] for home in homes)
        return partial(kill, homes[0], place.heir(states[0]), account("progress", settings.namespace))

    token = sign(SECRET, "alice", "jobs:read", 600)
    worked = working.work(settings, token, tmp_path, strike, jobs=3, seconds=7, threads=3)

    with capsys.disabled():
        print(working.told(worked))
    working.judge(worked, map(int, struck))
    assert [] == refused(place, settings.namespace)


def kill(primary: RedisServer, heir: RedisServer, user: str) -> None:
    """With -9; returns once commands and the subscription come to the heir, which has no port without TLS."""
    primary.kill9()
    with heir.client() as client:
        until(lambda: serves(client, user), 60)
        assert "0" == client.config_get("port")["port"]


def serves(heir: redis.Redis, user: str) -> bool:
    """Sentinels have a server that they promote drop its clients: this one comes back with its next question."""
    with contextlib.suppress(redis.ConnectionError):
        ours = [one["name"] for one in heir.client_list() if one["user"] == user]
        is_primary: bool = heir.info("replication")["role"] == "master"
        return is_primary and {True, False} == {name == "progress_stream-wakeups" for name in ours}
    return False


def test_each_command_of_a_script_is_among_the_documented_rights() -> None:
    """Also those that the tests above have no use for."""
    scripts = (ROOT / "src" / "progress_stream" / "store" / "scripts").glob("*.lua")
    text = "".join(file.read_text() for file in scripts)
    called = {
        f"+{word.lower()}" for word in re.findall(r"(?:call[(]|call, ?|claimed and |or )'([A-Z]+)'", text)
    }

    assert {"+xadd", "+hsetnx", "+info"} <= called
    assert set() == called - set(rule(PROGRESS))
