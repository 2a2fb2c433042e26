"""Keys from files, URLs and issuers: rotated while running, never lost, never from elsewhere."""

import asyncio
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc.errors import SecurityWarning

from progress_stream.auth import keys as keys_module
from progress_stream.auth.keys import (
    FIRST_RETRY_SECONDS,
    MAX_SET_BYTES,
    REFETCH_SECONDS,
    TTL_SECONDS,
    KeysUnavailable,
    KeyUrl,
    parse_set,
)
from progress_stream.auth.verify import Verifier
from progress_stream.errors import InvalidSetting, NotAuthenticated

from .issuer import NOW, KeyServer, SigningKey, claims, ec_key, ed_key, key_set, number, rsa_key

Make = Callable[..., Verifier]


async def passes(verifier: Verifier, key: SigningKey, now: float = NOW, **changes: object) -> bool:
    """Whether a fresh token of this key is taken."""
    token = key.token(claims(exp=NOW + 100_000, jti=os.urandom(8).hex(), **changes))
    try:
        await verifier.verify(token, now)
    except NotAuthenticated:
        return False
    return True


async def settled(verifier: Verifier) -> None:
    """Waits for a fetch that nobody else waits for."""
    assert isinstance(verifier._source, KeyUrl)
    while verifier._source._is_under_way():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "Expecting value"),
        (b"[]", "is not an object"),
        (b"{}", "is not a JWK Set"),
        (b'{"keys": {}}', "is not a JWK Set"),
        (b'{"keys": []}', "holds no key"),
        (
            b'{"keys": [1, null, {}, {"kty": 5}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}]}',
            "no key",
        ),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}', "holds no key"),
        (b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}]}', "holds no key"),
        (b'{"keys": [], "more": "' + b"x" * MAX_SET_BYTES + b'"}', "is larger"),
        (b"[" * 60_000, "nested"),
    ],
)
def test_a_set_without_a_usable_key_is_refused(data: bytes, fault: str) -> None:
    """Secrets, broken keys and points off the curve are none."""
    with pytest.raises(ValueError, match=fault):
        parse_set(data)


def test_keys_that_are_not_understood_are_passed_over() -> None:
    """RFC 7517 §5: one new or weak key must not take the others away."""
    with pytest.warns(SecurityWarning, match="2048 bits"):
        keys = parse_set(key_set({"kty": "AKP", "alg": "ML-DSA-44"}, rsa_key("weak", 1024), rsa_key("good")))

    assert ["good"] == [key.kid for key in keys]


def test_of_a_set_with_private_halves_only_the_public_ones_are_read() -> None:
    """Somebody will configure the wrong file."""
    key = ec_key()
    secret = key.private.private_numbers().private_value  # type: ignore[union-attr]
    (read,) = parse_set(key_set(key.public(d=number(secret, 32))))

    assert not read.material.is_private


@pytest.mark.contract("JWKS")
async def test_a_file_that_is_changed_is_read_again(verifier: Make, tmp_path: Path) -> None:
    """The new key passes, the old one does not any more, also with a token that was proved before."""
    old, new = rsa_key("old"), ed_key("new")
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(old))
    verify = verifier(jwks=str(path))
    proved = old.token(claims())
    await verify.verify(proved, NOW)
    path.write_bytes(key_set(new))

    assert (True, False) == (await passes(verify, new), await passes(verify, old))
    with pytest.raises(NotAuthenticated):
        await verify.verify(proved, NOW)


async def test_a_mounted_secret_that_is_swapped_is_read_again(verifier: Make, tmp_path: Path) -> None:
    """Kubernetes changes a link; times and sizes may be the same."""
    old, new = ec_key("k"), ec_key("k")
    for name, key in (("a", old), ("b", new)):
        (tmp_path / name).write_bytes(key_set(key))
        os.utime(tmp_path / name, (NOW, NOW))
    link = tmp_path / "keys.json"
    link.symlink_to("a")
    verify = verifier(jwks=str(link))
    assert await passes(verify, old)
    (tmp_path / "next").symlink_to("b")
    (tmp_path / "next").rename(link)

    assert (True, False) == (await passes(verify, new), await passes(verify, old))


