"""Reads request bodies within bounds. How many streams may be open is the hub's to count."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from .. import accepting
from ..errors import InvalidInput, TooLarge

#: Fields of one form, and bytes of one field's name: more than an actor has arguments.
MAX_FIELDS: Final = 100


def check_length(request: Request, name: str, limit: int) -> None:
    """Refuse by `Content-Length`, before a byte is read. Raises TooLarge."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise TooLarge(name, limit)


async def chunks(request: Request, name: str, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises TooLarge as soon as it passes the limit."""
    check_length(request, name, limit)
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise TooLarge(name, limit)
        yield chunk


async def body(request: Request, limit: int) -> bytes:
    """The whole body, at most BODY_BYTES."""
    return b"".join([chunk async for chunk in chunks(request, "BODY_BYTES", limit)])


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_object(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object in the body. Raises InvalidInput for anything else; 415 for another media type."""
    if media_type(request) != "application/json":
        raise HTTPException(415, "a body here is application/json")
    return parse_object(await body(request, limit))


def parse_object(text: bytes, field: str = "body") -> dict[str, Any]:
    """A JSON object in UTF-8. Raises InvalidInput."""
    try:
        value = accepting.from_json(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise InvalidInput(field, "is not JSON", "an object in UTF-8") from None
    if not isinstance(value, dict):
        raise InvalidInput(field, "is not a JSON object")
    return value
