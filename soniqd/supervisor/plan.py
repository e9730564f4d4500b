"""From settings to the plan that the supervision machine works on, and which changes a reload cannot apply."""

from __future__ import annotations

from soniqd.model.child import GroupPlan
from soniqd.settings.daemon import DaemonSettings

SCHEDULER_GROUP = "scheduler"
SCHEDULER_HANG_TIMEOUT_S = 15.0
"""No job code can block it, and one that stands still keeps the lead from the schedulers of all hosts."""


def make_plan(settings: DaemonSettings) -> tuple[GroupPlan, ...]:
    """List the groups of children that the settings ask for, the scheduler first."""
    groups = [
        GroupPlan(
            role="worker",
            name=group.name,
            processes=group.processes,
            concurrency=group.concurrency,
            queues=group.queues,
            drain_timeout_s=settings.soniqd.drain_timeout if group.drain_timeout is None else group.drain_timeout,
            hang_timeout_s=group.hang_timeout,
        )
        for group in settings.workers
    ]
    if settings.scheduler.enabled:
        scheduler = GroupPlan(
            role="scheduler",
            name=SCHEDULER_GROUP,
            processes=1,
            drain_timeout_s=settings.soniqd.drain_timeout,
            hang_timeout_s=SCHEDULER_HANG_TIMEOUT_S,
        )
        groups.insert(0, scheduler)
    return tuple(groups)


def changes_that_need_a_restart(old: DaemonSettings, new: DaemonSettings) -> list[str]:
    """Name the keys that differ and that only a new master can honour."""
    return [
        f"[{table}] {name}"
        for table in ("soniqd", "database", "sweep")
        for name in type(getattr(old, table)).model_fields
        if (table, name) != ("soniqd", "drain_timeout")
        and getattr(getattr(old, table), name) != getattr(getattr(new, table), name)
    ]
