"""`POST /jobs` with multipart/form-data: the file's way into the store, and its bounds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from progress_stream.api.app import create_app
from progress_stream.settings import Settings
from tests.support.redis import RedisServer
from tests.support.server import Site, serving

SCHEMA = {
    "type": "object",
    "properties": {
        "table": {"type": "string", "format": "binary"},
        "template": {"type": "string"},
        "rows": {"type": "integer", "default": 1},
        "dry": {"type": "boolean", "default": False},
    },
    "required": ["table"],
    "additionalProperties": False,
}


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """Alice's, while a worker announces an actor that takes a file."""
    site.announce("merge", SCHEMA)
    with site.client() as client:
        yield client


@pytest.fixture
def queued(settings: Settings, broker_url: str) -> Iterator[Any]:
    """The arguments of the messages that the broker has got."""
    with redis.Redis.from_url(broker_url) as broker:
        yield lambda: [
            json.loads(text)["kwargs"] for text in broker.hvals(f"{settings.broker_namespace}:default.msgs")
        ]


def files_of(settings: Settings) -> list[Path]:
    return [path for path in (settings.data / "files").rglob("*") if path.is_file()]


@pytest.mark.parametrize("field", ["table", "file"])
def test_a_file_reaches_the_actor_byte_for_byte(
    site: Site, client: httpx.Client, queued: Any, field: str
) -> None:
    """By the argument's own name, or as `file`; large enough to have left memory on its way."""
    content = bytes(range(256)) * 1_000
    answer = client.post(
        "/jobs",
        data={"actor": "merge", "title": "March"},
        files={field: ("März ünd.csv", content, "text/csv")},
    )

    assert (201, "March") == (answer.status_code, answer.json()["title"])
    [kwargs] = queued()
    ref = kwargs["table"]
    assert ("März ünd.csv", "text/csv", len(content)) == (ref["name"], ref["media_type"], ref["size"])
    with site.files.open(ref) as file:
        assert content == file.read()


def test_the_other_fields_become_what_the_schema_asks_for(client: httpx.Client, queued: Any) -> None:
    """A form knows only text."""
    fields = {"actor": "merge", "template": "Hi", "rows": "12", "dry": "true"}
    client.post("/jobs", data=fields, files={"file": ("a.csv", b"a")})

    [kwargs] = queued()
    assert {"template": "Hi", "rows": 12, "dry": True} == {k: v for k, v in kwargs.items() if k != "table"}


@pytest.mark.contract("POST /jobs: bad input, an unknown argument, text where a file belongs")
@pytest.mark.parametrize(
    ("fields", "files", "field"),
    [
        ({"actor": "merge"}, None, "table"),
        ({"actor": "merge"}, {"file": ("", b"")}, "table"),
        ({"actor": "merge"}, {"template": ("a.csv", b"a")}, "template"),
        ({"actor": "merge", "rows": "many"}, {"file": ("a.csv", b"a")}, "rows"),
        ({"actor": "merge", "speed": "9"}, {"file": ("a.csv", b"a")}, "speed"),
        ({"actor": "merge", "table": "text"}, None, "table"),
        ({"rows": "1"}, {"file": ("a.csv", b"a")}, "actor"),
        ({"actor": "merge"}, {"file": ("x" * 256, b"a")}, "file"),
        ({"actor": "merge"}, {"file": ("a.csv", b"a", "no media type")}, "file"),
    ],
)
def test_bad_input_is_422_names_the_field_and_keeps_no_file(
    settings: Settings, client: httpx.Client, fields: dict[str, str], files: Any, field: str
) -> None:
    """A refused request leaves nothing behind."""
    parts = {name: (None, value) for name, value in fields.items()} | (files or {})
    answer = client.post("/jobs", files=parts)

    assert (422, field) == (answer.status_code, answer.json()["field"]), answer.text
    assert [] == files_of(settings)


def test_two_files_are_422(settings: Settings, client: httpx.Client) -> None:
    """A job takes one."""
    two = [("file", ("a.csv", b"a")), ("table", ("b.csv", b"b"))]
    answer = client.post("/jobs", data={"actor": "merge"}, files=two)

    assert (422, "file") == (answer.status_code, answer.json()["field"])
    assert [] == files_of(settings)


