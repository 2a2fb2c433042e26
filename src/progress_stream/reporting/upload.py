"""`Upload`: the file that an actor is given. Plain JSON, so that it travels in messages and in their retries."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, BinaryIO, Final

from ..errors import InvalidUpload
from ..settings import load
from ..store.files import FileRef, Files

_KINDS: Final[dict[str, type]] = {"key": str, "name": str, "media_type": str, "size": int}


class Upload(dict[str, Any]):
    """A stored file: `name`, `media_type`, `size`, and `open()` for its bytes.

    Made from the reference that `Files` gives. `files` is where it is kept; by default what the settings name.
    """

    def __init__(self, ref: Mapping[str, Any] | FileRef, files: Files | None = None) -> None:
        super().__init__(_checked(ref))
        self._files = files

    @property
    def name(self) -> str:
        """The name that the person's file had; never a path."""
        return str(self["name"])

    @property
    def media_type(self) -> str:
        return str(self["media_type"])

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self["size"])

    def open(self) -> BinaryIO:
        """The bytes as a binary file; each call begins at the first. FileNotFoundError when the file is gone."""
        return (self._files or _configured()).open(self)

    def bytes(self) -> builtins.bytes:
        """All of it at once: only for files that are known to be small."""
        with self.open() as file:
            return file.read()


def _checked(ref: object) -> dict[str, Any]:
    known = dict(ref) if isinstance(ref, Mapping) else {}
    if any(not isinstance(known.get(name), kind) for name, kind in _KINDS.items()):
        raise InvalidUpload(
            "file", "is not an uploaded file", f"the reference of a stored one: {', '.join(_KINDS)}"
        )
    return {name: known[name] for name in _KINDS}


def _configured() -> Files:
    return _files(load().effective_files_url)


@lru_cache(maxsize=4)
def _files(url: str) -> Files:
    return Files(url)
