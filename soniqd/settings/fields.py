"""Declare settings as frozen dataclasses, without the library that most would take for it.

Every process of the daemon has settings, and pydantic would be 10 MiB in each that imports it for itself: in the master
and in the fork server. These few dozen values need little of it, so :mod:`soniqd.settings.reading` is all there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """In ``Annotated``: people write this value in a form of its own. ``parse`` raises ValueError, worded for them."""

    parse: Callable[[object], Any]
    schema: Mapping[str, Any] | None = dataclasses.field(default=None, hash=False)
    """The form as JSON Schema, where it is not that of the type."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a value of the right type has to be beyond that."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    pattern: str | None = None
    min_length: int | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a table. ``type`` is its annotation, with what is ``Annotated``."""

    name: str
    type: Any
    description: str
    bounds: Bounds
    default: Callable[[], Any]


def setting(
    default: T,
    description: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    pattern: str | None = None,
    min_length: int | None = None,
    shown: bool = True,
) -> T:
    """Declare a field of a settings class; ``shown`` says whether its value may be part of a text (repr)."""
    metadata = {"description": description, "bounds": Bounds(ge, gt, le, lt, pattern, min_length)}
    if isinstance(default, (list, dict)):
        copy: Any = default.copy
        return cast("T", dataclasses.field(default_factory=copy, repr=shown, metadata=metadata))
    return dataclasses.field(default=default, repr=shown, metadata=metadata)


_SETTINGS: dict[Any, Mapping[str, Setting]] = {}


def settings_of(table: Any) -> Mapping[str, Setting]:
    """Return what a settings class declares, by name and in its order."""
    if table not in _SETTINGS:
        _SETTINGS[table] = _settings_of(table)
    return _SETTINGS[table]


def _settings_of(table: Any) -> Mapping[str, Setting]:
    hints = get_type_hints(table, include_extras=True)
    return {
        field.name: Setting(
            name=field.name,
            type=hints[field.name],
            description=field.metadata.get("description", ""),
            bounds=field.metadata.get("bounds", Bounds()),
            default=_default(field),
        )
        for field in dataclasses.fields(table)
        if field.init
    }


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any]:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return lambda: field.default
