"""A primary, its replica, and three Sentinels that watch them: real processes on loopback, all ended with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import redis

from progress_stream.store.embedded import Guarded
from tests.support.redis import PATIENCE_SECONDS, RedisServer, free_port, tls_options
from tests.support.secured import PASSWORD, Secured
from tests.support.waiting import until

NAME = "main"
#: A busy machine must not look like a dead server.
DOWN_AFTER_MS = 3_000


class Watched:
    """What the Sentinels watch, and how they are asked."""

    def __init__(self, servers: list[RedisServer], ports: list[int], secured: Secured | None = None) -> None:
        self.servers = servers
        self.ports = ports
        self.secured = secured

    def url(self, db: int = 0, account: str = "", options: str = "") -> str:
        """`account` is the servers' (`user:password`); the Sentinels' is among the options."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        where = f"{account}@{hosts}" if account else hosts
        scheme, trust = ("redis+sentinel", "") if self.secured is None else (
            "rediss+sentinel", f"ssl_ca_certs={self.secured.authority}"
        )  # fmt: skip
        query = "&".join(filter(None, (trust, options)))
        return f"{scheme}://{where}/{NAME}/{db}" + (f"?{query}" if query else "")

    def named(self, port: int | None = None) -> int:
        """The port that a Sentinel names."""
        with self.sentinel(port) as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def sentinel(self, port: int | None = None) -> redis.Redis:
        """The caller closes it."""
        return _client(port or self.ports[0], self.secured)

    def primary(self) -> RedisServer:
        return next(server for server in self.servers if server.port == self.named())

    def replica(self) -> RedisServer:
        return next(server for server in self.servers if server.port != self.named())

    def fail_over(self) -> None:
        """Promotes the replica, and returns once every Sentinel names it. The old primary stays reachable."""
        wanted = self.replica().port
        with self.sentinel() as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)
        self.wait_until_named(wanted)

    def wait_until_named(self, port: int) -> None:
        until(lambda: all(self.named(one) == port for one in self.ports), 60)

    def wait_until_whole(self) -> None:
        """All know each other, and the replica follows. One that a test has killed is started again, as its supervisor would."""
        for server in self.servers:
            if not server.running:
                server.start().replicate(self.primary())
        until(lambda: all(self._sees_all(port) for port in self.ports), 60)

    def _sees_all(self, port: int) -> bool:
        with self.sentinel(port) as client:
            primary = _pairs(client.execute_command("SENTINEL", "MASTER", NAME))
            replicas = [_pairs(one) for one in client.execute_command("SENTINEL", "REPLICAS", NAME)]
        follow = [(one[b"flags"], one[b"master-link-status"]) for one in replicas]
        return (int(primary[b"num-other-sentinels"]), follow) == (len(self.ports) - 1, [(b"slave", b"ok")])


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


@contextlib.contextmanager
def watched(
    folder: Path, *, sentinels: int = 3, secured: Secured | None = None, program: Path | None = None
) -> Iterator[Watched]:
    """`program` is the server's, where it shall be another one than that which is found."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(_server(folder / f"server{number}", secured, program)) for number in range(2)
        ]
        servers[1].replicate(servers[0])
        ports = [
            _start(stack, folder / f"sentinel{number}", servers[0], secured) for number in range(sentinels)
        ]
        found = Watched(servers, ports, secured)
        found.wait_until_whole()
        yield found


def _server(folder: Path, secured: Secured | None, program: Path | None) -> RedisServer:
    if secured is None:
        return RedisServer(folder, program=program, persistent=False)
    return RedisServer(
        folder, program=secured.program, persistent=False, tls=secured.folder, account=secured.account,
        options=secured.options(),
    )  # fmt: skip


def _start(stack: contextlib.ExitStack, folder: Path, primary: RedisServer, secured: Secured | None) -> int:
    """A Sentinel of the same program as the primary that it watches; its port."""
    folder.mkdir(parents=True)
    port = free_port()
    file = folder / "sentinel.conf"
    file.write_text(
        f"bind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 2\n"
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {NAME} 10000\n" + _listening(port, secured)
    )
    process = Guarded([primary.program, str(file), "--sentinel"], folder=folder, log=folder / "sentinel.log")
    stack.callback(process.stop)
    until(lambda: _answers(port, secured), PATIENCE_SECONDS)
    return port


def _listening(port: int, secured: Secured | None) -> str:
    if secured is None:
        return f"port {port}\n"
    tls = "".join(f"{name} {value}\n" for name, value in tls_options(port, secured.folder).items())
    return (
        f"{tls}tls-replication yes\nrequirepass {PASSWORD}\nsentinel sentinel-pass {PASSWORD}\n"
        f"sentinel auth-pass {NAME} {PASSWORD}\n"
    )


def _client(port: int, secured: Secured | None) -> redis.Redis:
    if secured is None:
        return redis.Redis(port=port, protocol=2)
    return redis.Redis(
        host="127.0.0.1", port=port, protocol=2, password=PASSWORD, ssl=True, ssl_ca_certs=str(secured.authority)
    )  # fmt: skip


def _answers(port: int, secured: Secured | None) -> bool:
    with contextlib.suppress(redis.ConnectionError), _client(port, secured) as client:
        return bool(client.execute_command("PING"))
    return False
