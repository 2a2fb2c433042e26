"""Keeps uploads and results as files through fsspec. Knows no job and no HTTP: who may read one is decided elsewhere.

A file's key is `<job's folder>/<random>`; the name that a person gave travels in the reference and never becomes a
path. A key is handed out only when the file is complete, so a half-written one is never seen. Options of a cloud's
driver (an endpoint, an account) come from its own environment or fsspec's `FSSPEC_<PROTOCOL>_<OPTION>`, not the URL.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypedDict, cast
from urllib.parse import unquote, urlsplit

from fsspec import AbstractFileSystem, filesystem
from fsspec.core import url_to_fs

from ..errors import InvalidSetting, InvalidUpload, StoreUnavailable, TooLarge
from ..events import is_job_id

log = logging.getLogger(__name__)

SETTING: Final = "PROGRESS_STREAM_FILES_URL"
#: What a web process and a worker can both reach, and what cannot be talked into opening something else: fsspec also
#: knows chained, http and in-memory "file systems".
ALLOWED_PROTOCOLS: Final = ("file", "s3", "gs", "gcs", "az", "abfs", "abfss")
GONE: Final = "the file is no longer there: it went when its job was deleted or expired"

_CHUNK_BYTES: Final = 1024 * 1024
#: What a cloud's driver holds in memory of each open file. s3fs would take 50 MiB; S3 takes no part under 5 MiB, and 10,000 parts.
_BLOCK_BYTES: Final = 8 * 1024 * 1024
_RANDOM = re.compile(r"[0-9a-f]{32}")
#: Real names have any script, joiners of emoji, odd spaces; they have no control characters and no half ones.
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}( *; *[\x20-\x7e]{0,100})?", re.ASCII)


class FileRef(TypedDict):
    """How a file is spoken of in messages, events and states: plain JSON."""

    key: str
    name: str
    media_type: str
    size: int


class FileBeingWritten(io.BufferedIOBase):
    """A binary file on its way into the store."""

    #: There once the `with` block has ended well.
    ref: FileRef

    def __init__(self, target: Any, limit_bytes: int | None) -> None:
        self._target = target
        self._limit_bytes = limit_bytes
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.closed:
            raise ValueError("the file is closed")
        count = memoryview(data).nbytes
        if self._limit_bytes is not None and self.size + count > self._limit_bytes:
            raise TooLarge("FILE_BYTES", self._limit_bytes)
        with _told("written"):
            self._target.write(data)
        self.size += count
        return count


class Files:
    """One place for files. Blocking: async code calls it in a thread."""

    def __init__(self, url: str, allowed_protocols: Collection[str] = ALLOWED_PROTOCOLS) -> None:
        self._fs, self._root = _place(url, allowed_protocols)
        self._local = "file" in _protocols(self._fs)

    @contextmanager
    def write(
        self, job_id: str, name: str, media_type: str, limit_bytes: int | None = None
    ) -> Iterator[FileBeingWritten]:
        """A file to write to; it is kept when the block ends well, and leaves nothing behind when it does not."""
        key = f"{_folder(job_id)}/{secrets.token_hex(16)}"
        ref = FileRef(key=key, name=_checked_name(name), media_type=_checked_media_type(media_type), size=0)
        path = self._path(key)
        unfinished = path + ".part" if self._local else path
        with _told("written"):
            target = self._create(unfinished)
        writing = FileBeingWritten(target, limit_bytes)
        try:
            yield writing
            with _told("written"):
                target.close()
                if unfinished != path:
                    self._fs.mv(unfinished, path)
        except BaseException:
            self._discard(target, unfinished)
            raise
        writing.close()
        writing.ref = FileRef(**{**ref, "size": writing.size})

    def save(
        self, job_id: str, name: str, media_type: str, chunks: Iterable[bytes], limit_bytes: int | None = None
    ) -> FileRef:
        """Keep these bytes. Raises TooLarge as soon as they pass the limit, and then keeps none of them."""
        with self.write(job_id, name, media_type, limit_bytes) as writing:
            for chunk in chunks:
                writing.write(chunk)
        return writing.ref

    def copy(self, ref: Mapping[str, Any], job_id: str) -> FileRef:
        """The same file as one of another job. Raises FileNotFoundError, InvalidUpload as `open` does."""
        with self.open(ref) as source:
            chunks = iter(lambda: source.read(_CHUNK_BYTES), b"")
            return self.save(job_id, str(ref.get("name")), str(ref.get("media_type")), chunks)

    def open(self, ref: Mapping[str, Any] | str) -> BinaryIO:
        """The file's bytes. Raises FileNotFoundError when it is gone, InvalidUpload when this is no key of ours."""
        path = self._path(_checked_key(ref))
        with _told("read"):
            return cast(BinaryIO, self._fs.open(path, "rb", block_size=_BLOCK_BYTES))

    @staticmethod
    def checked(ref: Mapping[str, Any]) -> FileRef:
        """A reference as `write` makes them. Raises InvalidUpload for any other: what others store may be none."""
        name, media_type, size = ref.get("name"), ref.get("media_type"), ref.get("size")
        if not (
            isinstance(name, str) and isinstance(media_type, str) and isinstance(size, int) and size >= 0
        ):
            raise InvalidUpload("file", "is not the reference of a stored file")
        return FileRef(
            key=_checked_key(ref),
            name=_checked_name(name),
            media_type=_checked_media_type(media_type),
            size=size,
        )

    def exists(self, ref: Mapping[str, Any] | str) -> bool:
        """True while the file can be opened."""
        path = self._path(_checked_key(ref))
        try:
            # Not `isfile`, which says no where the place does not answer.
            with _told("read"):
                return bool(self._fs.info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    def delete(self, ref: Mapping[str, Any] | str) -> None:
        """Remove this one file, and nothing else of its job. One that is gone already is no error."""
        path = self._path(_checked_key(ref))
        with suppress(FileNotFoundError), _told("deleted"):
            self._fs.rm_file(path)
        if self._local:
            # Left behind while it holds others.
            with suppress(OSError):
                self._fs.rmdir(path.rpartition("/")[0])

    def delete_job(self, job_id: str) -> None:
        """Remove every file of this job, finished or not. A job that has none is no error."""
        folder = self._path(_folder(job_id))
        with suppress(FileNotFoundError), _told("deleted"):
            if self._fs.exists(folder):
                self._fs.rm(folder, recursive=True)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _create(self, path: str) -> Any:
        if not self._local:
            return self._fs.open(path, "wb", block_size=_BLOCK_BYTES)
        folder = path.rpartition("/")[0]
        self._fs.makedirs(folder, exist_ok=True)
        try:
            return self._fs.open(path, "wb")
        except FileNotFoundError:
            # Another process has just removed the last file of this job, and with it the folder.
            self._fs.makedirs(folder, exist_ok=True)
            return self._fs.open(path, "wb")

    def _discard(self, target: Any, path: str) -> None:
        """Best effort: nobody knows the key, and `delete_job` takes what is left."""
        abandon: Callable[[], object] = target.close if self._local else lambda: _abandon(target)
        for step in (abandon, lambda: self._fs.rm_file(path)):
            with suppress(Exception):
                step()


def _place(url: str, allowed: Collection[str]) -> tuple[AbstractFileSystem, str]:
    """The file system and the root folder of a URL; a path without a scheme is a local folder."""
    scheme = urlsplit(url).scheme.lower() if "://" in url else "file"
    if scheme not in allowed or "::" in url:
        raise InvalidSetting(
            SETTING, "has a protocol that is not allowed", f"a folder, or {', '.join(allowed)} URLs"
        )
    if scheme == "file":
        return filesystem("file", skip_instance_cache=True), _local_folder(url)
    _refuse_account(url, scheme)
    try:
        # A listing that is remembered would hide what another process has written or deleted since.
        fs, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        raise InvalidSetting(
            SETTING, f"needs a driver that is not installed, fsspec's for {scheme}://"
        ) from None
    except Exception as error:
        raise InvalidSetting(SETTING, f"cannot be used ({type(error).__name__})") from error
    if not root.strip("/"):
        raise InvalidSetting(SETTING, "names no place", f"{scheme}://bucket/folder")
    return fs, root.rstrip("/")


def _refuse_account(url: str, scheme: str) -> None:
    """A driver would take a key and its secret for a part of the bucket's name, and that is told to anybody.

    In Azure's URLs the container stands before an @.
    """
    place = urlsplit(url).netloc
    if ("@" in place and scheme in {"s3", "gs", "gcs"}) or ":" in place.rpartition("@")[0]:
        raise InvalidSetting(
            SETTING,
            "holds an account, which is for the driver's own environment",
            f"{scheme}://bucket/folder",
        )


def _local_folder(url: str) -> str:
    """RFC 8089: a file URL is percent-encoded and names this machine; a plain path is taken as it is."""
    if "://" not in url:
        path = url
    else:
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"}:
            raise InvalidSetting(SETTING, "names another machine", "file:///folder")
        path = unquote(parts.path)
    if not path.strip("/") or "\0" in path:
        raise InvalidSetting(SETTING, "names no folder", "file:///folder")
    return Path(path).absolute().as_posix().rstrip("/")


def _abandon(target: Any) -> None:
    """To close it would finish the file and put it in its place; and so would its collection as garbage, while it is open."""
    try:
        target.discard()
    finally:
        target.closed = True


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _folder(job_id: str) -> str:
    """A job's own folder. Deleting is by folder, so `A` and `a` must not share one on a Mac."""
    if not is_job_id(job_id):
        raise InvalidUpload("job", "is not a job id")
    if job_id == job_id.lower():
        return job_id
    return f"{job_id}@{hashlib.sha256(job_id.encode()).hexdigest()[:16]}"


def _checked_key(ref: Mapping[str, Any] | str) -> str:
    """The key, if it is one that `write` makes. Whoever can send a message could put any path there."""
    key = ref if isinstance(ref, str) else ref.get("key")
    if isinstance(key, str):
        folder, _, random = key.partition("/")
        job_id = folder.partition("@")[0]
        if is_job_id(job_id) and _folder(job_id) == folder and _RANDOM.fullmatch(random):
            return key
    raise InvalidUpload("key", "is not the key of a stored file")


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    raise InvalidUpload("name", "is not a file's name", "1 to 255 characters, no control characters")


def _checked_media_type(media_type: str) -> str:
    if _MEDIA_TYPE.fullmatch(media_type):
        return media_type
    raise InvalidUpload("media_type", "is not a media type", "such as text/csv; charset=utf-8")


@contextmanager
def _told(done: str) -> Iterator[None]:
    """Say what a driver raises in our words: its own text may hold a path, a bucket or an account."""
    try:
        yield
    except FileNotFoundError as error:
        if done != "written" and not _lacks_bucket(error):
            raise FileNotFoundError(GONE) from error
        raise _unavailable(done, "its folder or bucket is missing") from error
    except Exception as error:
        raise _unavailable(done, _reason(error)) from error


def _unavailable(done: str, reason: str) -> StoreUnavailable:
    fault = StoreUnavailable(f"a file cannot be {done}: {reason}")
    # Whoever asked is told no more than that it did not work; whoever can mend it reads the log.
    log.warning("%s (%s)", fault, SETTING)
    return fault


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "access is denied"
    # The system's text for the number, never the driver's own.
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else type(error).__name__


def _lacks_bucket(error: BaseException | None) -> bool:
    """S3's own code, which its driver keeps as the cause: the place itself is not there, not this one file."""
    while error is not None:
        if "NoSuchBucket" in str(getattr(error, "response", "")):
            return True
        error = error.__cause__ or error.__context__
    return False
