"""Genuine tokens pass, all others do not, and nothing of them is told."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progress_stream.auth import verify as verify_module
from progress_stream.auth.claims import LEEWAY_SECONDS, MAX_TOKEN_BYTES
from progress_stream.auth.verify import Verifier, sign
from progress_stream.auth.who import READ, WRITE, Who
from progress_stream.errors import InvalidInput, InvalidSetting, NotAuthenticated, TokenExpired
from progress_stream.settings import load

from .issuer import (
    NOW,
    SECRET,
    SigningKey,
    b64,
    claims,
    ec_key,
    ed_key,
    hs256,
    hs_token,
    key_set,
    raw_token,
    rsa_key,
)

Make = Callable[..., Verifier]


async def refusal(verifier: Verifier, token: str, now: float = NOW) -> NotAuthenticated:
    """Why the token does not pass; not because it has run out."""
    with pytest.raises(NotAuthenticated) as refused:
        await verifier.verify(token, now)
    assert not isinstance(refused.value, TokenExpired)
    return refused.value


@pytest.mark.contract("Tokens")
async def test_a_token_signed_with_the_secret_tells_who_asks(verifier: Make) -> None:
    """Subject, scopes and end are the token's; scopes that are not ours are left out."""
    token = hs_token(claims(scope="jobs:read openid jobs:write"))

    expected = Who("alice", frozenset({READ, WRITE}), float(NOW + 600))
    assert expected == await verifier(jwt_secret=SECRET).verify(token, NOW)


@pytest.mark.contract("JWT_SECRET")
async def test_our_own_tokens_pass(verifier: Make) -> None:
    """What the command line signs is what the server takes, also with an issuer, an audience and another claim."""
    named: dict[str, Any] = {"issuer": "us", "audience": "here", "owner_claim": "email"}
    token = sign(SECRET, "alice@example.org", "jobs:read", 60, now=NOW, **named)
    strict = verifier(jwt_secret=SECRET, jwt_issuer="us", jwt_audience="here", owner_claim="email")

    expected = Who("alice@example.org", frozenset({READ}), float(NOW + 60))
    assert expected == await strict.verify(token, NOW)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scopes": "jobs:read jobs:fly"}, "scope"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 10**12}, "token"),
        ({"subject": ""}, "token"),
        ({"subject": "a\ud800"}, "token"),
        ({"secret": "short"}, "PROGRESS_STREAM_JWT_SECRET"),
    ],
)
def test_no_token_is_made_that_would_be_refused(changes: dict[str, Any], field: str) -> None:
    """The fault is named when the token is made and not when it is used."""
    arguments = {
        "secret": SECRET,
        "subject": "alice",
        "scopes": "jobs:read",
        "seconds": 60,
        "now": NOW,
        **changes,
    }

    with pytest.raises(InvalidInput) as refused:
        sign(**arguments)

    assert field == refused.value.field


@pytest.mark.contract("Tokens")
@pytest.mark.parametrize("make", [rsa_key, ec_key, ed_key])
async def test_a_token_signed_with_a_key_of_the_set_passes(verifier: Make, tmp_path: Path, make: Any) -> None:
    """RS256, ES256 and EdDSA, among other keys, without a word of warning."""
    key: SigningKey = make()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(rsa_key("other"), ed_key("more"), key))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        who = await verifier(jwks=str(path)).verify(key.token(claims()), NOW)

    assert "alice" == who.subject


@pytest.mark.parametrize("configured", [(), ("EdDSA",), ("Ed25519",)])
@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("in_set", [None, "EdDSA", "Ed25519"])
async def test_both_names_of_eddsa_are_one_algorithm(
    verifier: Make, tmp_path: Path, configured: tuple[str, ...], name: str, in_set: str | None
) -> None:
    """RFC 9864 renamed it; settings, sets and tokens may each use either."""
    key = ed_key()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(key.public() if in_set is None else key.public(alg=in_set)))
    strict = verifier(jwks=path.as_uri(), jwt_algorithms=configured)

    assert "alice" == (await strict.verify(key.token(claims(), alg=name), NOW)).subject


