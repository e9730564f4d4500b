"""Describe soniq.toml: every key with its type, default, description and variable."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.durations import format_duration, parse_duration_s
from soniqd.settings.fields import Setting, Written, settings_of
from soniqd.settings.problems import Loc
from soniqd.settings.sizes import format_size, parse_size
from soniqd.settings.transfer import dump
from soniqd.settings.variables import VARIABLES

_TYPES: Mapping[Any, str] = {int: "integer", bool: "boolean", str: "string", Path: "path", float: "number"}
_SCHEMAS: Mapping[Any, Mapping[str, Any]] = {
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    Path: {"type": "string", "format": "path"},
    float: {"type": "number"},
}
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
    "min_length": "minLength",
}


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
    keys = settings_of(DaemonSettings)
    yield _key("", ("include",), keys["include"])
    for name, each in keys.items():
        if is_dataclass(each.type):
            yield from _table(f"[{name}]", (name,), each.type)
        elif name == "workers":
            yield from _table("[[workers]]", (name, "*"), WorkerGroup)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of soniq.toml (draft 2020-12)."""
    definitions: dict[str, Any] = {}
    schema = _object(DaemonSettings, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def plain_value(setting: Setting, value: Any) -> Any:
    """Return a setting as it would be written in TOML."""
    if isinstance(value, float) and _is_parsed_by(parse_duration_s, setting.type):
        return format_duration(value)
    if isinstance(value, int) and _is_parsed_by(parse_size, setting.type):
        return format_size(value) if value else 0
    return dump(value)


def _is_parsed_by(parse: Callable[[object], Any], kind: Any) -> bool:
    """Tell whether a value is written as a duration, a size or the like."""
    written = _written(kind)
    return written is not None and written.parse is parse


def _written(kind: Any) -> Written | None:
    if get_origin(kind) is Annotated:
        return next((each for each in get_args(kind)[1:] if isinstance(each, Written)), None)
    return _written(_required(kind)) if _is_optional(kind) else None


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _required(kind: Any) -> Any:
    """Return the kind of value that an optional one has if it has any."""
    [inner] = [choice for choice in get_args(kind) if choice is not types.NoneType]
    return inner


def _table(table: str, loc: Loc, kind: Any) -> Iterator[Key]:
    for name, setting in settings_of(kind).items():
        yield _key(table, (*loc, name), setting)


def _key(table: str, loc: Loc, setting: Setting) -> Key:
    return Key(
        table=table,
        name=setting.name,
        type=_type(setting.type),
        default=plain_value(setting, setting.default()),
        description=setting.description,
        variables=VARIABLES.get(loc, ()),
    )


def _type(kind: Any) -> str:  # noqa: PLR0911  one return a kind of type
    if _is_parsed_by(parse_duration_s, kind):
        return "duration"
    if _is_parsed_by(parse_size, kind):
        return "size"
    origin, parts = get_origin(kind), get_args(kind)
    if _is_optional(kind):
        return _type(_required(kind))
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " | ".join(f'"{choice}"' for choice in parts)
    if origin is tuple:
        return f"array of {_type(parts[0])}s"
    return f"table of {_type(parts[1])}s" if origin is dict else _TYPES[kind]


def _object(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _property(setting, definitions) for name, setting in settings_of(kind).items()}
    return {
        "type": "object",
        "title": kind.__name__,
        "description": kind.__doc__,
        "properties": properties,
        "additionalProperties": False,
    }


def _property(setting: Setting, definitions: dict[str, Any]) -> dict[str, Any]:
    default = dump(setting.default())
    bounds = {_BOUNDS[name]: bound for name in _BOUNDS if (bound := getattr(setting.bounds, name)) is not None}
    return {
        **_schema(setting.type, definitions),
        **bounds,
        **({"description": setting.description} if setting.description else {}),
        **({} if default is None else {"default": default}),
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911  one return a kind of type
    written, origin, parts = _written(kind), get_origin(kind), get_args(kind)
    if written is not None and written.schema is not None:
        return dict(written.schema)
    if _is_optional(kind):
        return _schema(_required(kind), definitions)
    if origin is Annotated:
        return _schema(parts[0], definitions)
    if origin is Literal:
        return {"type": "string", "enum": list(parts)}
    if origin is tuple:
        return {"type": "array", "items": _schema(parts[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(parts[1], definitions)}
    if is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        definitions.setdefault(name, _object(kind, definitions))  # type: ignore[arg-type]
        return {"$ref": f"#/$defs/{name}"}
    return dict(_SCHEMAS[kind])