def test_a_field_that_comes_twice_is_422(client: httpx.Client) -> None:
    """Which of them was meant is not ours to guess."""
    two = [("actor", (None, "merge")), ("template", (None, "a")), ("template", (None, "b"))]
    answer = client.post("/jobs", files=two)

    assert (422, "template") == (answer.status_code, answer.json()["field"])


@pytest.mark.contract("POST /jobs: a file over FILE_BYTES, the rest over BODY_BYTES")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_file_over_the_limit_is_413_and_not_kept(
    settings: Settings, client: httpx.Client, streamed: bool
) -> None:
    """By its announced length, and by what comes."""
    request = client.build_request(
        "POST",
        "/jobs",
        data={"actor": "merge"},
        files={"file": ("a.csv", b"x" * (settings.file_bytes + 30_000))},
    )
    content = request.read()
    headers = {"Content-Type": request.headers["Content-Type"]}
    chunks = (content[at : at + 50_000] for at in range(0, len(content), 50_000))

    answer = client.post("/jobs", content=chunks if streamed else content, headers=headers)

    assert 413 == answer.status_code
    assert "FILE_BYTES" in answer.json()["detail"]
    assert [] == files_of(settings)


@pytest.mark.contract("FILE_BYTES")
def test_a_file_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(
    settings: Settings, client: httpx.Client
) -> None:
    """The bound is the file's, not the request's."""
    sizes = (settings.file_bytes, settings.file_bytes + 1)
    answers = [
        client.post("/jobs", data={"actor": "merge"}, files={"file": ("a.csv", b"x" * size)})
        for size in sizes
    ]

    assert [201, 413] == [answer.status_code for answer in answers]


@pytest.mark.contract("POST /jobs: a file over FILE_BYTES, the rest over BODY_BYTES")
def test_fields_that_are_together_too_large_are_413(client: httpx.Client) -> None:
    """Many small ones are not a way around BODY_BYTES."""
    fields = {f"f{n}": (None, "x" * 1_000) for n in range(30)}
    answer = client.post("/jobs", files={"actor": (None, "merge"), **fields})

    assert 413 == answer.status_code
    assert "BODY_BYTES" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"nonsense", "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data; boundary=b"),
    ],
)
def test_what_is_no_form_is_refused(client: httpx.Client, content: bytes, content_type: str) -> None:
    """With a problem, and not with a failure of ours."""
    answer = client.post("/jobs", content=content, headers={"Content-Type": content_type})

    assert answer.status_code in {400, 422}
    assert "application/problem+json" == answer.headers["Content-Type"]


def test_the_same_key_and_file_is_the_same_job_and_keeps_one_file(
    settings: Settings, client: httpx.Client, queued: Any
) -> None:
    """And another file under that key is other content."""

    def send(content: bytes) -> httpx.Response:
        return client.post(
            "/jobs",
            data={"actor": "merge"},
            files={"file": ("a.csv", content)},
            headers={"Idempotency-Key": "k"},
        )

    answers = [send(b"one"), send(b"one"), send(b"two")]

    assert [201, 200, 409] == [answer.status_code for answer in answers]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert 1 == len(files_of(settings)) == len(queued())


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_a_redis_that_goes_when_the_file_is_stored_leaves_no_file(
    settings: Settings, tmp_path: Path, headers: dict[str, str]
) -> None:
    """503; with a key too, under which another request's file may lie beside it."""
    with RedisServer(tmp_path / "redis", persistent=False) as server:
        chosen = settings.model_copy(update={"redis_url": server.url()})
        app = create_app(chosen)
        files = app.state.parts.files
        save = files.save

        def save_and_stop(*args: Any) -> Any:
            kept.append(save(*args))
            server.stop()
            return kept[-1]

        kept: list[Any] = []
        files.save = save_and_stop
        with serving(app, chosen) as url, server.client() as redis_client:
            site = Site(url, chosen, redis_client)
            site.announce("merge", SCHEMA)
            with site.client() as client:
                answer = client.post(
                    "/jobs", data={"actor": "merge"}, files={"file": ("a.csv", b"a")}, headers=headers
                )

    assert (503, 1) == (answer.status_code, len(kept))
    assert [] == files_of(settings)