async def test_a_token_without_a_kid_is_tried_with_every_key_that_fits(
    verifier: Make, tmp_path: Path
) -> None:
    """A kid is optional (RFC 7515 §4.1.4), and in the middle of a rotation there are two keys."""
    key = ec_key()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(ec_key("old"), rsa_key("r"), key))
    bare = SigningKey(key.private, kid=None)

    assert "alice" == (await verifier(jwks=str(path)).verify(bare.token(claims()), NOW)).subject


async def test_secret_and_set_stand_side_by_side_and_never_mix(verifier: Make, tmp_path: Path) -> None:
    """Each algorithm has keys of its kind only: the public key as an HMAC secret is the oldest forgery of all."""
    key = rsa_key()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(key, {"kty": "oct", "k": b64(b"x" * 32), "kid": "oct"}))
    both = verifier(jwks=str(path), jwt_secret=SECRET)
    pem = key.public_pem()

    for token in (hs_token(claims()), key.token(claims())):
        assert "alice" == (await both.verify(token, NOW)).subject
    for forged in (hs_token(claims(), pem, kid="k1"), hs_token(claims(), "x" * 32, kid="oct")):
        await refusal(both, forged)


ATTACKER = rsa_key("evil")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"alg": "PS256"},
        {"alg": ["RS256"]},
        {"alg": None},
        {"kid": 5},
        {"kid": "k1", "jwk": ATTACKER.public()},
        {"kid": "evil", "jwk": ATTACKER.public()},
        {"kid": "evil", "jku": "http://127.0.0.1:9/keys"},
        {"kid": "evil", "x5u": "http://127.0.0.1:9/cert"},
        {"kid": "evil", "x5c": ["MIIB"]},
        {"kid": "../../../../dev/null"},
        {"crit": ["exp"], "exp": NOW},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"zip": "DEF", "enc": "A256GCM", "alg": "RSA-OAEP"},
    ],
)
async def test_no_header_talks_us_into_anything(
    verifier: Make, tmp_path: Path, header: dict[str, Any]
) -> None:
    """Algorithms are the configured ones and keys come from the set alone, whatever a token brings along."""
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(rsa_key()))

    await refusal(verifier(jwks=str(path)), ATTACKER.token(claims(), **header))


@pytest.mark.parametrize(
    "header", [{"crit": ["b64"], "b64": False}, {"b64": True}, {"crit": ["alg"]}, {"crit": []}, {"kid": 1}]
)
async def test_a_genuine_signature_does_not_excuse_an_extension(
    verifier: Make, header: dict[str, Any]
) -> None:
    """RFC 7515 §4.1.11: what is critical and not understood is refused."""
    await refusal(verifier(jwt_secret=SECRET), hs_token(claims(), **header))


async def test_what_a_genuine_token_says_of_keys_is_not_looked_at(verifier: Make) -> None:
    """Some issuers put `jku` into every token; it is no fault and no help."""
    token = hs_token(claims(), jku=7, x5c="no list", typ="at+jwt", of_their_own={"a": 1})

    assert "alice" == (await verifier(jwt_secret=SECRET).verify(token, NOW)).subject


@pytest.mark.contract("JWT_ALGORITHMS")
async def test_an_algorithm_that_is_not_configured_never_passes(verifier: Make, tmp_path: Path) -> None:
    """Though the key of the set has really signed it."""
    key = ec_key()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(key, rsa_key("r")))

    await refusal(verifier(jwks=str(path), jwt_algorithms=("RS256",)), key.token(claims()))


@pytest.mark.parametrize(
    "changes",
    [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}, {"kid": "other"}],
)
async def test_a_key_is_used_for_what_it_is_for(
    verifier: Make, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """One for encryption, or for another algorithm, or of another name checks no token."""
    key = rsa_key()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(key.public(**changes), ed_key("spare")))

    await refusal(verifier(jwks=str(path)), key.token(claims()))


