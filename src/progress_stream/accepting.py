"""Actors as workers announce them, and what one of them takes: arguments checked by its JSON Schema, or read from a form. Pure.

Which actors there are, and sending one its message, is left to `submitting`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from . import events
from .errors import InvalidInput

#: How an announced schema names a file.
_FILE: Final = "binary"


@dataclass(frozen=True, slots=True)
class Announced:
    """An actor that a worker offers now."""

    name: str
    queue: str
    title: str | None
    schema: Mapping[str, Any]
    broker: str | None = None  #: what begins its broker's keys, where that is a Redis

    @classmethod
    def parse(cls, text: bytes) -> Announced:
        """Raises ValueError for what is no announcement of an actor that may be started from outside."""
        known = events.decode_any(text)
        try:
            if known["schema"] is None:
                raise ValueError("not to be started from outside")
            found = cls(
                known["name"], known["queue"], known.get("title"), known["schema"], known.get("broker")
            )
            if not (isinstance(found.name, str) and isinstance(found.queue, str)):
                raise TypeError("names are text")
            if not all(isinstance(schema, dict) for schema in found.properties.values()):
                raise TypeError("a schema is an object")
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not an announcement") from error
        return found

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        return dict(self.schema.get("properties", {}))

    @property
    def files(self) -> tuple[str, ...]:
        """The arguments that are files."""
        return tuple(name for name, schema in self.properties.items() if schema.get("format") == _FILE)


def arguments(
    actor: Announced, args: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The actor's keyword arguments. Raises InvalidInput that names the first wrong one.

    A file comes as a stored one or not at all: a reference in `args` could name another job's.
    """
    stored = dict(files or {})
    for name in actor.files:
        if name in args and args[name] is not None:
            raise InvalidInput(name, "is not a file", "a file, sent as multipart/form-data")
    for name in stored:
        if name not in actor.files:
            raise InvalidInput(name, "is not an argument that takes a file", _listed(actor.files))
    # To the schema a file is text; what stands for it here is never sent on.
    plain = {name: value for name, value in args.items() if value is not None or name not in actor.files}
    _check(actor, {**plain, **dict.fromkeys(stored, "")})
    return {**plain, **{name: dict(ref) for name, ref in stored.items()}}


def replace_files(
    actor: Announced,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    replace: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments with another reference in place of each file's."""
    files = actor.files
    # A schema keeps its properties in the order of the function's parameters.
    places = {place for place, name in enumerate(actor.properties) if name in files}
    return (
        [
            replace(arg) if place in places and isinstance(arg, dict) else arg
            for place, arg in enumerate(args)
        ],
        {
            name: replace(arg) if name in files and isinstance(arg, dict) else arg
            for name, arg in kwargs.items()
        },
    )


def from_form(actor: Announced, fields: Mapping[str, str]) -> dict[str, Any]:
    """A form's text as the types that the schema asks for. Raises InvalidInput that names the field."""
    return {name: _from_text(name, text, actor.properties.get(name, {})) for name, text in fields.items()}


def from_json(text: str) -> Any:
    """RFC 8259: no NaN, and no number so large that it would be an infinite one. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=_decimal, parse_float=_decimal)


def file_argument(actor: Announced) -> str:
    """The argument that a form's one file is for. Raises InvalidInput where there is none."""
    if not actor.files:
        raise InvalidInput("file", f"is not taken by {actor.name}", _listed(tuple(actor.properties)))
    return "file" if "file" in actor.files else actor.files[0]


def _check(actor: Announced, args: Mapping[str, Any]) -> None:
    error = best_match(Draft202012Validator(dict(actor.schema)).iter_errors(dict(args)))
    if error is not None:
        raise _named(actor, error, args)


def _named(actor: Announced, error: ValidationError, args: Mapping[str, Any]) -> InvalidInput:
    """The error with the argument's name in front, in words of ours: a validator's own repeat the value."""
    if error.validator == "required" and not error.path:
        missing = next(name for name in actor.schema.get("required", ()) if name not in args)
        kind = (
            "a file, sent as multipart/form-data"
            if missing in actor.files
            else _kind(actor.properties[missing])
        )
        return InvalidInput(missing, "is missing", kind)
    if error.validator == "additionalProperties" and not error.path:
        unknown = next(name for name in args if name not in actor.properties)
        return InvalidInput(
            unknown[:100], f"is no argument of {actor.name}", _listed(tuple(actor.properties))
        )
    field = ".".join(str(part) for part in error.absolute_path)
    schema = actor.properties.get(str(error.absolute_path[0]), {}) if error.absolute_path else {}
    return InvalidInput(field or "args", "is not usable", _kind(schema))


def _kind(schema: Mapping[str, Any]) -> str:
    """What a schema allows, for a person."""
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    words = {
        "integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text", "null": "null",
        "array": "a list", "object": "an object",
    }  # fmt: skip
    kind = words.get(str(schema.get("type")), "a value that the actor's schema allows")
    limits = [f"{name} {schema[name]}" for name in _LIMITS if name in schema]
    return f"{kind} ({', '.join(limits)})" if limits else kind


_LIMITS: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
)  # fmt: skip


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if names else "none"


def _from_text(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    """One form field. A form knows only text: what cannot be read as the schema's type is refused, never guessed."""
    kinds = schema.get("anyOf", [schema])
    if text == "" and any(kind.get("type") == "null" for kind in kinds):
        return None
    for kind in kinds:
        convert = _FROM_TEXT.get(str(kind.get("type")))
        if convert is None:
            continue
        try:
            return convert(text)
        except ValueError:
            continue
    if any(kind.get("type") in {"string", None} for kind in kinds):
        return text
    raise InvalidInput(name, "cannot be read", _kind(schema))


def _boolean(text: str) -> bool:
    # "on" is what a browser sends for a ticked box.
    match text.lower():
        case "true" | "on" | "1" | "yes":
            return True
        case "false" | "off" | "0" | "no" | "":
            return False
    raise ValueError("not a boolean")


def _whole(text: str) -> int:
    if not text.strip().lstrip("+-").isascii() or "_" in text or len(text) > 40:
        raise ValueError("not a whole number")
    return int(text)


def _decimal(text: str) -> float:
    value = float(text)
    if "_" in text or value != value or value in {float("inf"), float("-inf")}:
        raise ValueError("not a finite number")
    return value


_FROM_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "integer": _whole, "number": _decimal, "boolean": _boolean, "array": from_json, "object": from_json,
}  # fmt: skip
