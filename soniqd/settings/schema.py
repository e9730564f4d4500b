"""Describe soniq.toml: every key with its type, default, description and variable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.durations import format_duration, parse_duration_s
from soniqd.settings.problems import Loc
from soniqd.settings.variables import VARIABLES

_TYPES: dict[Any, str] = {int: "integer", bool: "boolean", str: "string", Path: "path", float: "number"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``table`` is as it is written (``[soniqd]``, ``[[workers]]``), empty for a key above all tables."""

    table: str
    name: str
    type: str
    default: Any
    description: str
    variables: tuple[str, ...]


def describe_keys() -> Iterator[Key]:
    """Yield every key in the order of the file."""
    for name, field in DaemonSettings.model_fields.items():
        if name == "include":
            yield _key("", (name,), name, field)
    for name, value in DaemonSettings():
        if isinstance(value, BaseModel):
            yield from _table(f"[{name}]", (name,), type(value))
        elif name == "workers":
            yield from _table("[[workers]]", (name, "*"), WorkerGroup)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of soniq.toml."""
    return DaemonSettings.model_json_schema()


def plain_value(value: Any, *, is_duration: bool) -> Any:
    """Return a setting as it would be written in TOML."""
    if is_duration and isinstance(value, float):
        return format_duration(value)
    if isinstance(value, Path):
        return str(value)
    return [str(item) for item in value] if isinstance(value, tuple) else value


def is_duration(field: FieldInfo) -> bool:
    """Tell whether a field is written as a duration."""
    # Pydantic keeps the metadata of "Duration" in the field, that of "Duration | None" in the annotation.
    inner = [part for choice in get_args(field.annotation) for part in getattr(choice, "__metadata__", ())]
    return any(getattr(part, "func", None) is parse_duration_s for part in (*field.metadata, *inner))


def _table(table: str, loc: Loc, model: type[BaseModel]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        yield _key(table, (*loc, name), name, field)


def _key(table: str, loc: Loc, name: str, field: FieldInfo) -> Key:
    duration = is_duration(field)
    return Key(
        table=table,
        name=name,
        type="duration" if duration else _type(field.annotation),
        default=plain_value(field.get_default(), is_duration=duration),
        description=field.description or "",
        variables=VARIABLES.get(loc, ()),
    )


def _type(annotation: Any) -> str:
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    if get_origin(annotation) is Literal:
        return " | ".join(f'"{choice}"' for choice in choices)
    if get_origin(annotation) is tuple:
        return f"array of {_type(choices[0])}s"
    if annotation in _TYPES:
        return _TYPES[annotation]
    return _type(choices[0])
