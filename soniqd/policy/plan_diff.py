"""What a new plan means for each group of children, and which keys say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from soniqd.model.child import GroupPlan

Action = Literal["start", "stop", "change", "stay"]

_UNITS = ("_s", "_bytes")
_SECRET = frozenset({"env"})


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key with its value before and after, as words; values of keys that may hold secrets are left out."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


@dataclass(frozen=True, slots=True)
class GroupDiff:
    """What becomes of one group: how many children start, stop, are replaced and stay, and why."""

    name: str
    action: Action
    started: int = 0
    stopped: int = 0
    replaced: int = 0
    kept: int = 0
    reasons: tuple[str, ...] = ()


def diff_plans(
    old: Sequence[GroupPlan],
    new: Sequence[GroupPlan],
    *,
    running: Mapping[str, int],
    everything: Sequence[str] = (),
    unscale: bool = False,
) -> tuple[GroupDiff, ...]:
    """Compare two plans group by group, in the new one's order, then those that end.

    ``running`` is how many children each group is to have now, which scaling makes another number than ``old`` says;
    it holds unless the plan's own number changed, or with ``unscale``. ``everything`` are reasons to replace all
    children, whatever their group's plan says.
    """
    before = {group.name: group for group in old}
    after = {group.name for group in new}
    diffs = [_group(before.get(group.name), group, running, tuple(everything), unscale=unscale) for group in new]
    ended = [group for group in old if group.name not in after]
    return (*diffs, *(_ended(group, running.get(group.name, group.processes)) for group in ended))


def needs_replacement(old: GroupPlan, new: GroupPlan) -> bool:
    """Tell whether a group's children have to be others. A number of processes alone asks for more or fewer of them."""
    return replace(old, processes=new.processes) != new


def changed_keys(old: Any, new: Any, prefix: str = "") -> Iterator[KeyChange]:
    """Yield the fields in which two values of a dataclass differ, by the names that people know."""
    for field in fields(old):
        was, will_be = getattr(old, field.name), getattr(new, field.name)
        if was == will_be:
            continue
        key = f"{prefix}{_key(field.name)}"
        if is_dataclass(was):
            yield from changed_keys(was, will_be, prefix)
        elif field.name in _SECRET:
            yield KeyChange(key, _names(was), _names(will_be))
        else:
            yield KeyChange(key, _worded(field.name, was), _worded(field.name, will_be))


def _group(
    old: GroupPlan | None, new: GroupPlan, running: Mapping[str, int], everything: tuple[str, ...], *, unscale: bool
) -> GroupDiff:
    if old is None:
        return GroupDiff(new.name, "start", started=new.processes, reasons=("a new group",))
    now = running.get(new.name, old.processes)
    wanted = new.processes if unscale or new.processes != old.processes else now
    reasons = [*everything, *(str(change) for change in changed_keys(replace(old, processes=new.processes), new))]
    staying = min(now, wanted)
    replaced = staying if reasons else 0
    if wanted != now:
        reasons.insert(0, str(KeyChange("processes", str(now), str(wanted))))
    started, stopped = max(0, wanted - now), max(0, now - wanted)
    action: Action = "change" if replaced or started or stopped else "stay"
    return GroupDiff(new.name, action, started, stopped, replaced, staying - replaced, tuple(reasons))


def _ended(old: GroupPlan, now: int) -> GroupDiff:
    return GroupDiff(old.name, "stop", stopped=now, reasons=("it is no longer configured",))


def _key(field: str) -> str:
    for unit in _UNITS:
        field = field.removesuffix(unit)
    return field


def _worded(field: str, value: object) -> str:
    match value:
        case None:
            return "unset"
        case tuple():
            return f"[{', '.join(_item(item) for item in value)}]"
        case float():
            return f"{value:g}s" if field.endswith("_s") else f"{value:g}"
        case str():
            return f'"{value}"'
    return str(value)


def _item(item: object) -> str:
    return "=".join(str(part) for part in item) if isinstance(item, tuple) else str(item)


def _names(pairs: Sequence[tuple[str, str]]) -> str:
    return f"[{', '.join(name for name, _ in pairs)}] (values are not shown)"
