"""How many children a group has when somebody has scaled it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from soniqd.model.child import GroupPlan

Plan = tuple[GroupPlan, ...]


def scaled_plan(configured: Plan, scaled: Mapping[str, int]) -> Plan:
    """Return the plan with the scaled numbers in place of the configured ones."""
    return tuple(replace(group, processes=scaled.get(group.name, group.processes)) for group in configured)


def lasting_scales(scaled: Mapping[str, int], *, before: Plan, after: Plan, unscale: bool) -> dict[str, int]:
    """Return the scaled numbers that a reload leaves in force: those of groups whose configured number is the same."""
    if unscale:
        return {}
    was = {group.name: group.processes for group in before}
    same = {group.name for group in after if was.get(group.name) == group.processes}
    return {name: processes for name, processes in scaled.items() if name in same}
