"""Which Redis a URL means: one server, a Cluster, or a primary that Sentinels name."""

import pytest

from progress_stream.addresses import Address, BadAddress, Cluster, Sentinels, Server, where
from progress_stream.errors import InvalidSetting
from progress_stream.settings import load


def test_a_cluster_is_some_of_its_nodes() -> None:
    """Account, TLS and options are each node's."""
    found = where("rediss+cluster://me:p%40ss@one:7000,[::1]:7001,two?ssl_ca_certs=/ca.pem")

    assert isinstance(found, Cluster)
    assert (Address("one", 7000), Address("::1", 7001), Address("two", 6379)) == found.hosts
    assert "rediss://me:p%40ss@[::1]:7001/0?ssl_ca_certs=/ca.pem" == found.url_of(found.hosts[1])


def test_sentinels_name_a_primary_and_have_an_account_of_their_own() -> None:
    """What is theirs is not told to the server that they name."""
    found = where("redis+sentinel://:hush@a,b:5000/main/3?sentinel_password=x%20y&socket_keepalive=true")

    assert isinstance(found, Sentinels)
    assert (Address("a", 26379), Address("b", 5000)) == found.hosts
    assert ("main", 3) == (found.name, found.database)
    assert "redis://:hush@h:6379/3?socket_keepalive=true" == found.url_of(Address("h", 6379))
    assert "redis://:x%20y@a:26379/0?socket_keepalive=true" == found.sentinel_url(found.hosts[0])


def test_a_url_with_another_database_is_the_same_but_for_that() -> None:
    """The broker's, next to the store's."""
    url = "rediss+sentinel://me:p%40ss@a,b:5000/main/3?sentinel_username=s&sentinel_password=x%20y"
    found = where(url)

    assert isinstance(found, Sentinels)
    again = where(found.with_database(4))
    assert isinstance(again, Sentinels)
    assert found.url_of(found.hosts[0]).replace("/3", "/4") == again.url_of(again.hosts[0])
    assert found.sentinel_url(found.hosts[0]) == again.sentinel_url(again.hosts[0])


@pytest.mark.parametrize(
    ("url", "database"),
    [("redis://h", 0), ("rediss://h/7", 7), ("unix:///s?db=2", 2), ("redis://h/?db=4", 4)],
)
def test_one_server(url: str, database: int) -> None:
    """As redis-py reads it."""
    assert Server(url, database) == where(url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("host:6379", "is not a URL of Redis"),
        ("http://host", "the scheme 'http' is not supported"),
        ("redis+other://host", "the scheme 'redis\\+other' is not supported"),
        ("unix+cluster://host", "is not supported"),
        ("redis+cluster://", "a host that is none"),
        ("redis+cluster://:hush@a,,b", "a host that is none"),
        ("redis+cluster://:hush@a:99999", "a port that is none"),
        ("redis+cluster://a b:7000", "a host that is none"),
        ("redis+cluster://:hush@a/3", "a Redis Cluster has none but 0"),
        ("redis+sentinel://:hush@a,b", "does not name the primary"),
        ("redis+sentinel://a/main/x", "a database that is no number"),
        ("redis://:hush@a:99999", "is not a usable Redis URL"),
        ("redis://a/x", "a database that is no number"),
    ],
)
def test_what_is_wrong_is_said_and_the_password_is_not(url: str, fault: str) -> None:
    """With an example of what is allowed."""
    with pytest.raises(BadAddress, match=rf"{fault}.*; allowed: .*\w+://") as caught:
        where(url)

    assert "hush" not in str(caught.value)


def test_what_is_shown_of_a_group_is_its_hosts_alone() -> None:
    """It may get into a log or a traceback."""
    assert "Sentinels(a:26379, b:1)" == repr(where("redis+sentinel://:hush@a,b:1/main?sentinel_password=x"))


@pytest.mark.parametrize(
    ("store", "broker", "fault"),
    [
        ("redis+cluster://a,b", None, "has no second database"),
        ("redis+cluster://a,b:7000", "redis://b:7000/1", "is the store's own database"),
        ("redis://a/0", "redis+cluster://b", "is a Redis Cluster, where Dramatiq's scripts do not run"),
        ("redis+sentinel://a,b/main", "redis+sentinel://b,c/main/0", "is the store's own database"),
    ],
)
def test_a_broker_that_cannot_be_is_refused(store: str, broker: str | None, fault: str) -> None:
    """A Cluster has one database, and Dramatiq's keys lie in many slots."""
    with pytest.raises(InvalidSetting, match=rf"BROKER_URL: .*{fault}.*allowed: "):
        load(redis_url=store, broker_url=broker)


@pytest.mark.parametrize(
    ("store", "broker", "expected"),
    [
        ("redis+sentinel://a/main", None, "redis+sentinel://a:26379/main/1"),
        ("redis+sentinel://a/main", "redis+sentinel://a/other", "redis+sentinel://a/other"),
        ("redis+cluster://a:7000", "redis://a:6379/0", "redis://a:6379/0"),
    ],
)
def test_a_broker_that_can_be(store: str, broker: str | None, expected: str) -> None:
    """The next database of what the same Sentinels name, or another server."""
    assert expected == load(redis_url=store, broker_url=broker).effective_broker_url
