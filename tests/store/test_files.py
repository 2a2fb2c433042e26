"""The store of files: on a disk, in an S3 server, and on another of fsspec's file systems."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progress_stream.errors import InvalidSetting, InvalidUpload, StoreUnavailable, TooLarge
from progress_stream.reporting.upload import Upload
from progress_stream.settings import load
from progress_stream.store.files import ALLOWED_PROTOCOLS, Files
from tests.support.s3 import S3Server


@pytest.fixture(scope="module")
def in_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """One for the module: to load the driver for each test would take longer than the tests."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        server.client().create_bucket(Bucket="bucket")
        yield Files("s3://bucket/some/files")


@pytest.fixture(params=["file", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """The local one moves a finished file to its place; others write it there."""
    if request.param == "file":
        return Files((tmp_path / "files").as_uri())
    if request.param == "s3":
        return request.getfixturevalue("in_s3")
    return Files(f"memory://{uuid4().hex}/files", allowed_protocols=(*ALLOWED_PROTOCOLS, "memory"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def local(folder: Path) -> Files:
    return Files(str(folder))


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_what_is_saved_is_read_back(files: Files):
    """With its name, its media type and its size."""
    ref = files.save("job-1", "leads.csv", "text/csv; charset=utf-8", [b"a,b\n", b"", b"1,2\n"])

    assert ("leads.csv", "text/csv; charset=utf-8", 8) == (ref["name"], ref["media_type"], ref["size"])
    assert files.exists(ref)
    with files.open(ref) as file:
        assert b"a,b\n1,2\n" == file.read()
    with files.open(ref["key"]) as file:
        file.seek(4)
        assert b"1,2\n" == file.read()


def test_a_reference_is_plain_json(files: Files):
    """It travels in messages and events."""
    ref = files.save("job-1", "läds 👩‍💻.csv", "text/csv", [b"x"])

    assert ref == json.loads(json.dumps(ref))


def test_a_file_is_there_when_its_block_has_ended_and_not_before(files: Files):
    """Nobody reads half a file."""
    with files.write("job-1", "a.txt", "text/plain") as file:
        file.write(b"half")
        assert not hasattr(file, "ref")
        file.write(b" whole")

    assert 10 == file.ref["size"]
    assert files.exists(file.ref)


def test_a_local_file_appears_in_one_step(local: Files, folder: Path):
    """Under another name until it is whole."""
    with local.write("job-1", "a.txt", "text/plain") as file:
        file.write(b"x")
        assert all(name.endswith(".part") for name in kept(folder))

    assert [file.ref["key"].rpartition("/")[2]] == kept(folder)


def test_a_block_that_fails_leaves_nothing(local: Files, folder: Path):
    """Not on the disk either."""
    with pytest.raises(RuntimeError, match="mine"), local.write("job-1", "a.txt", "text/plain") as file:
        file.write(b"x")
        raise RuntimeError("mine")

    assert [] == kept(folder)
    assert not hasattr(file, "ref")


def test_the_file_can_be_wrapped_like_any_other(files: Files):
    """By a text layer that closes it, or a zip archive that only writes forward."""
    with (
        files.write("job-1", "a.txt", "text/plain") as file,
        io.TextIOWrapper(file, "utf-8", newline="") as text,
    ):
        text.write("größer\n")
    with (
        files.write("job-1", "a.zip", "application/zip") as archive_file,
        zipfile.ZipFile(archive_file, "w") as archive,
    ):
        archive.writestr("a.txt", "x")

    with files.open(file.ref) as read:
        assert "größer\n".encode() == read.read()
    with files.open(archive_file.ref) as read, zipfile.ZipFile(read) as archive:
        assert b"x" == archive.read("a.txt")


def test_the_limit_holds_while_the_bytes_still_come(local: Files, folder: Path):
    """No more is taken than allowed, and none of it is kept."""
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 1000

    with pytest.raises(TooLarge) as caught:
        local.save("job-1", "a.bin", "application/octet-stream", endless(), limit_bytes=10_500)

    assert ("FILE_BYTES", 10_500) == (caught.value.limit_name, caught.value.limit_bytes)
    assert 11 == len(taken)
    assert [] == kept(folder)
    assert 10 == local.save("job-1", "a", "text/plain", [b"x" * 10], limit_bytes=10)["size"]


def test_two_files_of_one_name_are_two_files(files: Files):
    """A retry writes anew and disturbs nobody who reads."""
    first, second = (files.save("job-1", "a.csv", "text/csv", [data]) for data in (b"1", b"2"))

    assert first["key"] != second["key"]
    with files.open(first) as file:
        assert b"1" == file.read()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/b", "C:\\x", "a" * 255, " "])
def test_names_never_become_paths(local: Files, folder: Path, name: str):
    """A name is only remembered."""
    ref = local.save("job-1", name, "text/csv", [b"x"])

    assert name == ref["name"]
    assert [ref["key"].removeprefix("job-1/")] == os.listdir(folder / "job-1")
    assert ["files"] == os.listdir(folder.parent)


@pytest.mark.parametrize("name", ["", "a\r\nSet-Cookie: b", "a\0", "a" * 256, "\udcff"])
def test_names_that_could_do_harm_elsewhere_are_refused(local: Files, folder: Path, name: str):
    """They will stand in headers and in JSON."""
    with pytest.raises(InvalidUpload, match="name: is not a file's name"):
        local.save("job-1", name, "text/csv", [b"x"])

    assert [] == kept(folder)


@pytest.mark.parametrize(
    "media_type", ["", "text", "text/csv\r\nX: y", "text/csv; é", "a/b/c", "text/" + "x" * 200]
)
def test_media_types_are_checked(local: Files, media_type: str):
    """They will stand in a header."""
    with pytest.raises(InvalidUpload, match="media_type: "):
        local.save("job-1", "a", media_type, [b"x"])


@pytest.mark.parametrize("job_id", ["", ".", "..", "events", "a/b", "../a", "a@b", "a" * 129, "a\0", "é"])
def test_only_job_ids_make_folders(local: Files, folder: Path, job_id: str):
    """An id from outside could otherwise be a path."""
    with pytest.raises(InvalidUpload, match="job: is not a job id"):
        local.save(job_id, "a", "text/plain", [b"x"])
    with pytest.raises(InvalidUpload):
        local.delete_job(job_id)

    assert not folder.exists()


@pytest.mark.parametrize(
    "job_id", ["a", "A", "a.b_c-D", "x" * 128, "X" * 128, "job~12", "...", "1f0c2d3e4b5a69788796a5b4c3d2e1f0"]
)
def test_every_job_has_files(files: Files, job_id: str):
    """Whatever its id is."""
    ref = files.save(job_id, "a", "text/plain", [b"x"])

    assert files.exists(ref)


@pytest.mark.parametrize(
    "key",
    ["", "..", "../x", "/etc/passwd", "job/../../etc/passwd", "job/" + "g" * 32, "job/" + "a" * 31, "job/" + "a" * 33,
     "job//" + "a" * 32, "A/" + "a" * 32, "a@0123456789abcdef/" + "a" * 32, "../job/" + "a" * 32, None, 7, {}],
)  # fmt: skip
def test_keys_that_were_not_made_here_are_refused(files: Files, key: object):
    """Whoever can send a message could put any text there."""
    with pytest.raises(InvalidUpload, match="key: is not the key of a stored file"):
        files.open({"key": key})


@given(st.text())
def test_no_text_leads_out_of_the_folder(key: str):
    """Refused, or not there; never another file."""
    files = Files("memory://nothing/here", allowed_protocols=("memory",))
    with pytest.raises((InvalidUpload, FileNotFoundError)):
        files.open(key)


def test_a_deleted_job_has_no_files(files: Files):
    """And nobody else's are touched; deleting twice is no error."""
    mine, others = (files.save(job, "a", "text/plain", [b"x"]) for job in ("job-1", "job-10"))
    files.delete_job("job-1")
    files.delete_job("job-1")

    assert (False, True) == (files.exists(mine), files.exists(others))
    with pytest.raises(
        FileNotFoundError, match="no longer there: it went when its job was deleted"
    ) as caught:
        files.open(mine)
    assert mine["key"] not in str(caught.value)


def test_one_file_of_a_job_is_deleted(files: Files):
    """And no other of it; twice is no error, and what is no key of ours is refused."""
    one, other = (files.save("job-1", name, "text/plain", [b"x"]) for name in ("a", "b"))
    for _ in range(2):
        files.delete(one)

    assert (False, True) == (files.exists(one), files.exists(other))
    files.delete(other)
    with pytest.raises(InvalidUpload):
        files.delete("../a")
    assert files.exists(files.save("job-1", "a", "text/plain", [b"x"]))


def test_the_folder_goes_with_its_last_file(local: Files, folder: Path):
    """Nobody would sweep that of a job that was never made."""
    local.delete(local.save("job-1", "a", "text/plain", [b"x"]))

    assert [] == os.listdir(folder)


def test_unfinished_files_go_with_their_job(local: Files, folder: Path):
    """A worker that was killed leaves one."""
    (folder / "job-1").mkdir(parents=True)
    (folder / "job-1" / ("a" * 32 + ".part")).write_bytes(b"x")
    local.delete_job("job-1")

    assert [] == os.listdir(folder)


def test_jobs_that_differ_in_capitals_never_share_a_folder(local: Files, folder: Path):
    """Not even on a disk that tells no capitals apart: deleting is by folder."""
    for job in ("job-a", "Job-A", "JOB-A"):
        local.save(job, "a", "text/plain", [b"x"])

    assert 3 == len({name.lower() for name in os.listdir(folder)})


def test_a_disk_that_refuses_is_told_without_its_path(tmp_path: Path):
    """The text reaches people who watch the job."""
    (tmp_path / "files").write_text("a file, where the folder should be")
    local = Files(str(tmp_path / "files"))
    with pytest.raises(StoreUnavailable) as caught:
        local.save("job-1", "a", "text/plain", [b"x"])

    assert str(caught.value).startswith("a file cannot be written: ")
    assert str(tmp_path) not in str(caught.value)


def test_a_folder_may_have_any_name(tmp_path: Path):
    """As a path it is taken as it is; as a URL it is percent-encoded."""
    odd = tmp_path / "my data 100%25 é"
    ref = Files(str(odd)).save("job-1", "a", "text/plain", [b"x"])

    assert odd.is_dir()
    assert Files(odd.as_uri()).exists(ref)
    assert Files("file://localhost" + odd.as_uri().removeprefix("file://")).exists(ref)


@pytest.mark.contract("DATA")
def test_the_default_is_a_folder_in_the_data_folder(tmp_path: Path):
    """And stays the same when the process changes its directory."""
    ref = Files(load(data=tmp_path / "my data").effective_files_url).save("job-1", "a", "text/plain", [b"x"])

    assert (tmp_path / "my data" / "files" / ref["key"]).is_file()


@pytest.mark.contract("FILES_URL")
@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/files",
        "https://example.org/files",
        "memory://files",
        "ftp://user:hunter2@host/files",
        "simplecache::s3://bucket/files",
        "file:///tmp::s3://bucket/files",
        "zip://a.zip",
        "github://user:hunter2@repo/files",
        "file://otherhost/files",
        "file:///",
        "",
        "/",
        "s3://key:hunter2@bucket/files",
    ],
)
def test_places_that_are_not_allowed_are_refused(url: str):
    """By the setting's name, with what is allowed, and without the secret that the URL may hold."""
    with pytest.raises(InvalidSetting) as caught:
        Files(url)

    assert "PROGRESS_STREAM_FILES_URL" == caught.value.field
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_named():
    """What to install is what fsspec calls it."""
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(InvalidSetting, match="needs a driver that is not installed"):
            Files("gs://bucket/files")
    else:
        pytest.skip("the driver is installed")


def test_an_upload_is_json_and_opens(files: Files):
    """What an actor is given."""
    ref = files.save("job-1", "leads.csv", "text/csv", [b"a\n1\n"])
    upload = Upload(ref, files)

    assert ref == json.loads(json.dumps(upload))
    assert ("leads.csv", "text/csv", 4) == (upload.name, upload.media_type, upload.size)
    assert b"a\n1\n" == upload.bytes()
    with upload.open() as file:
        assert b"a\n1\n" == file.read()


@pytest.mark.contract("FILES_URL")
def test_an_upload_finds_the_configured_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a script of one's own."""
    monkeypatch.setenv("PROGRESS_STREAM_DATA", str(tmp_path))
    ref = Files(load().effective_files_url).save("job-1", "a", "text/plain", [b"x"])

    assert b"x" == Upload(ref).bytes()


@pytest.mark.parametrize(
    "ref", [{}, {"key": "a"}, {"key": "a", "name": "b", "media_type": "c", "size": "4"}, "path", None]
)
def test_what_is_no_reference_is_no_upload(ref: object):
    """A sentence says what one is."""
    with pytest.raises(InvalidUpload, match="file: is not an uploaded file"):
        Upload(ref)  # type: ignore[arg-type]
