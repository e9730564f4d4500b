"""From settings to the plan that the supervision machine works on."""

from __future__ import annotations

from collections.abc import Iterable

from soniqd.model.child import GroupPlan, ProcessAttributes, Recycling
from soniqd.policy.connections import (
    SCHEDULER_CONNECTIONS,
    ConnectionNeed,
    Holder,
    connection_need,
    worker_connections,
)
from soniqd.settings.daemon import DaemonSettings, WorkerGroup

SCHEDULER_GROUP = "scheduler"
SCHEDULER_HANG_TIMEOUT_S = 15.0
"""No job code can block it, and one that stands still keeps the lead from the schedulers of all hosts."""


def make_plan(settings: DaemonSettings) -> tuple[GroupPlan, ...]:
    """List the groups of children that the settings ask for, the scheduler first."""
    groups = [_worker_group(settings, group) for group in settings.workers]
    if settings.scheduler.enabled:
        groups.insert(0, _scheduler_group(settings))
    return tuple(groups)


def plan_need(plan: Iterable[GroupPlan]) -> ConnectionNeed:
    """Tell how many connections a plan's processes may open together."""
    return connection_need(Holder(group.name, group.processes, group.connections) for group in plan)


def _worker_group(settings: DaemonSettings, group: WorkerGroup) -> GroupPlan:
    return GroupPlan(
        role="worker",
        name=group.name,
        processes=group.processes,
        concurrency=group.concurrency,
        queues=group.queues,
        drain_timeout_s=settings.soniqd.drain_timeout if group.drain_timeout is None else group.drain_timeout,
        hang_timeout_s=group.hang_timeout,
        block_warning_s=group.block_warning,
        stop_signal_timeout_s=group.stop_signal_timeout,
        connections=_connections(settings, group),
        recycling=Recycling(group.max_jobs, group.max_age, group.max_memory),
        attributes=_attributes(group),
    )


def _attributes(group: WorkerGroup) -> ProcessAttributes:
    return ProcessAttributes(
        env=tuple(sorted(group.env.items())),
        nice=group.nice,
        cpu_affinity=group.cpu_affinity,
        rlimits=tuple(sorted(group.rlimits.items())),
        user=group.user,
        group=group.group,
        umask=None if group.umask is None else int(group.umask, 8),
    )


def _scheduler_group(settings: DaemonSettings) -> GroupPlan:
    return GroupPlan(
        role="scheduler",
        name=SCHEDULER_GROUP,
        processes=1,
        drain_timeout_s=settings.soniqd.drain_timeout,
        hang_timeout_s=SCHEDULER_HANG_TIMEOUT_S,
        connections=SCHEDULER_CONNECTIONS if _has_server(settings) else 0,
    )


def _connections(settings: DaemonSettings, group: WorkerGroup) -> int:
    if not _has_server(settings):
        return 0
    database = settings.database
    return worker_connections(
        concurrency=group.concurrency, pool_max_size=database.pool_max_size, pool_headroom=database.pool_headroom
    )


def _has_server(settings: DaemonSettings) -> bool:
    """An embedded database has no connections that could run out."""
    return settings.database.url.startswith("postgres")
