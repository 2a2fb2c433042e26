"""What stands between, on ports of its own: nginx and HAProxy from their own configuration, and a little proxy for what they
cannot be told to do wrong."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from progress_stream.store.embedded import Guarded
from tests.support import lacking

PATIENCE_SECONDS = 10.0

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{target};
            {directives}
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    {defaults}
listen all
    bind 127.0.0.1:{port}
    {directives}
    server one {target}
"""


@contextmanager
def nginx(url: str, folder: Path, directives: str, *, kept: int = 0) -> Iterator[str]:
    """The URL of an nginx before the server at `url`, with these directives for every path; it keeps so many connections to it."""
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "nginx.conf"
    address = urlsplit(url).netloc
    upstream = f"upstream kept {{ server {address}; keepalive {kept}; }}" if kept else ""
    target = "kept" if kept else address
    config.write_text(
        NGINX.format(folder=folder, port=port, target=target, directives=directives, upstream=upstream)
    )
    with _answering(
        [program("nginx"), "-e", f"{folder}/error.log", "-c", str(config)], port, folder
    ) as address:
        yield address


@contextmanager
def haproxy(url: str, folder: Path, *, defaults: str, directives: str = "") -> Iterator[str]:
    """The URL of an HAProxy before the server at `url`."""
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        HAPROXY.format(port=port, target=urlsplit(url).netloc, defaults=defaults, directives=directives)
    )
    with _answering([program("haproxy"), "-db", "-f", str(config)], port, folder) as address:
        yield address


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found or lacking(name)


@contextmanager
def _answering(command: list[str], port: int, folder: Path) -> Iterator[str]:
    with running(command, port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(
    command: list[str], port: int, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Guarded]:
    """The process, from when it listens at the port; gone afterwards, and also where this process is killed."""
    process = Guarded(command, folder=folder, log=folder / "output", env=env)
    try:
        _wait_for(port, process)
        yield process
    finally:
        process.stop()


def _wait_for(port: int, process: Guarded) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if not process.running or time.monotonic() > deadline:
            raise RuntimeError(process.log.read_text("utf-8", "replace")[-2000:])
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def capping(url: str, seconds: float) -> Iterator[str]:
    """The URL of a proxy that ends every connection so many seconds after it began."""
    target = urlsplit(url)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        for end in (writer, back):
            end.transport.abort()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(PATIENCE_SECONDS)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.write_eof()
