"""Forged tokens against the served application, and an issuer that is slow, huge, elsewhere, or changes its keys in mid-stream.

What each token is refused for is in tests/unit/auth; here is that the server as a whole takes none, asks nobody else, and goes on.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.auth import keys
from progress_stream.settings import Settings
from tests.contract.test_list import make
from tests.support.loopback import Handler, Loopback
from tests.support.server import Site, serving
from tests.support.streams import EVENT_STREAM, follow
from tests.support.waiting import until
from tests.unit.auth.issuer import b64, hs256, hs_token, key_set, raw_token, rsa_key

KEY = rsa_key("k1")
EVIL = rsa_key("k1")
Guarded = Callable[..., Site]
#: Sends what it is told, and keeps no cookie.
CLIENT = httpx.Client(timeout=20, limits=httpx.Limits(max_keepalive_connections=0))


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones for now, changed."""
    return {"sub": "alice", "exp": int(time.time()) + 600, "scope": "jobs:read jobs:write", **changes}


def as_json(**changes: Any) -> bytes:
    return json.dumps(claims(**changes)).encode()


class Issuer(Loopback):
    """Serves a key set, in whatever way the test wants, and remembers who asked for what."""

    def __init__(self) -> None:
        self.keys = [KEY]
        self.asked: list[str] = []
        self.redirects_to = ""
        #: Set: the body never ends, in large or in small pieces.
        self.endless = b""
        self.pause_seconds = 0.0
        super().__init__(self._handler())

    def _handler(self) -> type[Handler]:
        issuer = self

        class Told(Handler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if issuer.redirects_to:
                    self.send_response(302)
                    self.send_header("Location", issuer.redirects_to)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                while issuer.endless:
                    self.wfile.write(issuer.endless)
                    time.sleep(issuer.pause_seconds)
                self.wfile.write(key_set(*issuer.keys))

        return Told


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """In times that a test can wait for."""
    for name, seconds in (
        ("REFETCH_SECONDS", 0.2),
        ("FIRST_RETRY_SECONDS", 0.1),
        ("FETCH_SECONDS", 0.5),
        ("TTL_SECONDS", 0.5),
    ):
        monkeypatch.setattr(keys, name, seconds)
    with Issuer() as issuer:
        yield issuer
        issuer.endless = b""


@pytest.fixture
def guarded(settings: Settings, redis_client: redis.Redis) -> Iterator[Guarded]:
    """Served with a key set and without a secret; `job-1` is alice's."""
    with ExitStack() as open_:

        def make_it(jwks: str, **changed: Any) -> Site:
            one = settings.model_copy(update={"jwt_secret": None, "jwks": jwks, **changed})
            site = Site(open_.enter_context(serving(create_app(one), one)), one, redis_client)
            make(site, "job-1").start()
            return site

        yield make_it


def status(site: Site, token: str, path: str = "/jobs/job-1") -> int:
    return CLIENT.get(site.url + path, headers={"Authorization": f"Bearer {token}"}).status_code


def forgeries(pem: str, folder: Path, listener: str) -> dict[str, str]:
    """By the name of the attack. Each would be alice's if it were believed."""
    none = b""
    by_header = {
        "none": {"alg": "none"},
        "None": {"alg": "NoNe"},
        "an empty algorithm": {"alg": ""},
        "a list of algorithms": {"alg": ["RS256"]},
        "a jku": {"jku": f"{listener}/jku", "kid": "evil"},
        "an x5u": {"x5u": f"{listener}/x5u", "kid": "evil"},
        "a jwk": {"jwk": EVIL.public(), "kid": "k1"},
        "an x5c": {"x5c": ["MIIB"]},
        "crit": {"crit": ["exp"]},
        "crit and b64": {"crit": ["b64"], "b64": False},
        "a kid that is a path": {"kid": "../../../../../../dev/null"},
        "a kid that is our file": {"kid": str(folder / "keys.json")},
        "a kid that is a URL": {"kid": f"{listener}/kid"},
        "a kid for a shell": {"kid": "k1;sleep 5|"},
        "a kid for SQL": {"kid": "x' OR '1'='1"},
        "a kid with a NUL": {"kid": "k1\0"},
        "a kid that is no text": {"kid": ["k1"]},
        "an encrypted one": {"alg": "RSA-OAEP", "enc": "A256GCM", "zip": "DEF"},
    }
    found = {name: EVIL.token(claims(), **header) for name, header in by_header.items()}
    header = b64(b'{"alg":"none"}')
    found |= {
        "none without a signature": f"{header}.{b64(as_json())}.",
        "HS256 with the public key": hs_token(claims(), pem, kid="k1"),
        "HS256 with the public key on one line": hs_token(claims(), pem.replace("\n", ""), kid="k1"),
        "HS256 with the key set": hs_token(claims(), key_set(KEY).decode(), kid="k1"),
        "HS256 with nothing": hs_token(claims(), "", kid="k1"),
        "another's key under our name": EVIL.token(claims()),
        "an algorithm named twice": raw_token(
            b'{"alg":"RS256","alg":"none","kid":"k1"}', as_json(), KEY.sign
        ),
        "a genuine one cut": KEY.token(claims())[:-4],
        "a genuine one with another's claims": re.sub(
            r"\..*\.", f".{b64(as_json(sub='root'))}.", KEY.token(claims())
        ),
        "no signature at all": raw_token(b'{"alg":"RS256","kid":"k1"}', as_json(), lambda _: none),
        "five parts": "a.b.c.d.e",
        "huge": KEY.token(claims(more="x" * 20_000)),
        "a huge kid": EVIL.token(claims(), kid="k" * 6_000),
        "nested without end": raw_token(
            b'{"alg":"HS256","a":' + b"[" * 2_000 + b"]" * 2_000 + b"}", as_json(), hs256()
        ),
    }
    return found


def test_no_forged_token_is_taken_and_nobody_else_is_asked(
    guarded: Guarded, issuer: Issuer, tmp_path: Path
) -> None:
    """By header, by cookie, on a job's state and on its stream; what a token names as the place of its key is never fetched."""
    (tmp_path / "keys.json").write_bytes(key_set(KEY))
    site = guarded(str(tmp_path / "keys.json"))

    assert 200 == status(site, KEY.token(claims()))
    for name, token in forgeries(KEY.public_pem(), tmp_path, issuer.url).items():
        for path in ("/jobs/job-1", "/jobs/job-1/events", "/jobs"):
            for headers in (
                {"Authorization": f"Bearer {token}"},
                {"Cookie": f"progress_stream={token}", "Accept": EVENT_STREAM},
            ):
                answer = CLIENT.get(site.url + path, headers=headers)

                assert 401 == answer.status_code, (name, path, answer.text)
                assert token[:40] not in answer.text + str(answer.headers)
    assert [] == issuer.asked


def test_odd_and_doubled_claims_are_refused(guarded: Guarded, tmp_path: Path) -> None:
    """Genuinely signed: two readers could read them differently, or a time of theirs never comes."""
    (tmp_path / "keys.json").write_bytes(key_set(KEY))
    site = guarded(str(tmp_path / "keys.json"))
    head = b'{"alg":"RS256","kid":"k1"}'
    expiry = b"%d" % (time.time() + 600)
    bodies = [
        b'{"sub":"alice","sub":"root","scope":"jobs:read","exp":%b}' % expiry,
        b'{"sub":"alice","scope":"jobs:read","exp":%b,"exp":9999999999}' % expiry,
        b'{"sub":"alice","scope":"","scope":"jobs:admin jobs:read","exp":%b}' % expiry,
        b'{"sub":"alice","s\\u0063ope":"jobs:read","scope":"jobs:admin","exp":%b}' % expiry,
        *(
            b'{"sub":"alice","scope":"jobs:read","exp":%b}' % value
            for value in (b"NaN", b"Infinity", b"-1", b"1e400", b"true", b"null", b'"9999999999"', b"[]", b"1" * 4_000,
                          b"9999999999999")
        ),
        *(b'{"sub":%b,"scope":"jobs:read","exp":%b}' % (sub, expiry) for sub in (b'""', b"7", b"null", b'["alice"]', b'"\\ud800"')),
        b'{"scope":"jobs:read","exp":%b}' % expiry, b'{"sub":"alice","scope":"jobs:read"}', b"[]", b"null", b"\xff",
        b'{"sub":"alice","scope":["jobs:read"],"exp":%b}' % expiry,
        b'{"sub":"alice","scope":"jobs:read","nbf":9999999998,"exp":9999999999}',
    ]  # fmt: skip
    for body in bodies:
        assert 401 == status(site, raw_token(head, body, KEY.sign)), body[:80]


def test_an_issuer_that_never_ends_its_answer_is_given_up(guarded: Guarded, issuer: Issuer) -> None:
    """Huge at once, or a byte now and then: 503, the rest of the server goes on, and the keys are taken once they come."""
    for endless, pause in ((b"x" * 65_536, 0.0), (b" ", 0.05)):
        issuer.endless, issuer.pause_seconds = endless, pause
        site = guarded(f"{issuer.url}/keys{pause}")
        with ThreadPoolExecutor(1) as others:
            asking = others.submit(status, site, KEY.token(claims()))

            assert 200 == CLIENT.get(f"{site.url}/healthz").status_code
            assert 503 == asking.result()
        issuer.endless = b""
        assert until(lambda site=site: status(site, KEY.token(claims())) == 200)


def test_an_issuer_that_redirects_is_not_followed(guarded: Guarded, issuer: Issuer) -> None:
    """The configured address is the one that is trusted, and this server is nobody's way into its own network."""
    with Issuer() as elsewhere:
        elsewhere.keys = [EVIL]
        issuer.redirects_to = f"{elsewhere.url}/keys"
        site = guarded(f"{issuer.url}/keys")

        assert 503 == status(site, EVIL.token(claims()))
        assert [] == elsewhere.asked
        assert issuer.asked


def test_forged_names_of_keys_do_not_make_the_server_ask_and_ask(
    guarded: Guarded, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can send a thousand of them; within its time the issuer is asked once."""
    monkeypatch.setattr(keys, "REFETCH_SECONDS", 3_600)
    monkeypatch.setattr(keys, "TTL_SECONDS", 3_600)
    site = guarded(f"{issuer.url}/keys")
    assert 200 == status(site, KEY.token(claims()))
    for number in range(50):
        assert 401 == status(site, EVIL.token(claims(), kid=f"k{number}"))

    assert 1 == len(issuer.asked)


def test_a_key_that_is_rotated_in_mid_stream_ends_at_the_next_request(
    guarded: Guarded, issuer: Issuer
) -> None:
    """An open stream lives until its token's end, as promised; with the withdrawn key nothing more is opened, and with the new one
    it is."""
    site = guarded(f"{issuer.url}/keys")
    new = rsa_key("k2")
    old_token, new_token = KEY.token(claims()), new.token(claims())
    job = make(site, "job-2")
    job.start()
    with follow(site, "job-2", token=old_token).until_number(2) as stream:
        issuer.keys = [new]
        assert until(lambda: status(site, new_token) == 200)
        assert until(lambda: status(site, old_token) == 401)
        job.append("log", message="still here", level="info")
        stream.until_number(3)

        assert [1, 2, 3] == stream.numbers
    with follow(site, "job-2", token=old_token, position=stream.ids[-1]) as again:
        assert 401 == again.to_end().status
    with follow(site, "job-2", token=new_token, position=stream.ids[1]) as again:
        assert [3] == again.until_number(3).numbers


def test_a_token_that_never_comes_to_an_end_holds_nobody_up(site: Site) -> None:
    """Half a request whose `Authorization` goes on and on: the head is bounded, and others are served meanwhile."""
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as attacker:
        attacker.sendall(b"GET /jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a" * 20_000)

        assert 200 == CLIENT.get(f"{site.url}/jobs", headers=site.headers()).status_code
        attacker.sendall(b"a" * 20_000)
        assert b"431" in attacker.recv(200)


def test_beside_a_key_set_a_secret_stays_a_secret(guarded: Guarded, tmp_path: Path) -> None:
    """Both configured: what is signed with the public key as a secret is no token of either."""
    (tmp_path / "keys.json").write_bytes(key_set(KEY))
    site = guarded(
        str(tmp_path / "keys.json"), jwt_secret=SecretStr("a secret of more than thirty-two bytes")
    )

    assert (200, 200) == (status(site, hs_token(claims())), status(site, KEY.token(claims())))
    for secret in (KEY.public_pem(), key_set(KEY).decode(), json.dumps(KEY.public())):
        assert 401 == status(site, hs_token(claims(), secret))
