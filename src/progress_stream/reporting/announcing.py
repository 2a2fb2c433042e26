"""How an actor is described to those who may start it: name, queue, title, JSON Schema of its arguments."""

from __future__ import annotations

import inspect
import json
import logging
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import dramatiq
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from ..errors import InvalidInput
from .upload import Upload

log = logging.getLogger(__name__)

#: What a form or a browser knows as a file.
_UPLOAD_SCHEMA: Final = {"type": "string", "format": "binary"}


def describe(actor: dramatiq.Actor[Any, Any]) -> bytes:
    """The announcement as JSON. Raises InvalidInput for an actor that cannot be started by named arguments."""
    known = {
        "name": actor.actor_name,
        "queue": actor.queue_name,
        "title": actor.options.get("title"),
        "broker": getattr(actor.broker, "namespace", None),
        "schema": schema_of(actor) if actor.options.get("submit") else None,
    }
    return json.dumps(known, separators=(",", ":")).encode()


def schema_of(actor: dramatiq.Actor[Any, Any]) -> dict[str, Any]:
    """The arguments as one JSON object."""
    function = inspect.unwrap(actor.fn)
    hints = _hints(function)
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    for name, parameter in inspect.signature(function).parameters.items():
        match parameter.kind:
            case inspect.Parameter.VAR_KEYWORD:
                schema["additionalProperties"] = True
            case inspect.Parameter.VAR_POSITIONAL:
                continue
            case inspect.Parameter.POSITIONAL_ONLY:
                fault = f"the argument {name!r} has no name to the caller"
                raise InvalidInput(f"actor {actor.actor_name}", fault, "arguments with names")
            case _:
                _add(schema, name, parameter, hints.get(name, Any))
    return schema


@lru_cache(maxsize=1_024)
def upload_names(actor: dramatiq.Actor[Any, Any]) -> dict[str, int]:
    """The arguments that are files, each with its place among the positional ones."""
    function = inspect.unwrap(actor.fn)
    hints = _hints(function)
    places = enumerate(inspect.signature(function).parameters)
    return {name: place for place, name in places if _is_upload(hints.get(name))}


def _add(schema: dict[str, Any], name: str, parameter: inspect.Parameter, hint: Any) -> None:
    described = dict(_UPLOAD_SCHEMA) if _is_upload(hint) else _described(hint)
    schema.setdefault("$defs", {}).update(described.pop("$defs", {}))
    if not schema["$defs"]:
        del schema["$defs"]
    if parameter.default is inspect.Parameter.empty:
        schema["required"].append(name)
    elif _is_json(parameter.default):
        described["default"] = parameter.default
    schema["properties"][name] = described


def _described(hint: Any) -> dict[str, Any]:
    try:
        return TypeAdapter(hint).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError):
        # A type that has no schema takes anything that JSON can say.
        return {}


def _hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception as error:
        # A name that exists for the type checker only: such an argument takes anything.
        log.warning(
            "the annotations of %s cannot be read: %s", getattr(function, "__qualname__", function), error
        )
        return {}


def _is_upload(hint: Any) -> bool:
    """True for Upload and Upload | None."""
    if get_origin(hint) in {Union, types.UnionType}:
        return any(_is_upload(part) for part in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Upload)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def announcements(
    actors: Mapping[str, dramatiq.Actor[Any, Any]], queues: frozenset[str] | None
) -> dict[str, bytes]:
    """Of those that report and whose queue is consumed here (None: all are).

    One that may not be started from outside has no schema: it is announced so that its queued jobs are known to be served.
    """
    described = {}
    for name, actor in list(actors.items()):
        if not (actor.options.get("submit") or actor.options.get("progress")):
            continue
        if queues is not None and actor.queue_name not in queues:
            continue
        try:
            described[name] = describe(actor)
        except InvalidInput as error:
            log.error("actor %s is not announced: %s", name, error)
    return described
