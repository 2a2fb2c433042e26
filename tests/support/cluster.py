"""A Redis Cluster of three primaries with a replica each: real processes on loopback, with all that an operator does to one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from progress_stream.store.slots import SLOTS, slot_of
from tests.support.redis import RedisServer, free_port
from tests.support.secured import Secured
from tests.support.waiting import until

PRIMARIES = 3
#: A busy machine must not look like a dead node.
NODE_TIMEOUT_MS = 3_000


class Nodes:
    """The nodes, whatever their roles are now."""

    def __init__(self, servers: list[RedisServer], secured: Secured | None = None) -> None:
        self.servers = servers
        self.secured = secured

    @property
    def url(self) -> str:
        """By two of its nodes, one of them a replica at first."""
        return self.url_with("")

    def url_with(self, account: str) -> str:
        """The same for an account, `user:password`."""
        some = (self.servers[0], self.servers[-1])
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in some)
        where = f"{account}@{hosts}" if account else hosts
        if self.secured is None:
            return f"redis+cluster://{where}"
        return f"rediss+cluster://{where}?ssl_ca_certs={self.secured.authority}"

    def alive(self) -> list[RedisServer]:
        return [server for server in self.servers if _answers(server)]

    def primary_of(self, key: str) -> RedisServer:
        """As a node that is well sees it."""
        port = self._owners()[slot_of(key)]
        return next(server for server in self.servers if server.port == port)

    def other_primary(self, than: RedisServer) -> RedisServer:
        ports = set(self._owners().values()) - {than.port}
        return next(server for server in self.servers if server.port in ports)

    def replica_of(self, primary: RedisServer) -> RedisServer:
        with primary.client() as client:
            port = client.info("replication")["slave0"]["port"]
        return next(server for server in self.servers if server.port == port)

    def kill_primary_of(self, key: str) -> RedisServer:
        """With -9; returns once its replica serves its slots, and gives the one that was killed."""
        killed = self.primary_of(key)
        killed.kill9()
        until(lambda: self.primary_of(key) is not killed and self.is_whole(), 60)
        return killed

    def fail_over(self, key: str, how: str = "FORCE") -> None:
        """The replica takes over without asking its primary for what it lacks; the old one stays, and learns of it."""
        old = self.primary_of(key)
        with self.replica_of(old).client() as client:
            client.execute_command("CLUSTER", "FAILOVER", *([how] if how else []))
        until(lambda: self.primary_of(key) is not old and self.is_whole(), 60)

    def fail_over_without(self, key: str, lost: Callable[[], object]) -> None:
        """The replica takes over, and was sent nothing of what `lost` writes: by then its password is wrong."""
        old = self.primary_of(key)
        with self.replica_of(old).client() as client:
            password = client.config_get("masterauth")["masterauth"]
            client.config_set("masterauth", "there is none")
            client.execute_command("CLIENT", "KILL", "TYPE", "MASTER")
            try:
                lost()
                client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
                until(lambda: self.primary_of(key) is not old and self.is_whole(), 60)
            finally:
                client.config_set("masterauth", password)

    def wait_until_replaced(self, key: str, old: RedisServer) -> None:
        """While it answers nobody."""
        others = Nodes([server for server in self.servers if server is not old])
        until(lambda: others._owners()[slot_of(key)] != old.port and others.is_whole(), 60)

    def migrate(self, slot: int, *, pause: float = 0.0) -> int:
        """Moves a slot to another primary, key by key, with so many seconds between two; how many keys there were."""
        source = next(one for one in self.servers if one.port == self._owners()[slot])
        target = self.other_primary(source)
        moved = 0
        with source.client() as here, target.client() as there:
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", _id_of(here))
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", _id_of(there))
            while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
                here.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
                moved += len(keys)
                time.sleep(pause)
            for client in (there, here):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", _id_of(there))
        until(lambda: self._owners()[slot] == target.port)
        return moved

    def wait_until_replicated(self) -> None:
        """Each primary has a replica that holds what it holds."""
        until(lambda: self.is_whole() and all(_is_replicated(server) for server in self.servers), 60)

    def is_replicated(self, key: str) -> bool:
        """The replica of its node has all that was written there."""
        with self.primary_of(key).client() as client:
            told = client.info("replication")
        return bool(told["slave0"]["offset"] == told["master_repl_offset"])

    def is_whole(self) -> bool:
        """All that live see every slot served."""
        return all(_sees_all(server) for server in self.alive())

    def _owners(self) -> dict[int, int]:
        """Slot to port."""
        with next(filter(_answers, self.servers)).client() as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        return {slot: one[2][1] for one in ranges for slot in range(one[0], one[1] + 1)}


@contextlib.contextmanager
def clustered(
    folder: Path, *, replicas: bool = True, secured: Secured | None = None, program: Path | None = None
) -> Iterator[Nodes]:
    """`program` is the server's, where it shall be another one than that which is found."""
    with contextlib.ExitStack() as stack:
        count = PRIMARIES * 2 if replicas else PRIMARIES
        servers = [
            stack.enter_context(_node(folder / f"node{number}", secured, program)) for number in range(count)
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, _bus_of(clients[0]))
        step = SLOTS / PRIMARIES
        for number in range(PRIMARIES):
            first, last = round(number * step), round((number + 1) * step) - 1
            clients[number].execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        until(lambda: all(_knows(client) == count for client in clients), 30)
        for number in range(PRIMARIES, count):
            clients[number].execute_command("CLUSTER", "REPLICATE", _id_of(clients[number - PRIMARIES]))
        found = Nodes(servers, secured)
        until(lambda: found.is_whole() and all(map(_follows, clients[PRIMARIES:])), 30)
        yield found


