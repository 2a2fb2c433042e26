"""The proxies of manifests/proxies/, running on loopback before two web servers: with the very files that operators copy.

What is replaced in them: addresses and names; how long a reload waits for streams, so that it cuts them; and where `idle` is given,
the seconds of silence that are allowed, for else it would take a minute to see one. Whoever wants a proxy that is set up wrong uses
`setups`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from progress_stream.store.embedded import Guarded
from tests.proxies import setups
from tests.proxies.setups import PATIENCE_SECONDS, free_port, program, running
from tests.support import lacking
from tests.support.redis import make_certificate

SNIPPETS: Final = Path(__file__).parents[2] / "manifests" / "proxies"
#: Of silence, where 60 are allowed in the files; and between the web servers' heartbeats, 15 by default.
IDLE_SECONDS: Final = 4
HEARTBEAT_SECONDS: Final = 1
#: After a reload the old processes keep their streams for so long.
RELOAD_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """A proxy that runs, and how clients reach the web servers through it."""

    url: str
    #: Returns once the new configuration is in force.
    reload: Callable[[], None]
    #: A forward proxy's own address: `url` is then what lies behind it.
    forward: str | None = None
    http2: bool = False
    authority: Path | None = None


#: What each file says of the silence that it allows.
SILENCE: Final = {
    "nginx.conf": ("proxy_read_timeout 60s;",),
    "haproxy.cfg": ("timeout client 60s", "timeout server 60s"),
    "Caddyfile": ("read_timeout 60s",),
    "apache.conf": ("ProxyTimeout 60",),
    "squid.conf": ("read_timeout 15 minutes",),
}


def filled(name: str, replacements: dict[str, str], idle: int | None) -> str:
    """The file with other addresses in it. Raises ValueError where what is to be replaced is not there."""
    text = (SNIPPETS / name).read_text()
    shorter = {} if idle is None else {old: _allowing(idle, old) for old in SILENCE[name]}
    for old, new in (replacements | shorter).items():
        if old not in text:
            raise ValueError(f"{name} has no {old!r}")
        text = text.replace(old, new)
    return text


def _allowing(idle: int, words: str) -> str:
    return words.replace("60", str(idle)).replace("15 minutes", f"{idle} seconds")


def _addresses(urls: Sequence[str]) -> dict[str, str]:
    return {f"10.0.0.1{n}:8000": urlsplit(url).netloc for n, url in enumerate(urls, 1)}


# nginx

NGINX: Final = """
daemon off;
{user}
worker_processes 2;
worker_rlimit_nofile 16384;
worker_shutdown_timeout {reload}s;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # As Debian has it.
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    gzip on;
    {http}
    {site}
}}
"""
#: Everything that this nginx can compress.
COMPRESSING: Final = "gzip_types *; gzip_min_length 0; gzip_proxied any; gzip_http_version 1.0;"
PLAIN_SITE: Final = """
upstream web {{ {servers} }}
server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://web; {more} }}
}}
"""


@contextmanager
def nginx_defaults(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """As it comes, with a `proxy_pass` and nothing else."""
    with _plain_nginx(urls, folder, idle) as standing:
        yield standing


@contextmanager
def nginx(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """Our file, in an nginx that compresses all it can."""
    with _our_nginx(urls, folder, idle, COMPRESSING) as standing:
        yield standing


@contextmanager
def _our_nginx(urls: Sequence[str], folder: Path, idle: int | None, http: str = "") -> Iterator[Standing]:
    port = free_port()
    site = filled("nginx.conf", _addresses(urls) | {
        "listen 80;": f"listen 127.0.0.1:{port};",
    }, idle)  # fmt: skip
    with _nginx(folder, port, site, http) as standing:
        yield standing


@contextmanager
def nginx_behind_nginx(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """Ours behind somebody else's, which compresses all it can."""
    with _our_nginx(urls, folder / "inner", idle) as inner, _plain_nginx(
        [inner.url], folder / "outer", idle, COMPRESSING, "proxy_http_version 1.1;"
    ) as outer:  # fmt: skip

        def reload() -> None:
            inner.reload()
            outer.reload()

        yield replace(outer, reload=reload)


