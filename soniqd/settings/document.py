"""One configuration out of many sources: a nested document in which every value remembers where it came from.

Sources are merged in order of precedence, lowest first. A later source replaces single values; ``[[workers]]`` of
different files are merged by their name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from soniqd.settings.problems import Loc, dotted, quoted


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: a file, a variable or the command line, and its location there (empty: all of it)."""

    source: str
    loc: Loc = ()

    def __str__(self) -> str:
        return f"{self.source}: {dotted(self.loc)}" if self.loc else self.source


@dataclass(slots=True)
class Document:
    """The merged values, the origin of each table and value in them, and every problem found on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Loc, Origin] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def merge(self, values: Mapping[str, Any], *, source: str) -> None:
        """Put a file's values over what is there."""
        for key, value in values.items():
            if key == "workers" and isinstance(value, list):
                self._merge_groups(value, source=source)
            else:
                self._put((key,), value, Origin(source, (key,)))

    def set(self, loc: Loc, value: Any, origin: Origin) -> None:
        """Put one value; ``("workers", "*", key)`` stands for every group, or for a first one if there is none."""
        match loc:
            case ("workers", "*", str(key)):
                groups = self.values.setdefault("workers", [{}])
                for index in range(len(groups)) if isinstance(groups, list) else ():
                    self._put(("workers", index, key), value, origin)
            case _:
                self._put(loc, value, origin)

    def origin(self, loc: Loc) -> Origin | None:
        """Tell where a value, or the smallest thing around it that was written, came from."""
        for length in range(len(loc), 0, -1):
            if found := self.origins.get(loc[:length]):
                rest = loc[length:] if found.loc else ()
                return Origin(found.source, found.loc + rest)
        return None

    def _merge_groups(self, groups: Sequence[Any], *, source: str) -> None:
        merged = self.values.setdefault("workers", [])
        if not isinstance(merged, list):
            merged = self.values["workers"] = []
        self.origins[("workers",)] = Origin(source, ("workers",))
        seen: dict[str, int] = {}
        for position, group in enumerate(groups):
            name = group.get("name", "default") if isinstance(group, dict) else None
            here = Origin(source, ("workers", position))
            if isinstance(name, str) and name in seen:
                self.problems.append(
                    f"{Origin(source, (*here.loc, 'name'))}: expected a name of its own, got {quoted(name)}, "
                    f"which workers[{seen[name]}] has"
                )
                continue
            if isinstance(name, str):
                seen[name] = position
            self._put(("workers", _group_index(merged, name)), group, here)

    def _put(self, loc: Loc, value: Any, origin: Origin) -> None:
        container = self._container(loc)
        if container is None:
            return
        self.origins[loc] = origin
        key: Any = loc[-1]
        if isinstance(container, list):
            if key == len(container):
                container.append(None)
            present = container[key]
        else:
            present = container.get(key)
        if not isinstance(value, dict):
            container[key] = value
            return
        if not isinstance(present, dict):
            container[key] = {}
        for name, item in value.items():
            self._put((*loc, name), item, Origin(origin.source, (*origin.loc, name)))

    def _container(self, loc: Loc) -> Any:
        here: Any = self.values
        for part in loc[:-1]:
            if isinstance(here, dict):
                here = here.setdefault(part, {})
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                return None
        return here if isinstance(here, dict | list) else None


def _group_index(groups: Sequence[Any], name: str | None) -> int:
    for index, group in enumerate(groups):
        if name is not None and isinstance(group, dict) and group.get("name", "default") == name:
            return index
    return len(groups)


def map_strings(value: Any, change: Callable[[str, Loc], str], loc: Loc = ()) -> Any:
    """Return a copy of a document in which every string went through ``change``; keys stay as they are."""
    if isinstance(value, str):
        return change(value, loc)
    if isinstance(value, dict):
        return {key: map_strings(item, change, (*loc, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [map_strings(item, change, (*loc, index)) for index, item in enumerate(value)]
    return value
