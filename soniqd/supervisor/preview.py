"""What a reload means: for each group, which of its children go or stay, and which keys or code say so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from soniqd.model.child import GroupPlan
from soniqd.policy.plan_diff import GroupDiff, diff_plans
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.transfer import dump_settings
from soniqd.supervisor.changes import CHILDREN, compare_settings
from soniqd.supervisor.plan import make_plan

Code = Mapping[str, str]
"""A digest for each part of a generation's code (see soniqd.control.fork.Booted)."""
_WORDS = {"[jobs] path": "Python files in [jobs] path"}
"""A part that is named like a setting, which has not changed."""


@dataclass(frozen=True, slots=True)
class Preview:
    """``settings`` that differ beside those of groups, parts of the ``code`` that differ, and what that means."""

    settings: tuple[str, ...]
    code: tuple[str, ...]
    groups: tuple[GroupDiff, ...]

    def as_json(self) -> dict[str, Any]:
        """What soniqctl is answered."""
        groups = [{**asdict(group), "reasons": list(group.reasons)} for group in self.groups]
        return {"settings": list(self.settings), "code": list(self.code), "groups": groups}


def preview(
    old: DaemonSettings,
    new: DaemonSettings,
    *,
    old_code: Code,
    new_code: Code,
    fingerprints: Collection[str],
    running: Sequence[GroupPlan],
    everything: bool = False,
) -> Preview:
    """Compare what is in force with what a reload would bring.

    ``fingerprints`` are those of what runs now, ``running`` is the plan in force with its scaled groups. ``old_code``
    is there to say what changed; whether anything did is said by the fingerprints.
    """
    differences = compare_settings(old, new)
    same_code = set(fingerprints) == {fingerprint_of(new_code, old)} - {""}
    parts = () if same_code else changed_parts(old_code, new_code)
    reasons = [
        *(["everything was asked for"] if everything else []),
        *(str(change) for change in differences.children),
        *([] if same_code else [f"code changed: {', '.join(_WORDS.get(part, part) for part in parts)}"]),
    ]
    groups = diff_plans(
        make_plan(old),
        make_plan(new),
        running={group.name: group.processes for group in running},
        everything=reasons,
        unscale=everything,
    )
    settings = tuple(str(change) for change in (*differences.children, *differences.master))
    return Preview(settings, parts, groups)


def changed_parts(old: Code, new: Code) -> tuple[str, ...]:
    """Name the parts that differ."""
    differing = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part)) if old else []
    return tuple(differing) or ("it is not known where",)


def fingerprint_of(code: Code, settings: DaemonSettings) -> str:
    """Sum up all that children take from their fork server; equal ones make equal children, "" equals nothing."""
    if not code:
        return ""
    facts = [sorted(code.items()), sorted(_for_children(settings).items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _for_children(settings: DaemonSettings) -> dict[str, Any]:
    plain = dump_settings(settings)
    return {f"{table}.{name}": plain[table][name] for table, name in CHILDREN}
