"""nchan in nginx, with its messages in Redis, as a yardstick: Debian's `libnginx-mod-nchan`. Serves what `stage` asks for.

One worker process, as our server is one. Messages come by HTTP, pipelined on one connection, which is nchan's own way in: what
that costs nginx is in its figures, as reading from Redis is in ours.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from progress_stream.store.embedded import find_server

from . import machine

MODULES: Final = (
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
)
MISSING: Final = (
    "nchan is not here (Debian and Ubuntu: apt-get install libnginx-mod-nchan): no figure beside it"
)
_START_SECONDS: Final = 10
#: For what is published in one go.
_CONNECTIONS: Final = 5
_PATH: Final = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
_CONFIG: Final = """
load_module {module};
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    keepalive_requests 10000000;
    nchan_shared_memory_size 256M;
    upstream store {{ nchan_redis_server {redis}; }}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        location ~ ^/publish/(.+)$ {{
            nchan_publisher; nchan_channel_id $1; nchan_redis_pass store;
            nchan_message_buffer_length 2000; nchan_message_timeout 1h;
        }}
        location ~ ^/jobs/(.+)/events$ {{
            nchan_subscriber eventsource; nchan_channel_id $1; nchan_redis_pass store;
            nchan_subscriber_first_message oldest;
        }}
    }}
}}
"""


def module() -> str | None:
    """Where nginx' module lies; None where it is not installed."""
    if shutil.which("nginx", path=_PATH) is None:
        return None
    return next((path for path in MODULES if Path(path).exists()), None)


class Publisher:
    """One connection on which messages are sent, many before the first answer.

    nginx closes it now and then in the middle of what was sent: then the rest is sent on another one.
    """

    def __init__(self, url: str) -> None:
        self._where = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._socket = socket.create_connection(self._where)

    def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Channel and message each. Comes back when all are taken."""
        lines = [
            b"POST /publish/%b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (channel.encode(), len(body), body)
            for channel, body in messages
        ]
        for _ in range(_CONNECTIONS):
            lines = lines[self._taken(lines) :]
            if not lines:
                return
            self._socket.close()
            self._socket = socket.create_connection(self._where)
        raise RuntimeError("nginx closed the publisher's connection again and again")

    def _taken(self, lines: Sequence[bytes]) -> int:
        """How many of these were answered before the connection was closed."""
        answered, rest = 0, b""
        with suppress(ConnectionError):
            self._socket.sendall(b"".join(lines))
            while answered < len(lines) and (data := self._socket.recv(65_536)):
                rest += data
                # A head each, and a word about the channel: a status line is what every answer has once.
                found = rest.count(b"HTTP/1.1 20")
                answered += found
                rest = rest[rest.rfind(b"HTTP/1.1 20") + 11 :] if found else rest[-10:]
        return answered

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A Redis of its own, for nchan speaks to none on a Unix socket; without files, as ours is."""
    port = _free_port()
    words = [
        str(find_server()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            _wait(port, process, folder)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """The URL and the process id of an nginx on the server's core."""
    with _redis(folder) as redis_url, _nginx(redis_url, folder) as found:
        yield found


@contextmanager
def _nginx(redis_url: str, folder: Path) -> Iterator[tuple[str, int]]:
    found = module()
    if found is None:
        raise RuntimeError(MISSING)
    port = _free_port()
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            module=found,
            folder=folder,
            redis=redis_url,
            port=port,
            user="user root;" if os.getuid() == 0 else "",
        )
    )
    program = shutil.which("nginx", path=_PATH) or "nginx"
    process = subprocess.Popen(
        [program, "-e", f"{folder}/error.log", "-c", str(config)],
        preexec_fn=lambda: machine.pin(machine.SERVER_CORE),
    )
    try:
        _wait(port, process, folder)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        # Not -9: its worker would stay.
        process.send_signal(signal.SIGTERM)
        process.wait(_START_SECONDS)


def _wait(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    said = folder / "error.log"
    raise RuntimeError(f"nchan or its Redis did not begin: {said.read_text() if said.exists() else ''}")