async def test_a_signature_that_was_tampered_with_does_not_pass(verifier: Make) -> None:
    """Every part counts: header, claims, signature, and the signature's unused last bits."""
    good = hs_token(claims())
    header, payload, signature = good.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    unused_bits = signature[:-1] + last[last.index(signature[-1]) ^ 1]
    verify = verifier(jwt_secret=SECRET)

    for forged in (
        f"{b64(json.dumps({'alg': 'HS256', 'a': 1}).encode())}.{payload}.{signature}",
        f"{header}.{b64(json.dumps(claims(sub='bob')).encode())}.{signature}",
        f"{header}.{payload}.{signature[:-4]}",
        f"{header}.{payload}.{unused_bits}",
        f"{header}.{payload}.{signature}=",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{good}.{signature}",
        f" {good}",
        f"{good}\n",
        good.replace(".", "․", 1),
    ):
        await refusal(verify, forged)


@pytest.mark.parametrize(
    "payload",
    [
        claims(exp=None),
        claims(exp=True),
        claims(exp=str(NOW + 600)),
        claims(exp=[NOW + 600]),
        claims(exp={}),
        claims(exp=-1),
        claims(exp=(NOW + 600) * 1000),
        claims(exp=10**400),
        claims(sub=None),
        claims(sub=""),
        claims(sub=7),
        claims(sub=["alice"]),
        claims(sub="\ud800"),
        claims(sub="a" * 513),
        claims(scope=["jobs:read"]),
        claims(scope={"jobs:read": True}),
        claims(nbf=NOW + LEEWAY_SECONDS + 1),
        claims(nbf="soon"),
        claims(nbf=True),
        b'{"sub":"alice","exp":NaN}',
        b'{"sub":"alice","exp":Infinity}',
        b'{"sub":"alice","exp":1e400}',
        b'{"sub":"alice","exp":' + b"9" * 5000 + b"}",
        b'{"sub":"bob","sub":"alice","exp":1800000600}',
        b'{"sub":"alice","exp":1800000600,"a":{"b":1,"b":2}}',
        b'["sub","exp"]',
        b'"alice"',
        b"null",
        b"[" * 6000,
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"sub":"alice","exp":1800000600}',
        b'{"sub":"\xff","exp":1800000600}',
        b" ",
    ],
)
async def test_genuine_claims_that_make_no_sense_do_not_pass(
    verifier: Make, payload: dict[str, Any] | bytes
) -> None:
    """A signature proves who wrote them and not that they are fit for use."""
    await refusal(verifier(jwt_secret=SECRET), hs_token(payload))


@pytest.mark.parametrize(
    "header", [b'{"alg":"none","alg":"HS256"}', b"[" * 3000, b'["alg"]', b'"alg"', b"\xff", b"7"]
)
async def test_a_header_that_two_readers_could_read_differently_does_not_pass(
    verifier: Make, header: bytes
) -> None:
    """A name given twice above all."""
    await refusal(verifier(jwt_secret=SECRET), raw_token(header, json.dumps(claims()).encode(), hs256()))


async def test_a_token_that_is_too_long_is_refused_unread(verifier: Make) -> None:
    """Even one that is genuine."""
    await refusal(verifier(jwt_secret=SECRET), hs_token(claims(more="x" * MAX_TOKEN_BYTES)))