async def test_a_file_that_is_broken_or_gone_takes_no_key_away(
    verifier: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault is logged once, without the file's content, and the next good file is taken."""
    old, new = ec_key("old"), ec_key("new")
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(old))
    verify = verifier(jwks=str(path))
    path.write_bytes(b'{"keys": [{"kty": "half')

    assert [True, True] == [await passes(verify, old), await passes(verify, old)]
    assert 1 == len(caplog.records) and "half" not in caplog.text
    path.unlink()
    assert [True, True] == [await passes(verify, old), await passes(verify, old)]
    assert 2 == len(caplog.records)
    path.write_bytes(key_set(new))
    assert (True, False) == (await passes(verify, new), await passes(verify, old))


def test_a_file_that_is_wrong_from_the_start_stops_the_start(verifier: Make, tmp_path: Path) -> None:
    """With the fault, and no word of the content."""
    path = tmp_path / "keys.json"
    path.write_bytes(b'{"keys": ["tell-nobody"]}')

    with pytest.raises(InvalidSetting, match="holds no key") as refused:
        verifier(jwks=str(path))

    assert "tell-nobody" not in str(refused.value)


@pytest.mark.contract("Tokens", "JWKS")
async def test_keys_come_by_url_and_an_unknown_one_is_asked_for(verifier: Make, server: KeyServer) -> None:
    """A rotation is noticed by its first token, not by a restart."""
    old, new = rsa_key("old"), rsa_key("new")
    verify = verifier(jwks=server.answer("/keys", key_set(old)))
    assert await passes(verify, old)
    server.answer("/keys", key_set(old, new))

    assert await passes(verify, new, NOW + REFETCH_SECONDS)
    assert await passes(verify, old, NOW + REFETCH_SECONDS)
    assert 2 == len(server.asked)


async def test_a_key_changed_under_its_old_name_is_asked_for_too(verifier: Make, server: KeyServer) -> None:
    """Some issuers never change the kid, some have none."""
    for kid in ("same", None):
        old, new = ed_key(kid), ed_key(kid)
        verify = verifier(jwks=server.answer("/keys", key_set(old)))
        assert await passes(verify, old)
        server.answer("/keys", key_set(new))

        assert await passes(verify, new, NOW + REFETCH_SECONDS)
        assert not await passes(verify, old, NOW + REFETCH_SECONDS)


async def test_forged_tokens_cost_the_issuer_one_request_in_thirty_seconds(
    verifier: Make, server: KeyServer
) -> None:
    """However many there are."""
    good, evil = ec_key("good"), ec_key("evil")
    verify = verifier(jwks=server.answer("/keys", key_set(good)))
    assert await passes(verify, good)
    for second in range(2 * REFETCH_SECONDS):
        assert not await passes(verify, evil, NOW + second)

    assert 2 == len(server.asked)


async def test_many_that_wait_for_keys_share_one_request(verifier: Make, server: KeyServer) -> None:
    """Also when the first of them goes away."""
    key = ed_key()
    verify = verifier(jwks=server.answer("/keys", key_set(key)))
    server.open.clear()
    waiting = [asyncio.create_task(passes(verify, key)) for _ in range(20)]
    await asyncio.sleep(0.1)
    waiting[0].cancel()
    server.open.set()

    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert [True] * 19 == answers[1:]
    assert 1 == len(server.asked)


