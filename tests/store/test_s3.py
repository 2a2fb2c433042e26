"""Files in S3: large ones in parts, what a web server and a worker do with them, and what is said where the place is at fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from pydantic import SecretStr

from progress_stream.api.app import create_app
from progress_stream.errors import StoreUnavailable, TooLarge
from progress_stream.settings import load
from progress_stream.store.files import Files
from tests.support.s3 import S3Server
from tests.support.server import SECRET, Site, serving

#: A server of its own, and ten times 12 MiB.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("s3")]

#: More than one part: the driver is given 8 MiB for each.
LARGE = os.urandom(12 * 1024 * 1024)
SCHEMA = {
    "type": "object",
    "properties": {"table": {"type": "string", "format": "binary"}},
    "required": ["table"],
    "additionalProperties": False,
}
WRONG = "a-wrong-secret-that-no-log-may-hold"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def reached(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives this process a key, as an operator does; tried once, for nobody has changed his mind in between."""

    def give(key: str | None = None, secret: str | None = None, **others: str) -> None:
        pair = () if key is None or secret is None else (key, secret)
        for name, value in (server.environment(*pair) | {"AWS_MAX_ATTEMPTS": "1"} | others).items():
            monkeypatch.setenv(name, value)

    return give


class Bucket:
    """One of a test's own, and what really lies in it."""

    def __init__(self, server: S3Server) -> None:
        self.name = uuid4().hex
        self._client = server.client()
        self._client.create_bucket(Bucket=self.name)

    @property
    def url(self) -> str:
        return f"s3://{self.name}/some/files"

    def objects(self) -> list[str]:
        found = self._client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return sorted(entry["Key"].removeprefix("some/files/") for entry in found)

    def unfinished(self) -> list[Any]:
        """Parts that nobody sees and everybody pays for."""
        found: list[Any] = self._client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return found

    def read(self, key: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self.name, Key=f"some/files/{key}")["Body"].read()
        return content


@pytest.fixture
def bucket(server: S3Server, reached: Callable[..., None]) -> Bucket:
    reached()
    return Bucket(server)


def pieces(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 65_536] for at in range(0, len(content), 65_536))


def test_a_large_file_is_kept_whole_and_read_from_anywhere(bucket: Bucket) -> None:
    """In parts on its way there, and of any range on its way back; another client sees the same bytes."""
    files = Files(bucket.url)
    ref = files.save("job-1", "a.bin", "application/octet-stream", pieces(LARGE))
    files.save("job-1", "empty", "text/plain", [])

    assert LARGE == bucket.read(ref["key"])
    assert [] == bucket.unfinished()
    with files.open(ref) as file:
        for begin in (11_000_000, 0, 8 * 1024 * 1024 - 1, len(LARGE) - 2, 5_000_000):
            file.seek(begin)
            assert LARGE[begin : begin + 1_000] == file.read(1_000)
    with files.open(files.copy(ref, "job-2")) as file:
        assert LARGE == b"".join(iter(lambda: file.read(262_144), b""))
    files.delete_job("job-1")
    assert ["job-2"] == [key.partition("/")[0] for key in bucket.objects()]


def test_a_file_in_the_making_costs_a_part_and_not_its_size(bucket: Bucket) -> None:
    """A web server may have many under way."""
    files = Files(bucket.url)
    with files.write("job-1", "a.bin", "application/octet-stream") as file:
        file.write(LARGE)
        held = file._target.buffer.getbuffer().nbytes
    with files.open(file.ref) as reading:
        reading.read(1)
        ahead = len(reading.cache.cache)  # type: ignore[attr-defined]

    assert held < len(LARGE)
    assert ahead < len(LARGE)


@pytest.mark.parametrize("size", [100, len(LARGE)])
@pytest.mark.parametrize("limit", [None, 50])
def test_a_block_that_fails_leaves_neither_a_file_nor_parts(
    bucket: Bucket, size: int, limit: int | None
) -> None:
    """Not even for the moment in which it would be removed again."""
    seen: list[list[str]] = []
    files = Files(bucket.url)
    remove = files._fs.rm_file
    files._fs.rm_file = lambda path: (seen.append(bucket.objects()), remove(path))
    with (
        pytest.raises(RuntimeError if limit is None else TooLarge),
        files.write("job-1", "a.txt", "text/plain", limit and size + limit) as file,
    ):
        file.write(LARGE[:size])
        file.write(b"x" * 100)
        raise RuntimeError("mine")
    del file

    assert [[]] == seen
    assert ([], []) == (bucket.objects(), bucket.unfinished())


def tries(files: Files, key: str) -> dict[str, Callable[[], object]]:
    """All that a place may be asked for."""
    ref = {"key": key, "name": "a", "media_type": "text/plain", "size": 1}
    return {
        "written": lambda: files.save("job-2", "a", "text/plain", [b"x"]),
        "written in parts": lambda: files.save("job-2", "a", "text/plain", pieces(LARGE)),
        "read": lambda: files.open(ref),
        "read too": lambda: files.exists(ref),
        "deleted": lambda: files.delete(ref),
        "deleted with its job": lambda: files.delete_job("job-1"),
    }