@pytest.mark.contract("JWT_ISSUER", "JWT_AUDIENCE")
@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"iss": "https://id.example", "aud": "jobs"}, True),
        ({"iss": "https://id.example", "aud": ["other", "jobs"]}, True),
        ({"iss": "https://id.example/", "aud": "jobs"}, False),
        ({"iss": ["https://id.example"], "aud": "jobs"}, False),
        ({"aud": "jobs"}, False),
        ({"iss": "https://id.example"}, False),
        ({"iss": "https://id.example", "aud": "job"}, False),
        ({"iss": "https://id.example", "aud": "jobs2"}, False),
        ({"iss": "https://id.example", "aud": {"jobs": 1}}, False),
        ({"iss": "https://id.example", "aud": []}, False),
    ],
)
async def test_issuer_and_audience_are_checked_where_configured(
    verifier: Make, changes: dict[str, Any], passes: bool
) -> None:
    """Exactly, and as a whole; where they are not configured they do not matter."""
    token = hs_token(claims(**changes))
    strict = verifier(jwt_secret=SECRET, jwt_issuer="https://id.example", jwt_audience="jobs")

    assert "alice" == (await verifier(jwt_secret=SECRET).verify(token, NOW)).subject
    if passes:
        assert "alice" == (await strict.verify(token, NOW)).subject
    else:
        await refusal(strict, token)


@pytest.mark.contract("OWNER_CLAIM")
async def test_another_claim_can_name_the_owner(verifier: Make) -> None:
    """Then that one is required."""
    verify = verifier(jwt_secret=SECRET, owner_claim="email")

    assert "a@b.c" == (await verify.verify(hs_token(claims(email="a@b.c")), NOW)).subject
    await refusal(verify, hs_token(claims()))


async def test_a_genuine_token_that_has_run_out_is_told_from_a_forged_one(verifier: Make) -> None:
    """Its caller is known and can be told to sign in again; clocks may differ by the leeway."""
    token = hs_token(claims(exp=NOW))
    verify = verifier(jwt_secret=SECRET)

    assert float(NOW) == (await verify.verify(token, NOW + LEEWAY_SECONDS - 1)).expires_at
    for _ in range(2):  # proved now, remembered then
        with pytest.raises(TokenExpired) as refused:
            await verify.verify(token, NOW + LEEWAY_SECONDS)
        assert "alice" == refused.value.who.subject
    await refusal(verify, hs_token(claims(exp=NOW), "another secret of thirty-two bytes."), NOW + 10_000)
    await refusal(verifier(jwt_secret=SECRET, jwt_audience="x"), hs_token(claims(exp=NOW)), NOW + 10_000)


@pytest.mark.contract("Tokens")
async def test_the_leeway_covers_a_token_from_a_clock_ahead(verifier: Make) -> None:
    """And `exp` may have a fraction."""
    token = hs_token(claims(nbf=NOW + LEEWAY_SECONDS, exp=NOW + 60.5))

    assert NOW + 60.5 == (await verifier(jwt_secret=SECRET).verify(token, NOW)).expires_at


