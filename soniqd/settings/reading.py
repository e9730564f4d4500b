"""Make settings out of what was written, and say of every value that cannot be one what was expected instead.

A file is read strictly: ``"4"`` and ``true`` are no numbers. Variables of the environment, which are always text, and
keyword arguments are read as what they look like.
"""

from __future__ import annotations

import os
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from soniqd.log.redact import redact
from soniqd.settings.fields import Bounds, Written, settings_of
from soniqd.settings.problems import Loc, quoted

T = TypeVar("T")

_YES = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO = frozenset({"0", "false", "f", "no", "n", "off"})
_ARRAYS = (list, tuple)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a place: ``text`` for people, or a key that nothing ``is_unknown`` as."""

    loc: Loc
    text: str
    is_unknown: bool = False


class MistakesError(ValueError):
    """All of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(mistake.text for mistake in mistakes))
        self.mistakes = mistakes


def read_settings(table: type[T], values: Any, *, strict: bool) -> T:
    """Make an instance of a settings class out of a mapping; what it leaves out is the default.

    Raises MistakesError with everything that is wrong, in the order of the class.
    """
    reader = _Reader(strict=strict)
    made: T = reader.read(table, values, ())
    if reader.mistakes:
        raise MistakesError(reader.mistakes)
    return made


class _Wrong(Exception):  # noqa: N818  never leaves this module
    """A value is not what was expected; the reader has noted it."""


class _Reader:
    def __init__(self, *, strict: bool) -> None:
        self.mistakes: list[Mistake] = []
        self._strict = strict

    def read(self, kind: Any, value: Any, loc: Loc) -> Any:
        """Return the value as this kind; None, with a mistake noted, if it is none."""
        try:
            return self._read(kind, value, loc)
        except _Wrong:
            return None

    def _read(self, kind: Any, value: Any, loc: Loc) -> Any:  # noqa: PLR0911  one return a kind of type
        origin, parts = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._read(parts[0], self._parsed(parts[1:], value, loc), loc)
        if origin in (Union, types.UnionType):
            [inner] = [part for part in parts if part is not types.NoneType]
            return None if value is None else self._read(inner, value, loc)
        if origin is Literal:
            return self._checked(value in parts, value, loc, f"one of {_listed(parts)}")
        if origin in _ARRAYS:
            return self._array(origin, parts[0], value, loc)
        if origin is dict:
            self._checked(isinstance(value, dict), value, loc, "a table")
            return {key: self.read(parts[1], item, (*loc, key)) for key, item in value.items()}
        if is_dataclass(kind):
            return self._table(kind, value, loc)
        return self._scalar(kind, value, loc)

    def _parsed(self, annotations: tuple[Any, ...], value: Any, loc: Loc) -> Any:
        for written in annotations:
            if isinstance(written, Written):
                try:
                    value = written.parse(value)
                except ValueError as error:
                    self._note(loc, redact(str(error)))
        return value

    def _table(self, kind: Any, value: Any, loc: Loc) -> Any:
        if isinstance(value, kind):
            return value
        self._checked(isinstance(value, Mapping), value, loc, "a table")
        found, known = {}, settings_of(kind)
        for name, setting in known.items():
            if name in value:
                here = (*loc, name)
                before = len(self.mistakes)
                found[name] = self.read(setting.type, value[name], here)
                if len(self.mistakes) == before:
                    self._bound(setting.bounds, found[name], here)
        self.mistakes += [Mistake((*loc, name), "unknown key", is_unknown=True) for name in value if name not in known]
        return kind(**found)

    def _array(self, container: Callable[[Any], Any], kind: Any, value: Any, loc: Loc) -> Any:
        self._checked(isinstance(value, _ARRAYS), value, loc, "an array")
        return container(self.read(kind, item, (*loc, index)) for index, item in enumerate(value))

    def _scalar(self, kind: Any, value: Any, loc: Loc) -> Any:
        if kind is Path:
            self._checked(isinstance(value, str | os.PathLike) and "\0" not in str(value), value, loc, "a path")
            return Path(value)
        if kind is str:
            return self._checked(isinstance(value, str), value, loc, "a string")
        if not self._strict:
            value = _LIKENESSES[kind](value)
        if kind is bool:
            return self._checked(isinstance(value, bool), value, loc, "true or false")
        is_number = not isinstance(value, bool) and isinstance(value, int if kind is int else int | float)
        self._checked(is_number, value, loc, "a whole number" if kind is int else "a number")
        try:
            return kind(value)
        except OverflowError:  # a whole number beyond what a float can be
            return self._checked(False, value, loc, "a smaller number")

    def _bound(self, bounds: Bounds, value: Any, loc: Loc) -> None:
        if value is not None and (wanted := _missed(bounds, value)) is not None:
            self.mistakes.append(_mistake(loc, wanted, value))

    def _checked(self, right: bool, value: Any, loc: Loc, wanted: str) -> Any:  # noqa: FBT001  an assertion's condition
        if not right:
            self.mistakes.append(_mistake(loc, wanted, value))
            raise _Wrong
        return value

    def _note(self, loc: Loc, text: str) -> None:
        self.mistakes.append(Mistake(loc, text))
        raise _Wrong


def _mistake(loc: Loc, wanted: str, value: Any) -> Mistake:
    return Mistake(loc, f"expected {wanted}, got {quoted(value)}")


def _missed(bounds: Bounds, value: Any) -> str | None:  # noqa: PLR0911  one return a bound
    """Say which bound a value misses; comparisons are the way round that NaN misses all of them."""
    if bounds.ge is not None and not value >= bounds.ge:
        return f"{bounds.ge:g} or more"
    if bounds.gt is not None and not value > bounds.gt:
        return f"more than {bounds.gt:g}"
    if bounds.le is not None and not value <= bounds.le:
        return f"{bounds.le:g} or less"
    if bounds.lt is not None and not value < bounds.lt:
        return f"less than {bounds.lt:g}"
    if bounds.min_length is not None and len(value) < bounds.min_length:
        return "some text"
    if bounds.pattern is not None and re.fullmatch(bounds.pattern, value) is None:
        return f"text that matches {bounds.pattern}"
    return None


def _listed(choices: tuple[str, ...]) -> str:
    *others, last = (f'"{choice}"' for choice in choices)
    return f"{', '.join(others)} or {last}"


def _like_bool(value: Any) -> Any:
    text = str(value).strip().lower()
    return True if text in _YES else False if text in _NO else value


def _like_int(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return _number(int, value)


def _like_float(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else _number(float, value)


def _number(kind: Callable[[str], Any], value: Any) -> Any:
    try:
        return kind(value) if isinstance(value, str) else value
    except ValueError:
        return value


_LIKENESSES: Mapping[type, Callable[[Any], Any]] = {bool: _like_bool, int: _like_int, float: _like_float}