@contextmanager
def _plain_nginx(
    urls: Sequence[str], folder: Path, idle: int | None, http: str = "", more: str = ""
) -> Iterator[Standing]:
    port = free_port()
    servers = " ".join(f"server {urlsplit(url).netloc};" for url in urls)
    patience = "" if idle is None else f"proxy_read_timeout {idle}s;"
    with _nginx(
        folder, port, PLAIN_SITE.format(servers=servers, port=port, more=more + patience), http
    ) as standing:
        yield standing


@contextmanager
def _nginx(folder: Path, port: int, site: str, http: str) -> Iterator[Standing]:
    config = _written(
        folder / "nginx.conf",
        NGINX.format(
            folder=folder,
            user="user root;" if _is_root() else "",
            site=site,
            http=http,
            reload=RELOAD_SECONDS,
        ),
    )
    command = [program("nginx"), "-e", f"{folder}/error.log", "-c", str(config)]
    with running(command, port, folder) as process:
        yield Standing(f"http://127.0.0.1:{port}", lambda: _replaced(process, signal.SIGHUP))


# HAProxy


@contextmanager
def haproxy(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """Over HTTP/1.1."""
    with _haproxy(urls, folder, idle) as (standing, _):
        yield standing


@contextmanager
def haproxy_http2(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """Over TLS, where it and its client agree on HTTP/2."""
    with _haproxy(urls, folder, idle) as (standing, tls):
        yield replace(standing, url=tls, http2=True, authority=folder / "server.crt")


@contextmanager
def balancer(urls: Sequence[str], folder: Path) -> Iterator[str]:
    """The URL of the same HAProxy before any number of servers that go soon after they have said that they will."""
    with _haproxy(urls, folder, check="inter 200ms fall 1 rise 1") as (standing, _):
        yield standing.url


@contextmanager
def _haproxy(
    urls: Sequence[str], folder: Path, idle: int | None = None, check: str = "inter 1s fall 2 rise 1"
) -> Iterator[tuple[Standing, str]]:
    """And its second address, which is TLS."""
    plain, tls = free_port(), free_port()
    servers = "\n    ".join(f"server web{n} {urlsplit(url).netloc}" for n, url in enumerate(urls, 1))
    folder.mkdir(parents=True)
    make_certificate(folder)
    certificate = _written(
        folder / "progress.pem", (folder / "server.crt").read_text() + (folder / "server.key").read_text()
    )
    config = _written(folder / "haproxy.cfg", filled("haproxy.cfg", {
        "server web1 10.0.0.11:8000\n    server web2 10.0.0.12:8000": servers,
        "inter 1s fall 2 rise 1": check,
        "bind :80\n": f"bind 127.0.0.1:{plain}\n",
        "bind :443 ssl crt /etc/haproxy/progress.pem": f"bind 127.0.0.1:{tls} ssl crt {certificate}",
        "hard-stop-after 20m": f"hard-stop-after {RELOAD_SECONDS}s",
    }, idle))  # fmt: skip
    with running([program("haproxy"), "-W", "-f", str(config)], plain, folder) as process:
        standing = Standing(f"http://127.0.0.1:{plain}", lambda: _replaced(process, signal.SIGUSR2))
        yield standing, f"https://127.0.0.1:{tls}"


# Caddy


@contextmanager
def caddy(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    port = free_port()
    site = filled("Caddyfile", _addresses(urls) | {
        "progress.example.com {": f"http://127.0.0.1:{port} {{",
    }, idle)  # fmt: skip
    with _caddy(folder, port, site) as standing:
        yield standing


@contextmanager
def _caddy(folder: Path, port: int, site: str) -> Iterator[Standing]:
    admin = free_port()
    _written(folder / "Caddyfile", site)
    options = f"{{\n\tadmin 127.0.0.1:{admin}\n\tgrace_period {RELOAD_SECONDS}s\n}}\n"
    config = _written(folder / "main", f"{options}import {folder}/Caddyfile\n")
    env = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    arguments = ["--config", str(config), "--adapter", "caddyfile"]

    def reload() -> None:
        subprocess.run(
            [program("caddy"), "reload", *arguments, "--force", "--address", f"127.0.0.1:{admin}"],
            env=env, check=True, capture_output=True, timeout=PATIENCE_SECONDS,
        )  # fmt: skip

    with running([program("caddy"), "run", *arguments], port, folder, env=env):
        yield Standing(f"http://127.0.0.1:{port}", reload)


# Apache httpd

APACHE: Final = """
ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/httpd.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
{user}
{modules}
{site}
"""
APACHE_MODULES: Final = (
    "mpm_event", "authz_core", "env", "setenvif", "headers", "filter", "deflate", "proxy", "proxy_http", "proxy_balancer",
    "lbmethod_bybusyness", "slotmem_shm",
)  # fmt: skip


@contextmanager
def apache(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """Our file, in an httpd that compresses all it can."""
    port = free_port()
    site = filled("apache.conf", _addresses(urls) | {
        "<VirtualHost *:80>": f"Listen 127.0.0.1:{port}\nSetOutputFilter DEFLATE\n<VirtualHost *:{port}>",
    }, idle)  # fmt: skip
    with _apache(folder, port, site) as standing:
        yield standing


@contextmanager
def _apache(folder: Path, port: int, site: str) -> Iterator[Standing]:
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES
    )
    user = "User www-data\nGroup www-data" if _is_root() else ""
    config = _written(
        folder / "httpd.conf", APACHE.format(folder=folder, user=user, modules=modules, site=site)
    )
    with running([program("apache2"), "-f", str(config), "-D", "FOREGROUND"], port, folder) as process:
        yield Standing(f"http://127.0.0.1:{port}", lambda: _replaced(process, signal.SIGUSR1))


# Squid

SQUID: Final = """
pid_filename {folder}/squid.pid
cache_log {folder}/cache.log
access_log none
coredump_dir {folder}
pinger_enable off
"""
#: Debian's own file.
SQUID_DEFAULTS: Final = Path("/etc/squid/squid.conf")


@contextmanager
def squid(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """A company's way out, and at the other end an nginx before the web servers, with time-outs as they should be."""
    with nginx(urls, folder / "site") as site, _squid(folder / "squid", idle) as standing:
        yield replace(standing, url=site.url)


@contextmanager
def squid_tunnel(urls: Sequence[str], folder: Path, idle: int | None = None) -> Iterator[Standing]:
    """The same over https: Squid sees a tunnel, and HTTP/2 may go through it."""
    with _haproxy(urls, folder / "site") as (_, tls), _squid(folder / "squid", idle) as standing:
        yield replace(standing, url=tls, http2=True, authority=folder / "site" / "server.crt")


@contextmanager
def _squid(folder: Path, idle: int | None) -> Iterator[Standing]:
    port = free_port()
    text = filled("squid.conf", {
        "http_port 3128": f"http_port 127.0.0.1:{port}",
        "acl https port 443": "acl https port 1025-65535",
        "shutdown_lifetime 5 seconds": "shutdown_lifetime 0 seconds",
    }, idle)  # fmt: skip
    with _squid_of(text, folder, port) as standing:
        yield standing


@contextmanager
def _squid_of(text: str, folder: Path, port: int) -> Iterator[Standing]:
    log = folder / "cache.log"
    config = _written(folder / "squid.conf", text + SQUID.format(folder=folder))
    _open_to_all(folder)

    def reload() -> None:
        before = log.read_text().count("Accepting HTTP Socket connections")
        os.kill(process.pid, signal.SIGHUP)
        _until(
            lambda: log.read_text().count("Accepting HTTP Socket connections") > before,
            "Squid read its file again",
        )

    with running([program("squid"), "-N", "-f", str(config)], port, folder) as process:
        yield Standing("", reload, forward=f"http://127.0.0.1:{port}")


# As they come: a line or two that name the servers, and nothing else


@contextmanager
def haproxy_defaults(urls: Sequence[str], folder: Path) -> Iterator[Standing]:
    """With the time-outs of Debian's file."""
    defaults = "timeout client 50000\n    timeout server 50000"
    with setups.haproxy(urls[0], folder, defaults=defaults) as url:
        yield Standing(url, _nothing)


@contextmanager
def nginx_behind_nginx_defaults(urls: Sequence[str], folder: Path) -> Iterator[Standing]:
    """The outer one compresses, and the inner one keeps from it that it should not wait."""
    with (
        _plain_nginx(urls[:1], folder / "inner", None) as inner,
        _plain_nginx([inner.url], folder / "outer", None, COMPRESSING) as outer,
    ):
        yield outer


@contextmanager
def caddy_defaults(urls: Sequence[str], folder: Path) -> Iterator[Standing]:
    with _plain_caddy(urls, folder) as standing:
        yield standing


@contextmanager
def caddy_compressing(urls: Sequence[str], folder: Path) -> Iterator[Standing]:
    """Also what it should not, and for sure: by default it does where an answer's first bytes are 512 or more."""
    with _plain_caddy(urls, folder, "encode gzip {\n\t\tminimum_length 1\n\t}") as standing:
        yield standing


@contextmanager
def _plain_caddy(urls: Sequence[str], folder: Path, more: str = "") -> Iterator[Standing]:
    port = free_port()
    site = f"http://127.0.0.1:{port} {{\n\t{more}\n\treverse_proxy {urlsplit(urls[0]).netloc}\n}}\n"
    with _caddy(folder, port, site) as standing:
        yield standing


@contextmanager
def apache_defaults(urls: Sequence[str], folder: Path) -> Iterator[Standing]:
    port = free_port()
    with _apache(folder, port, f'Listen 127.0.0.1:{port}\nProxyPass "/" "{urls[0]}/"\n') as standing:
        yield standing


@contextmanager
def squid_defaults(urls: Sequence[str], folder: Path) -> Iterator[Standing]:
    port = free_port()
    text = SQUID_DEFAULTS.read_text() if SQUID_DEFAULTS.exists() else lacking(str(SQUID_DEFAULTS))
    text = text.replace("\nhttp_port 3128\n", f"\nhttp_port 127.0.0.1:{port}\n")
    with _squid_of(f"{text}\nshutdown_lifetime 0 seconds\n", folder, port) as standing:
        yield replace(standing, url=urls[0])


def _nothing() -> None:
    """Where nobody reloads."""


DEFAULTS: Final = {
    "nginx-behind-nginx": nginx_behind_nginx_defaults, "haproxy": haproxy_defaults, "caddy": caddy_defaults,
    "caddy-encode": caddy_compressing, "apache": apache_defaults, "squid": squid_defaults,
}  # fmt: skip

#: By name, in the order of the table.
SETUPS: Final = {
    "nginx-defaults": nginx_defaults, "nginx": nginx, "nginx-behind-nginx": nginx_behind_nginx,
    "haproxy": haproxy, "haproxy-http2": haproxy_http2, "caddy": caddy, "apache": apache,
    "squid": squid, "squid-tunnel": squid_tunnel,
}  # fmt: skip


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _is_root() -> bool:
    return os.geteuid() == 0


def _open_to_all(folder: Path) -> None:
    """Squid gives root's rights away before it opens its files."""
    if not _is_root():
        return
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o777 == 0o700:
            parent.chmod(0o711)


def _replaced(process: Guarded, sign: signal.Signals) -> None:
    """Sends the signal; returns once there is a new worker process."""
    before = _children(process.pid)
    os.kill(process.pid, sign)
    _until(lambda: bool(_children(process.pid) - before), "a worker of the new configuration")


def _children(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 3 * PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            # No TimeoutError: whoever watches takes that for the end of its own time.
            raise RuntimeError(f"did not come: {what}")
        time.sleep(0.02)