async def test_a_token_is_proved_once(verifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that reconnects after a deploy costs a hash each and not a signature; memory holds no token."""
    verify = verifier(jwt_secret=SECRET)
    token = hs_token(claims())
    first = await verify.verify(token, NOW)
    monkeypatch.setattr(verify, "_prove", None)

    assert first is await verify.verify(token, NOW + 1)
    assert [32] == [len(key) for key in verify._proved._who]


async def test_memory_of_proved_tokens_is_bounded(verifier: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was used longest ago goes first; forged ones are not remembered."""
    monkeypatch.setattr(verify_module, "MAX_REMEMBERED", 2)
    verify = verifier(jwt_secret=SECRET)
    tokens = [hs_token(claims(sub=name)) for name in "abc"]
    for token in (tokens[0], tokens[1], tokens[0], tokens[2]):
        await verify.verify(token, NOW)
    await refusal(verify, tokens[0] + "A")

    assert ["a", "c"] == [who.subject for who in verify._proved._who.values()]


async def test_no_refusal_holds_the_token_or_a_key(verifier: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its text, nor what caused it, nor the log."""
    caplog.set_level("DEBUG")
    verify = verifier(jwt_secret=SECRET)
    for token in (
        hs_token(claims(sub="tell-nobody"), "wrong" * 10),
        hs_token(claims(aud="x", exp="tell-nobody")),
    ):
        error = await refusal(verify, token)

        told = f"{error!r} {error.__cause__!r} {error.__context__ if not error.__suppress_context__ else ''}"
        told += caplog.text
        for secret in (*token.split("."), SECRET, "tell-nobody"):
            assert secret not in told


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({}, "PROGRESS_STREAM_JWT_SECRET"),
        ({"jwt_secret": SECRET, "jwt_algorithms": ("RS256",)}, "PROGRESS_STREAM_JWT_ALGORITHMS"),
        ({"jwks": "https://id.example/keys", "jwt_algorithms": ("HS256",)}, "PROGRESS_STREAM_JWT_ALGORITHMS"),
        ({"jwks": "http://id.example/keys"}, "PROGRESS_STREAM_JWKS"),
        ({"jwks": "ftp://id.example/keys"}, "PROGRESS_STREAM_JWKS"),
        ({"jwks": "https://me:pass@id.example/keys"}, "PROGRESS_STREAM_JWKS"),
        ({"jwks": "https://"}, "PROGRESS_STREAM_JWKS"),
        ({"jwks": "https://[bad/keys"}, "PROGRESS_STREAM_JWKS"),
        ({"jwks": "/no/such/file"}, "PROGRESS_STREAM_JWKS"),
        ({"jwks": "/"}, "PROGRESS_STREAM_JWKS"),
        ({"jwt_issuer": "http://id.example"}, "PROGRESS_STREAM_JWT_ISSUER"),
        ({"jwt_issuer": "id.example"}, "PROGRESS_STREAM_JWT_ISSUER"),
    ],
)
def test_settings_that_could_prove_nothing_stop_the_start(
    verifier: Make, changes: dict[str, Any], setting: str
) -> None:
    """The setting is named."""
    with pytest.raises(InvalidSetting) as refused:
        verifier(**changes)

    assert setting == refused.value.field


@pytest.mark.contract("JWT_SECRET")
@pytest.mark.parametrize("secret", ["", "x" * 31, ed_key().public_pem()])
def test_a_secret_that_is_none_is_refused_and_not_told(verifier: Make, secret: str) -> None:
    """Too short to be one, or a public key by mistake."""
    with pytest.raises(InvalidSetting) as refused:
        verifier(jwt_secret=secret)

    assert "PROGRESS_STREAM_JWT_SECRET" == refused.value.field
    assert not secret or secret not in str(refused.value)


def test_an_issuer_beside_a_secret_is_compared_and_not_asked() -> None:
    """So it need not be a URL."""
    assert Verifier(load(jwt_secret=SECRET, jwt_issuer="us"))._source is None


GARBAGE = Verifier(load(jwt_secret=SECRET))
segments = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60).map(b64),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9), st.lists, max_leaves=9
    )
    .flatmap(
        lambda value: st.dictionaries(st.sampled_from(["alg", "kid", "exp", "sub", "crit"]), st.just(value))
    )
    .map(lambda value: b64(json.dumps(value).encode())),
    st.just(b64(b'{"alg":"HS256"}')),
)


@given(token=st.text(max_size=200) | st.lists(segments, max_size=6).map(".".join))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_garbage_is_refused_and_raises_nothing_else(token: str) -> None:
    """Whatever bytes come."""
    step = GARBAGE.verify(token, NOW)
    with pytest.raises(NotAuthenticated):
        step.send(None)  # nothing in it waits where there is only a secret


@given(
    payload=st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "scope", "iss", "aud", "iat"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=20),
            st.lists(st.text(max_size=5), max_size=3),
            st.just(NOW + 600),
        ),
    )
)
@settings(max_examples=300, deadline=None)
def test_signed_garbage_is_a_sound_caller_or_refused(payload: dict[str, Any]) -> None:
    """Who passes has a name that can be stored and a time that can be written."""
    step = GARBAGE.verify(hs_token(payload), NOW)
    try:
        step.send(None)
    except StopIteration as done:
        who: Who = done.value
        assert (
            who.subject.encode()
            and isinstance(who.expires_at, float)
            and who.expires_at > NOW - LEEWAY_SECONDS
        )
    except NotAuthenticated:
        pass
