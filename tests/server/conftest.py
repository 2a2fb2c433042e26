"""A server in a thread, on either event loop, and raw clients for it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from progress_stream.server.run import DrainingServer, make_server
from progress_stream.settings import Settings

from .application import Application

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Serving:
    """One server in a thread of its own."""

    def __init__(self, loop_kind: str, app: Any, settings: Settings, **options: Any) -> None:
        self.app = app
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.listening = threading.Event()
        self.server: DrainingServer = make_server(
            app, settings, on_listening=lambda url: self.listening.set(), **options
        )
        self.loop = LOOPS[loop_kind]()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.clients: list[socket.socket] = []

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.server.serve(sockets=[self.listener]))

    def start(self) -> Serving:
        self.thread.start()
        assert self.listening.wait(10)
        return self

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something in the server's loop and return what it returns."""

        async def inside() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(10)

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def ask(
        self, path: str, *, version: str = "1.1", receive_buffer: int | None = None, extra: str = ""
    ) -> socket.socket:
        client = self.connect(receive_buffer=receive_buffer)
        client.sendall(f"GET {path} HTTP/{version}\r\nHost: x\r\n{extra}\r\n".encode())
        return client

    def close(self, seconds: float = 15) -> None:
        for client in self.clients:
            client.close()
        self.server.stop()
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the server did not exit"


Serve = Callable[..., Serving]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Everything here holds on both event loops."""
    return str(request.param)


@pytest.fixture
def serve(loop_kind: str) -> Iterator[Serve]:
    """Starts servers; ends them all."""
    running: list[Serving] = []

    def start(app: Any = None, wrap: Callable[[Any], Any] | None = None, **settings: Any) -> Serving:
        options = settings.pop("options", {})
        inner = app or Application()
        serving = Serving(loop_kind, wrap(inner) if wrap else inner, Settings(**settings), **options)
        serving.app = inner
        running.append(serving)
        return serving.start()

    yield start
    for serving in running:
        serving.close()


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def read_until(client: socket.socket, end: bytes) -> bytes:
    """What comes up to and with `end`."""
    data = b""
    while end not in data:
        part = client.recv(65_536)
        assert part, f"closed after {data[-200:]!r}"
        data += part
    return data


def split(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers, body without its chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert len(headers) == len(lines), "a header was sent twice"
    return status, headers, unchunk(body) if headers.get(b"transfer-encoding") == b"chunked" else body


def unchunk(body: bytes) -> bytes:
    """The bytes inside the chunks; the last chunk must be there and nothing after it."""
    parts = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert body == b"\r\n", "the response does not end with its last chunk"
            return b"".join(parts)
        parts.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


def secured(client: socket.socket, certificate_file: Path) -> ssl.SSLSocket:
    """The client's socket under TLS."""
    return ssl.create_default_context(cafile=certificate_file).wrap_socket(
        client, server_hostname="127.0.0.1"
    )