def told(files: Files, key: str, among: list[str] | None = None) -> dict[str, str]:
    said = {}
    for what, attempt in tries(files, key).items():
        if among is None or what in among:
            with pytest.raises(StoreUnavailable) as caught:
                attempt()
            said[what] = str(caught.value)
    return said


def test_a_bucket_that_is_not_there_is_told_apart_from_a_file_that_is_not(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is gone is everyday's; this is somebody's mistake, which he finds in the log."""
    said = told(
        Files("s3://another-bucket/files"),
        "job-1/" + "a" * 32,
        ["written", "written in parts", "read", "read too", "deleted"],
    )

    for what, text in said.items():
        assert f"a file cannot be {what.split()[0]}: its folder or bucket is missing" == text
        assert f"{text} (PROGRESS_STREAM_FILES_URL)" in caplog.messages
    assert not Files(bucket.url).exists("job-1/" + "a" * 32)


@pytest.mark.parametrize("wrong", ["secret", "key"])
def test_credentials_that_are_refused_are_told_and_not_shown(
    server: S3Server,
    bucket: Bucket,
    reached: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    """Nothing is taken for gone, and nothing is kept or removed; with the right ones all goes on."""
    ref = Files(bucket.url).save("job-1", "a", "text/plain", [b"x"])
    key, secret = server.admit_only(f"user-{wrong}")
    try:
        reached(key if wrong == "secret" else "AKIDOFSOMEBODYELSE00", WRONG)
        said = told(Files(bucket.url), ref["key"])
        reached(key, secret)
        assert Files(bucket.url).exists(ref)
    finally:
        server.admit_all()

    assert {f"a file cannot be {what.split()[0]}: access is denied" for what in said} == set(said.values())
    assert [ref["key"]] == bucket.objects()
    assert [] == bucket.unfinished()
    assert WRONG not in caplog.text + str(said)
    assert bucket.name not in caplog.text + str(said)


def test_no_credentials_at_all_are_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of the driver's fault."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(StoreUnavailable, match=r"^a file cannot be written: NoCredentialsError$"):
        Files(bucket.url).save("job-1", "a", "text/plain", [b"x"])


def test_a_server_that_goes_away_under_a_file_is_told_and_keeps_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an existing file nor a new one is taken for what it is not."""
    with S3Server(tmp_path) as server:
        for name, value in (server.environment() | {"AWS_MAX_ATTEMPTS": "1"}).items():
            monkeypatch.setenv(name, value)
        files = Files(Bucket(server).url)
        ref = files.save("job-1", "a", "text/plain", [b"x"])
    said = told(files, ref["key"], ["written", "read too", "deleted"])

    for what, text in said.items():
        assert f"a file cannot be {what.split()[0]}: EndpointConnectionError" == text


@pytest.fixture
def site(
    bucket: Bucket, redis_url: str, broker_url: str, namespace: str, tmp_path: Path, redis_client: redis.Redis
) -> Iterator[Site]:
    settings = load(
        redis_url=redis_url, broker_url=broker_url, namespace=namespace, data=tmp_path, jwt_secret=SecretStr(SECRET),
        ready_seconds=0, drain_seconds=0, files_url=bucket.url,
    )  # fmt: skip
    with serving(create_app(settings), settings) as url:
        yield Site(url, settings, redis_client)


def test_uploads_and_results_lie_in_the_bucket_until_their_job_is_deleted(site: Site, bucket: Bucket) -> None:
    """12 MiB each way over HTTP; what a deleted job had is gone from the bucket."""
    site.announce("merge", SCHEMA)
    with site.client() as client:
        answer = client.post("/jobs", data={"actor": "merge"}, files={"table": ("a.bin", LARGE)})
        assert 201 == answer.status_code, answer.text
        (upload,) = bucket.objects()
        assert LARGE == bucket.read(upload)
        job = site.job("with-a-result")
        job.start()
        job.succeed(file=job.save("out.bin", "application/octet-stream", LARGE[::-1]))

        assert LARGE[::-1] == client.get(f"/jobs/{job.job}/result").content
        assert 204 == client.delete(f"/jobs/{job.job}").status_code
    assert [upload] == bucket.objects()


def test_an_upload_that_cannot_be_kept_makes_no_job(
    server: S3Server,
    site: Site,
    bucket: Bucket,
    reached: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """503 and nothing of the place in it; the log says what is wrong with which setting."""
    site.announce("merge", SCHEMA)
    server.admit_only("somebody")
    reached("AKIDOFSOMEBODYELSE00", WRONG)
    try:
        with site.client() as client:
            answer = client.post("/jobs", data={"actor": "merge"}, files={"table": ("a.bin", b"x")})
            listed = client.get("/jobs").json()["jobs"]
    finally:
        server.admit_all()

    assert (503, []) == (answer.status_code, listed)
    assert bucket.name not in answer.text + caplog.text
    assert "a file cannot be written: access is denied (PROGRESS_STREAM_FILES_URL)" in caplog.messages
    assert WRONG not in answer.text + caplog.text
    assert [] == bucket.objects()