def _node(folder: Path, secured: Secured | None, program: Path | None) -> RedisServer:
    # The bus is by default 10,000 above the port, which may be no port at all.
    options = {
        "cluster-enabled": "yes", "cluster-port": str(free_port()), "cluster-node-timeout": str(NODE_TIMEOUT_MS),
        # How long a replica heard nothing does not bar it: the tests stop servers for longer than that.
        "cluster-replica-validity-factor": "0", "cluster-require-full-coverage": "no",
    }  # fmt: skip
    if secured is None:
        return RedisServer(folder, program=program, persistent=False, options=options)
    return RedisServer(
        folder, program=secured.program, persistent=False, tls=secured.folder, account=secured.account,
        options=options | secured.options() | {"tls-cluster": "yes"},
    )  # fmt: skip


def _id_of(client: redis.Redis) -> str:
    return str(client.execute_command("CLUSTER", "MYID").decode())


def _bus_of(client: redis.Redis) -> int:
    return int(client.config_get("cluster-port")["cluster-port"])


def _info(client: redis.Redis) -> dict[str, str]:
    text = client.execute_command("CLUSTER", "INFO").decode()
    return dict(line.split(":", 1) for line in text.split())


def _knows(client: redis.Redis) -> int:
    return int(_info(client)["cluster_known_nodes"])


def _follows(client: redis.Redis) -> bool:
    return bool(client.info("replication").get("master_link_status") == "up")


def _is_replicated(server: RedisServer) -> bool:
    with server.client() as client:
        told = client.info("replication")
    return bool(
        (told.get("master_link_status", "up") == "up" and told.get("connected_slaves"))
        or told["role"] == "slave"
    )


def _sees_all(server: RedisServer) -> bool:
    with server.client() as client:
        told = _info(client)
    return told["cluster_state"] == "ok" and told["cluster_slots_ok"] == str(SLOTS)


def _answers(server: RedisServer) -> bool:
    with contextlib.suppress(redis.ConnectionError), server.client() as client:
        return bool(client.execute_command("PING"))
    return False
