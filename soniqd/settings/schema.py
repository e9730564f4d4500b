"""Describe soniq.toml: every key with its type, default, description and variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.durations import format_duration, parse_duration_s
from soniqd.settings.problems import Loc
from soniqd.settings.sizes import format_size, parse_size
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


def plain_value(field: FieldInfo, value: Any) -> Any:
    """Return a setting as it would be written in TOML."""
    if isinstance(value, float) and _is_parsed_by(parse_duration_s, field):
        return format_duration(value)
    if isinstance(value, int) and _is_parsed_by(parse_size, field):
        return format_size(value) if value else 0
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [item if isinstance(item, int) else str(item) for item in value]
    return value


def _is_parsed_by(parse: Callable[[object], Any], field: FieldInfo) -> bool:
    """Tell whether a field is written as a duration, a size or the like."""
    # Pydantic keeps the metadata of "Duration" in the field, that of "Duration | None" in the annotation.
    inner = [part for choice in get_args(field.annotation) for part in getattr(choice, "__metadata__", ())]
    return any(getattr(part, "func", None) is parse for part in (*field.metadata, *inner))


def _table(table: str, loc: Loc, model: type[BaseModel]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        yield _key(table, (*loc, name), name, field)


def _key(table: str, loc: Loc, name: str, field: FieldInfo) -> Key:
    return Key(
        table=table,
        name=name,
        type=_type_of(field),
        default=plain_value(field, field.get_default()),
        description=field.description or "",
        variables=VARIABLES.get(loc, ()),
    )


def _type_of(field: FieldInfo) -> str:
    if _is_parsed_by(parse_duration_s, field):
        return "duration"
    return "size" if _is_parsed_by(parse_size, field) else _type(field.annotation)


def _type(annotation: Any) -> str:
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    if get_origin(annotation) is Literal:
        return " | ".join(f'"{choice}"' for choice in choices)
    if get_origin(annotation) is tuple:
        return f"array of {_type(choices[0])}s"
    if get_origin(annotation) is dict:
        return f"table of {_type(choices[1])}s"
    if get_origin(annotation) is Annotated:
        return _type(choices[0])
    if annotation in _TYPES:
        return _TYPES[annotation]
    return _type(choices[0])
