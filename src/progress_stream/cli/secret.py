"""The secret that `dev` makes once and keeps, so that its tokens outlive it. Never printed, never given to a worker."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import InvalidSetting
from ..settings import MIN_SECRET_BYTES

NAME: Final = "secret"


def own_secret(data: Path) -> str:
    """The data folder's secret, made if there is none. Raises InvalidSetting where the folder cannot be used."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _write(data / NAME)
    except OSError as error:
        raise InvalidSetting("DATA", f"{data}: {error.strerror}", "a folder that can be written to") from None
    kept = kept_secret(data)
    if kept is None:
        raise InvalidSetting("DATA", f"{data / NAME} vanished", "a folder that is ours alone")
    return kept


def kept_secret(data: Path) -> str | None:
    """The secret in the data folder; None where there is none. Raises InvalidSetting where it cannot be used."""
    path = data / NAME
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidSetting("DATA", f"{path}: {error.strerror}", "a file that can be read") from None
    if len(text) < MIN_SECRET_BYTES:
        raise InvalidSetting(
            "DATA", f"{path} holds no usable secret", "the file as it was made, or no such file"
        )
    return text


def _write(path: Path) -> None:
    """All of it or nothing: a second process that starts meanwhile must not read half a secret."""
    draft = path.with_name(f".{NAME}-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
        os.link(draft, path)
    finally:
        draft.unlink()
