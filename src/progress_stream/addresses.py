"""Where a Redis URL leads: to one server, to a Cluster, or to a primary that Sentinels name. Pure; connects to nothing.

What a server's own URL may say (options, TLS files) is redis-py's to read; each server of a group is given it from the group's URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

#: The kinds of URL that are understood, and an example of each for the error message.
SCHEMES: Final = {
    "redis": "redis://host:6379/0",
    "rediss": "rediss://host:6379/0",
    "unix": "unix:///path/to/socket?db=0",
    "redis+cluster": "redis+cluster://host:6379,host:6379",
    "redis+sentinel": "redis+sentinel://host:26379,host:26379/master/0",
}
EXAMPLES: Final = ", ".join(SCHEMES.values())
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
#: Options of a Sentinel's own; all others are for the server that it names.
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
_HOST: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?").fullmatch


class BadAddress(ValueError):
    """What is wrong with a URL, without the URL: it may hold a password."""

    def __init__(self, fault: str, allowed: str = EXAMPLES) -> None:
        self.fault = fault
        self.allowed = allowed
        super().__init__(f"{fault}; allowed: {allowed}")


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Server:
    """One server, or one address behind which a provider changes servers."""

    url: str
    database: int


@dataclass(frozen=True, slots=True)
class Group:
    """Servers that share an account, TLS settings and options. No representation: it would show a password."""

    hosts: tuple[Address, ...]
    tls: bool
    account: str
    options: str

    def url_of(self, address: Address) -> str:
        """The URL of one of the servers."""
        return _url(self.tls, self.account, address, 0, self.options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.hosts))})"


@dataclass(frozen=True, slots=True, repr=False)
class Cluster(Group):
    """A Redis Cluster, known by some of its nodes. It has one database."""

    database: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Sentinels(Group):
    """A primary by its name. `hosts` are the Sentinels, which may have an account of their own."""

    name: str = ""
    database: int = 0
    sentinel_account: str = ""

    def url_of(self, address: Address) -> str:
        return _url(self.tls, self.account, address, self.database, self.options)

    def sentinel_url(self, address: Address) -> str:
        return _url(self.tls, self.sentinel_account, address, 0, self.options)

    def with_database(self, number: int) -> str:
        """This URL with another database."""
        scheme = "rediss+sentinel" if self.tls else "redis+sentinel"
        hosts = ",".join(map(str, self.hosts))
        user, _, password = self.sentinel_account.partition(":")
        own = dict(zip(_SENTINEL_OPTIONS, (unquote(user), unquote(password)), strict=True))
        options = "&".join(
            filter(None, (self.options, urlencode({name: value for name, value in own.items() if value})))
        )
        account = f"{self.account}@" if self.account else ""
        path = f"/{quote(self.name, safe='')}/{number}"
        return f"{scheme}://{account}{hosts}{path}" + (f"?{options}" if options else "")


Where = Server | Cluster | Sentinels


def where(url: str) -> Where:
    """Raises BadAddress."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.removeprefix("rediss+") not in {*SCHEMES, "cluster", "sentinel"}:
        raise BadAddress(f"the scheme {scheme[:20]!r} is not supported" if found else "is not a URL of Redis")
    if "+" not in scheme:
        return Server(url, _database_of_server(url, scheme))
    authority, path, query = _split(rest)
    account, _, hosts = authority.rpartition("@")
    tls = scheme.startswith("rediss")
    if scheme.endswith("cluster"):
        if path.strip("/") not in ("", "0"):
            raise BadAddress("names a database, and a Redis Cluster has none but 0", SCHEMES["redis+cluster"])
        return Cluster(_addresses(hosts, REDIS_PORT, SCHEMES["redis+cluster"]), tls, account, query)
    return _sentinels(hosts, path, tls, account, query)


def database_of(url: str) -> int:
    """The number of the database that a Redis URL names; 0 where it names none. Raises BadAddress."""
    return where(url).database


def _split(rest: str) -> tuple[str, str, str]:
    """Authority, path and query. urlsplit would look for one host and one port."""
    before, _, query = rest.partition("#")[0].partition("?")
    authority, _, path = before.partition("/")
    return authority, path, query


def _sentinels(hosts: str, path: str, tls: bool, account: str, query: str) -> Sentinels:
    example = SCHEMES["redis+sentinel"]
    name, _, database = path.partition("/")
    if not name:
        raise BadAddress("does not name the primary", example)
    if not re.fullmatch(r"[0-9]{0,6}", database, re.ASCII):
        raise BadAddress("names a database that is no number", example)
    options = parse_qsl(query, keep_blank_values=True)
    own = dict(options)
    sentinel_account = ":".join(quote(own.get(option, ""), safe="") for option in _SENTINEL_OPTIONS)
    return Sentinels(
        _addresses(hosts, SENTINEL_PORT, example), tls, account,
        urlencode([one for one in options if one[0] not in _SENTINEL_OPTIONS]),
        unquote(name), int(database or 0), sentinel_account if len(sentinel_account) > 1 else "",
    )  # fmt: skip


def _addresses(text: str, port: int, example: str) -> tuple[Address, ...]:
    found = []
    for one in text.split(","):
        match = _HOST(one)
        if match is None or not 0 < int(match["port"] or port) < 65_536:
            raise BadAddress("names a host that is none, or a port that is none", example)
        found.append(Address(match["host"].strip("[]"), int(match["port"] or port)))
    return tuple(found)


def _url(tls: bool, account: str, address: Address, database: int, options: str) -> str:
    before = f"{account}@" if account else ""
    url = f"{'rediss' if tls else 'redis'}://{before}{address}/{database}"
    return f"{url}?{options}" if options else url


def _database_of_server(url: str, scheme: str) -> int:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - parsed, and refused, on access
    except ValueError:
        raise BadAddress("is not a usable Redis URL") from None
    if scheme == "unix" and (parts.hostname or not parts.path.startswith("/")):
        raise BadAddress("names no absolute path of a socket", SCHEMES["unix"])
    match = re.search(r"(?:^|&)db=(\d+)", parts.query)
    text = match[1] if match else ("" if scheme == "unix" else parts.path.strip("/"))
    if text and not text.isdigit():
        raise BadAddress("names a database that is no number", "redis://host:port/0")
    return int(text or 0)
