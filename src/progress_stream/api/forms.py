"""A multipart form with at most one file, within bounds: small in memory, larger ones in a temporary file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import InvalidInput, TooLarge
from ..settings import Settings
from . import limits


@dataclass(slots=True)
class FormFile:
    """A file as a form brought it: `field` is the input's name, `name` the file's."""

    field: str
    name: str
    media_type: str
    size: int
    file: BinaryIO


@dataclass(slots=True)
class Form:
    """Each field once. Whoever reads it closes the file."""

    fields: dict[str, str]
    file: FormFile | None


class _Bounded(MultiPartParser):
    """Starlette's parser bounds each field and no file: here all fields together, and the file, have a bound."""

    def __init__(self, *args: Any, body_bytes: int, file_bytes: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._body_bytes = body_bytes
        self._file_bytes = file_bytes
        self._seen = {"BODY_BYTES": 0, "FILE_BYTES": 0}

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        is_file = self._current_part.file is not None
        name, limit = ("FILE_BYTES", self._file_bytes) if is_file else ("BODY_BYTES", self._body_bytes)
        self._seen[name] += end - start
        if self._seen[name] > limit:
            raise TooLarge(name, limit)
        super().on_part_data(data, start, end)


async def read(request: Request, settings: Settings) -> Form:
    """The form in the body. Raises TooLarge, InvalidInput; 400 for what is no multipart form."""
    whole = settings.file_bytes + settings.body_bytes
    parser = _Bounded(
        request.headers, limits.chunks(request, "FILE_BYTES", whole), max_files=1, max_fields=limits.MAX_FIELDS,
        max_part_size=settings.body_bytes, body_bytes=settings.body_bytes, file_bytes=settings.file_bytes,
    )  # fmt: skip
    try:
        items = (await parser.parse()).multi_items()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise InvalidInput("file", "comes more than once", "one file") from None
        raise HTTPException(400, error.message.rstrip(".")) from None
    try:
        return _form(items)
    except BaseException:
        for _, value in items:
            if isinstance(value, UploadFile):
                await value.close()
        raise


def _form(items: list[tuple[str, Any]]) -> Form:
    form = Form({}, None)
    for name, value in items:
        if name in form.fields or (form.file is not None and form.file.field == name):
            raise InvalidInput(name, "comes more than once")
        if not isinstance(value, UploadFile):
            form.fields[name] = value
        elif value.filename or value.size:
            # A browser sends an input that nobody filled as a file without name and bytes: that is none.
            form.file = FormFile(
                name, value.filename or "", value.content_type or "application/octet-stream", value.size or 0,
                value.file,
            )  # fmt: skip
    return form
