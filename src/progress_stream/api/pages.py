"""The page and its files, and what a front end must know. The files lie in the wheel, or beside the code in a checkout."""

from __future__ import annotations

import gzip
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .. import __version__
from ..auth.bearer import PARAMETER
from . import etags, sign_in
from .parts import parts_of

#: What a browser gets, and as what. A file of any other kind is not served; nosniff makes the type binding.
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8", ".json": "application/json", ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
}  # fmt: skip
#: Without their parameters.
ASSET_TYPES: Final = tuple(sorted({kind.partition(";")[0] for kind in _MEDIA_TYPES.values()}))
_FOLDERS: Final = frozenset({"client", "dashboard", "vendor"})
#: Names carry no hash of the content: a browser asks each time, and gets 304.
_REVALIDATE: Final = {"Cache-Control": "no-cache"}


@lru_cache(maxsize=1)
def web_folder() -> Path:
    """`_web` of an installed wheel, else `web` of the checkout that this file is in."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_web"
    return installed if installed.is_dir() else package.parent.parent / "web"


async def page(request: Request) -> Response:
    """The page; a link that holds a token signs in first."""
    if PARAMETER in request.query_params:
        return await sign_in.by_link(request)
    return await _file(request, "dashboard/index.html")


async def asset(request: Request) -> Response:
    return await _file(request, request.path_params["path"])


async def config(request: Request) -> Response:
    """What a page must know before it knows who its reader is."""
    parts = parts_of(request)
    settings = parts.settings
    known = {
        "streaming": parts.hub.streaming, "poll_seconds": settings.poll_seconds,
        "heartbeat_seconds": settings.heartbeat_seconds, "version": __version__,
        "login": None if parts.sign_in is None else str(request.scope.get("root_path", "")) + "/login",
    }  # fmt: skip
    return JSONResponse(known, headers=_REVALIDATE)


async def _file(request: Request, name: str) -> Response:
    packed = _takes_gzip(request.headers.get("accept-encoding", ""))
    found = await to_thread.run_sync(_read, name, packed)
    if found is None:
        raise HTTPException(404)
    content, tag = found
    headers = {**_REVALIDATE, "ETag": tag, "Vary": "Accept-Encoding"}
    if etags.match(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=_MEDIA_TYPES[Path(name).suffix])


def _takes_gzip(accepted: str) -> bool:
    """RFC 9110 §12.5.3, as far as browsers use it: named, and not with a weight of nothing."""
    return bool(
        re.search(r"(?:^|[,\s])gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))|,|$)", accepted, re.IGNORECASE)
    )


def _read(name: str, packed: bool) -> tuple[bytes, str] | None:
    """The bytes and the tag of one of our files; None for everything else, whatever the name tries to reach."""
    parts = name.split("/")
    if parts[0] not in _FOLDERS or not all(map(_is_plain, parts)):
        return None
    root = web_folder().resolve()
    path = root.joinpath(*parts)
    # A link inside the folder must not lead out of it either.
    if path.suffix not in _MEDIA_TYPES or "node_modules" in parts or not path.resolve().is_relative_to(root):
        return None
    try:
        status = os.stat(path)
        return _content(path, packed, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        return None


def _is_plain(part: str) -> bool:
    """No way up, nothing hidden, no separator of another system."""
    return bool(part) and not part.startswith(".") and not set(part) & {"\\", "\0", ":"}


@lru_cache(maxsize=128)
def _content(path: Path, packed: bool, changed_ns: int, size: int) -> tuple[bytes, str]:
    """Packed once, and not for each who asks: a page is a third of its size. `mtime` would make another tag in each process."""
    content = path.read_bytes()
    if packed:
        content = gzip.compress(content, mtime=0)
    return content, etags.of(content)
