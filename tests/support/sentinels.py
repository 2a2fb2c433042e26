"""A primary, its replica, and three Sentinels that watch them: real processes on loopback, all ended with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import redis

from progress_stream.store.embedded import Guarded, find_server
from tests.support.redis import PATIENCE_SECONDS, RedisServer, free_port
from tests.support.waiting import until

NAME = "main"
#: A busy machine must not look like a dead server.
DOWN_AFTER_MS = 3_000


class Watched:
    """What the Sentinels watch, and how they are asked."""

    def __init__(self, servers: list[RedisServer], ports: list[int]) -> None:
        self.servers = servers
        self.ports = ports

    def url(self, db: int = 0) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{NAME}/{db}"

    def named(self, port: int | None = None) -> int:
        """The port that a Sentinel names."""
        with _client(port or self.ports[0]) as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def primary(self) -> RedisServer:
        return next(server for server in self.servers if server.port == self.named())

    def replica(self) -> RedisServer:
        return next(server for server in self.servers if server.port != self.named())

    def fail_over(self) -> None:
        """Promotes the replica, and returns once every Sentinel names it. The old primary stays reachable."""
        wanted = self.replica().port
        with _client(self.ports[0]) as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)
        self.wait_until_named(wanted)

    def wait_until_named(self, port: int) -> None:
        until(lambda: all(self.named(one) == port for one in self.ports), 60)

    def wait_until_whole(self) -> None:
        """All know each other, and the replica follows."""
        until(lambda: all(_sees_all(port, len(self.ports)) for port in self.ports), 60)


@contextlib.contextmanager
def watched(folder: Path, *, sentinels: int = 3) -> Iterator[Watched]:
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(RedisServer(folder / f"server{number}", persistent=False))
            for number in range(2)
        ]
        servers[1].replicate(servers[0])
        ports = [_start(stack, folder / f"sentinel{number}", servers[0].port) for number in range(sentinels)]
        found = Watched(servers, ports)
        found.wait_until_whole()
        yield found


def _start(stack: contextlib.ExitStack, folder: Path, primary: int) -> int:
    folder.mkdir(parents=True)
    port = free_port()
    file = folder / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {NAME} 127.0.0.1 {primary} 2\n"
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {NAME} 10000\n"
    )
    process = Guarded([find_server(), str(file), "--sentinel"], folder=folder, log=folder / "sentinel.log")
    stack.callback(process.stop)
    until(lambda: _answers(port), PATIENCE_SECONDS)
    return port


def _client(port: int) -> redis.Redis:
    return redis.Redis(port=port, protocol=2)


def _answers(port: int) -> bool:
    with contextlib.suppress(redis.ConnectionError), _client(port) as client:
        return bool(client.execute_command("PING"))
    return False


def _sees_all(port: int, sentinels: int) -> bool:
    with _client(port) as client:
        pairs = client.execute_command("SENTINEL", "MASTER", NAME)
    told = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return (int(told[b"num-other-sentinels"]), int(told[b"num-slaves"])) == (sentinels - 1, 1)