async def test_a_withdrawn_key_stops_working(verifier: Make, server: KeyServer) -> None:
    """Keys in use are asked for again in the background: nobody waits, and what was proved is proved again."""
    old, new = ec_key("old"), ec_key("new")
    verify = verifier(jwks=server.answer("/keys", key_set(old, new)))
    token = old.token(claims(exp=NOW + 100_000))
    await verify.verify(token, NOW)
    server.answer("/keys", key_set(new))
    server.open.clear()

    await asyncio.wait_for(verify.verify(token, NOW + TTL_SECONDS), 1)
    server.open.set()
    await settled(verify)
    with pytest.raises(NotAuthenticated):
        await verify.verify(token, NOW + TTL_SECONDS)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, key_set(ec_key())),
        (302, {"Location": "/elsewhere"}, b""),
        (200, {}, b"not json"),
        (200, {}, b'{"keys": []}'),
        (200, {}, b" " * MAX_SET_BYTES + key_set(ec_key())),
        (200, {"Content_Encoding": "gzip"}, gzip.compress(key_set(ec_key()))),
        (200, {"Content_Length": "100000"}, key_set(ec_key())),
    ],
)
async def test_an_answer_that_is_no_set_takes_no_key_away(
    verifier: Make, server: KeyServer, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Errors, redirects, floods and compressed bodies: the keys that are known stay in use."""
    key = ec_key("mine")
    verify = verifier(jwks=server.answer("/keys", key_set(key)))
    assert await passes(verify, key)
    server.answer("/elsewhere", key_set(ec_key("elsewhere")))
    server.answer("/keys", body, status, **headers)

    assert not await passes(verify, ec_key("other"), NOW + REFETCH_SECONDS)
    assert await passes(verify, key, NOW + REFETCH_SECONDS)
    assert ["/keys", "/keys"] == server.asked


async def test_a_server_that_never_answers_is_given_up(
    verifier: Make, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any key nobody is called forged: it is said that the keys are not there, and they are asked for again."""
    monkeypatch.setattr(keys_module, "FETCH_SECONDS", 1.0)
    key = ec_key()
    verify = verifier(jwks=server.answer("/keys", key_set(key)))
    server.open.clear()

    with pytest.raises(KeysUnavailable):
        await passes(verify, key)
    with pytest.raises(KeysUnavailable):
        await passes(verify, key, NOW + 1)
    assert 1 == len(server.asked)
    server.open.set()
    assert await passes(verify, key, NOW + FIRST_RETRY_SECONDS)


async def test_keys_outlive_their_server(
    verifier: Make, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says that no new ones come."""
    key = ec_key()
    verify = verifier(jwks=server.answer("/keys", key_set(key)))
    assert await passes(verify, key)
    server.answers.clear()

    for later in (TTL_SECONDS, 2 * TTL_SECONDS, 50 * TTL_SECONDS):
        assert await passes(verify, key, NOW + later)
        await settled(verify)
    assert "PROGRESS_STREAM_JWKS: no new keys (answered 404); 1 known ones stay in use" in caplog.text


@pytest.mark.contract("JWT_ISSUER")
async def test_an_issuer_says_where_its_keys_are(verifier: Make, server: KeyServer) -> None:
    """OpenID Connect Discovery, with the issuer's name compared in the document and in each token."""
    key = rsa_key()
    document = {"issuer": server.url, "jwks_uri": server.answer("/k", key_set(key))}
    server.answer("/.well-known/openid-configuration", json.dumps(document).encode())
    verify = verifier(jwt_issuer=server.url)

    assert await passes(verify, key, iss=server.url)
    assert not await passes(verify, key, iss="https://other.example")
    assert not await passes(verify, key)
    assert ["/.well-known/openid-configuration", "/k"] == server.asked[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 5},
        {"jwks_uri": "http://other.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_a_discovery_document_of_another_is_refused(
    verifier: Make, server: KeyServer, changes: dict[str, object]
) -> None:
    """Nor does it send us to a place where keys may not come from."""
    key = rsa_key()
    document = {"issuer": server.url, "jwks_uri": server.answer("/k", key_set(key)), **changes}
    server.answer("/.well-known/openid-configuration", json.dumps(document).encode())

    with pytest.raises(KeysUnavailable):
        await passes(verifier(jwt_issuer=server.url), key, iss=server.url)
    assert ["/.well-known/openid-configuration"] == server.asked


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/k", "https://localhost/k", "https://[::1]/k"])
async def test_an_issuer_elsewhere_cannot_send_us_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A document of theirs must not make us ask a service that only we can reach."""
    asked: list[str] = []
    document = {"issuer": "https://id.example", "jwks_uri": place}

    async def theirs(url: str) -> bytes:
        asked.append(url)
        return key_set(rsa_key()) if url == place else json.dumps(document).encode()

    monkeypatch.setattr(keys_module, "_get", theirs)

    with pytest.raises(KeysUnavailable):
        await KeyUrl(issuer="https://id.example").current(NOW)
    assert ["https://id.example/.well-known/openid-configuration"] == asked


async def test_a_flood_is_cut_off_while_it_is_read(server: KeyServer) -> None:
    """And not when it is in memory."""
    url = server.answer("/keys", b" " * 50 * MAX_SET_BYTES)

    with pytest.raises(ValueError, match="more than"):
        await keys_module._get(url)


def test_a_source_can_be_used_by_one_loop_after_another(verifier: Make, server: KeyServer) -> None:
    """A loop that ended in the middle of a fetch leaves nothing to wait for."""
    key = ec_key()
    verify = verifier(jwks=server.answer("/keys", key_set(key)))
    server.open.clear()

    async def begin() -> None:
        task = asyncio.create_task(passes(verify, key))
        await asyncio.sleep(0.1)
        task.cancel()

    asyncio.run(begin())
    server.open.set()

    assert asyncio.run(passes(verify, key, NOW + FIRST_RETRY_SECONDS))
