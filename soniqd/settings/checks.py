"""Findings that need more than one value: each names the location it is about, and those that it depends on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from soniqd.policy.connections import (
    SCHEDULER_CONNECTIONS,
    Holder,
    bound_problem,
    connection_need,
    worker_connections,
)
from soniqd.policy.pool import pool_problem
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.problems import Loc, nearest, quoted
from soniqd.settings.process import RLIMITS

RESERVED_GROUPS = frozenset({"scheduler"})
"""Names of slots that are not groups of workers."""

_HEARTBEATS_MISSED = 3
_MOST_ENVIRONMENT = 64 * 1024
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at ``loc``; it holds only if none of ``depends`` is a problem of its own."""

    loc: Loc
    text: str
    depends: tuple[Loc, ...] = ()


def find_problems(settings: DaemonSettings) -> Iterator[Finding]:
    """Yield what is wrong with settings whose single values are all right."""
    yield from _database(settings)
    yield from _modules(settings)
    yield from _pool(settings)
    yield from _max_connections(settings)
    yield from _groups(settings)
    yield from _environments(settings)
    yield from _sweep(settings)


def _database(settings: DaemonSettings) -> Iterator[Finding]:
    url = settings.database.url
    loc = ("database", "url")
    if url.startswith("memory:") or ":memory:" in url:
        yield Finding(loc, f"expected a database that several processes can share, got {quoted(url)}")
    elif "\0" in url or not (
        url.startswith(("postgresql://", "postgres://", "sqlite:///"))
        or ("://" not in url and url.endswith((".db", ".sqlite", ".sqlite3")))
    ):
        yield Finding(loc, f'expected "postgresql://..." or "sqlite:///path", got {quoted(url)}')


def _modules(settings: DaemonSettings) -> Iterator[Finding]:
    for index, module in enumerate(settings.jobs.modules):
        if not _MODULE.fullmatch(module):
            loc: Loc = ("jobs", "modules", index)
            yield Finding(loc, f'expected "package.module" or "package.module:name", got {quoted(module)}', (loc,))


def _pool(settings: DaemonSettings) -> Iterator[Finding]:
    database = settings.database
    sizes: tuple[Loc, ...] = (("database", "pool_max_size"), ("database", "pool_headroom"))
    if database.pool_min_size > database.pool_max_size:
        yield Finding(
            ("database", "pool_min_size"),
            f"expected pool_max_size ({database.pool_max_size}) or less, got {database.pool_min_size}",
            (("database", "pool_min_size"), ("database", "pool_max_size")),
        )
    if not database.url.startswith("postgres"):
        return
    for index, group in enumerate(settings.workers):
        problem = pool_problem(
            concurrency=group.concurrency,
            pool_max_size=database.pool_max_size,
            pool_headroom=database.pool_headroom,
        )
        loc: Loc = ("workers", index, "concurrency")
        if problem:
            yield Finding(loc, problem, (loc, *sizes))


def _max_connections(settings: DaemonSettings) -> Iterator[Finding]:
    database = settings.database
    if database.max_connections is None or not database.url.startswith("postgres"):
        return
    holders = [
        Holder(
            group.name,
            group.processes,
            worker_connections(
                concurrency=group.concurrency,
                pool_max_size=database.pool_max_size,
                pool_headroom=database.pool_headroom,
            ),
        )
        for group in settings.workers
    ]
    if settings.scheduler.enabled:
        holders.append(Holder("scheduler", 1, SCHEDULER_CONNECTIONS))
    problem = bound_problem(connection_need(holders), database.max_connections)
    if problem:
        loc: Loc = ("database", "max_connections")
        yield Finding(loc, problem, (loc, ("workers",), ("database", "pool_max_size"), ("database", "pool_headroom")))


def _groups(settings: DaemonSettings) -> Iterator[Finding]:
    for index, group in enumerate(settings.workers):
        loc: Loc = ("workers", index, "name")
        if group.name in RESERVED_GROUPS:
            yield Finding(loc, f"expected another name: {quoted(group.name)} is reserved", (loc,))
        yield from _environment(index, group)
        yield from _limits(index, group)


def _environments(settings: DaemonSettings) -> Iterator[Finding]:
    """All of them together go to the fork server in one packet (soniqd.control.fork)."""
    size = 0
    for index, group in enumerate(settings.workers):
        size += sum(len(json.dumps(name)) + len(json.dumps(value)) + 4 for name, value in group.env.items())
        if size > _MOST_ENVIRONMENT:
            loc: Loc = ("workers", index, "env")
            yield Finding(
                loc, f"expected {_MOST_ENVIRONMENT} bytes of variables or less in all groups together", (loc,)
            )
            return


def _environment(index: int, group: WorkerGroup) -> Iterator[Finding]:
    for name, value in group.env.items():
        loc: Loc = ("workers", index, "env", name)
        if not name or "=" in name or "\0" in name:
            yield Finding(loc, f'expected the name of a variable, without "=", got {quoted(name)}', (loc,))
        elif "\0" in value:
            yield Finding(loc, "expected a value without a NUL character", (loc,))


def _limits(index: int, group: WorkerGroup) -> Iterator[Finding]:
    for name in group.rlimits:
        if name not in RLIMITS:
            near = nearest(name, RLIMITS)
            hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(RLIMITS)}"
            loc: Loc = ("workers", index, "rlimits", name)
            yield Finding(loc, f"unknown resource limit{hint}", (loc,))


def _sweep(settings: DaemonSettings) -> Iterator[Finding]:
    sweep = settings.sweep
    least_s = _HEARTBEATS_MISSED * sweep.heartbeat_interval
    loc = ("sweep", "heartbeat_timeout")
    if sweep.heartbeat_timeout <= least_s:
        yield Finding(
            loc,
            f"expected more than {_HEARTBEATS_MISSED} x heartbeat_interval ({least_s:g}s), "
            f"got {sweep.heartbeat_timeout:g}s: one late heartbeat would take a worker's jobs away",
            (loc, ("sweep", "heartbeat_interval")),
        )
