"""Values as plain JSON and back, by their type hints: what a process of another release can still read.

Dataclasses become objects, tuples, lists and sets arrays, bytes base64. Reading checks each value against the hints.
A field that is missing takes its default, so that a newer reader understands an older writer; a field that the reader
does not know is refused, since the fact in it would be lost.
"""

from __future__ import annotations

import base64
import binascii
import reprlib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from soniqd.errors import ControlError

T = TypeVar("T")

_ARRAYS: tuple[type, ...] = (tuple, list, set, frozenset)
_MAPPINGS: tuple[type, ...] = (dict, Mapping)
_SCALARS: tuple[type, ...] = (str, int, float, bool)


def to_plain(value: Any) -> Any:  # noqa: PLR0911  one return a kind of value
    """Return a value as JSON values; raises TypeError for one that has no plain form."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return to_plain(value.value)
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    raise TypeError(f"cannot write {type(value).__name__} as plain JSON")


def from_plain(kind: type[T], plain: Any) -> T:
    """Read what ``to_plain`` gave for a value of this type; raises ControlError that names the place that is wrong."""
    return cast("T", _read(kind, plain, kind.__name__))


def _read(kind: Any, plain: Any, where: str) -> Any:  # noqa: PLR0911  one return a kind of type
    if isinstance(kind, NewType):
        return _read(kind.__supertype__, plain, where)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_optional(kind, plain, where)
    if origin is Literal:
        return _checked(plain, plain in get_args(kind), where, f"one of {get_args(kind)}")
    if origin in _ARRAYS:
        return _read_array(kind, plain, where)
    if origin in _MAPPINGS:
        return _read_mapping(kind, plain, where)
    if kind is Any:
        return plain
    if is_dataclass(kind):
        return _read_dataclass(cast("type[Any]", kind), plain, where)
    return _read_scalar(kind, plain, where)


def _read_optional(kind: Any, plain: Any, where: str) -> Any:
    others = [each for each in get_args(kind) if each is not types.NoneType]
    if len(others) != 1:
        raise TypeError(f"cannot read {where}: {kind} does not tell which of its types a value has")
    return None if plain is None else _read(others[0], plain, where)


def _read_array(kind: Any, plain: Any, where: str) -> Any:
    items = _checked(plain, isinstance(plain, list), where, "an array")
    container, kinds = get_origin(kind), get_args(kind)
    if container is not tuple or (len(kinds) == 2 and kinds[1] is Ellipsis):
        return container(_read(kinds[0], item, f"{where}[{index}]") for index, item in enumerate(items))
    _checked(items, len(items) == len(kinds), where, f"{len(kinds)} values")
    return tuple(
        _read(each, item, f"{where}[{index}]") for index, (each, item) in enumerate(zip(kinds, items, strict=True))
    )


def _read_mapping(kind: Any, plain: Any, where: str) -> Any:
    key_kind, value_kind = get_args(kind)
    items = _checked(plain, isinstance(plain, dict), where, "an object")
    return {_read_key(key_kind, key, where): _read(value_kind, item, f"{where}.{key}") for key, item in items.items()}


def _read_key(kind: Any, key: str, where: str) -> Any:
    """Keys of JSON objects are strings whatever they were."""
    if kind is not int:
        return _read(kind, key, where)
    try:
        return int(key)
    except ValueError:
        raise _wrong(where, "whole numbers as keys", key) from None


def _read_dataclass(kind: type[Any], plain: Any, where: str) -> Any:
    values = _checked(plain, isinstance(plain, dict), where, "an object")
    known = {field.name: field for field in fields(kind) if field.init}
    hints = get_type_hints(kind)
    if unknown := sorted(values.keys() - known.keys()):
        raise ControlError(f"cannot read {where}: nothing here knows {', '.join(unknown)}")
    if missing := [name for name, field in known.items() if name not in values and _is_required(field)]:
        raise ControlError(f"cannot read {where}: {', '.join(missing)} is missing")
    return kind(**{name: _read(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _read_scalar(kind: Any, plain: Any, where: str) -> Any:
    if kind is bytes:
        return _read_bytes(plain, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(plain)
        except ValueError:
            raise _wrong(where, f"one of {[each.value for each in kind]}", plain) from None
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if kind in _SCALARS:
        return _checked(plain, type(plain) is kind, where, kind.__name__)
    raise TypeError(f"cannot read {where}: {kind} has no plain form")


def _read_bytes(plain: Any, where: str) -> bytes:
    try:
        return base64.b64decode(plain, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _wrong(where, "base64", plain) from None


def _checked(plain: Any, right: bool, where: str, expected: str) -> Any:  # noqa: FBT001  the condition of an assertion
    if not right:
        raise _wrong(where, expected, plain)
    return plain


def _wrong(where: str, expected: str, got: Any) -> ControlError:
    return ControlError(f"cannot read {where}: expected {expected}, got {reprlib.repr(got)}")


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
