"""What is wrong with a database, judged from its checkup: findings with their facts, the worst first (ORDER).

Codes are stable: programs branch on them. The command line words them. Bounds are chosen so that a database that works
as it should has no finding, under load neither: each finding is worth somebody's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from soniqd.model.checkup import Checkup, FileState, HorizonHolder, IndexState, ServerState, TableState
from soniqd.policy.connections import ConnectionNeed, server_problem, usable_connections

Severity = Literal["problem", "warning"]

HOLDS_TOO_LONG_S = 60.0
"""A transaction that is open for so long makes claims slower while many jobs pass."""
HOLDS_WHILE_BEHIND_S = 5.0
"""The same where vacuum is behind already: that may be why."""
HOLDS_TOO_MANY = 100_000
"""Transactions since, where nobody knows for how long: a slot, a standby, a session of another role."""
DEAD_TOO_MANY = 4
"""Times the number at which autovacuum should have started."""
DEAD_LEAST = 50_000
WASTE_LEAST = 64 << 20
WASTE_SHARE = 0.75
CLOCK_OFF_S = 2.0
SLOT_KEEPS_BYTES = 1 << 30
CONNECTIONS_SHARE = 0.9
NOTIFY_QUEUE_SHARE = 0.1
XID_AGE_SHARE = 3.0
WAL_BYTES = 256 << 20
DISK_FREE_LEAST = 256 << 20
UNUSED_FROM = 10_000
"""Rows written to a table before an index on it that nobody has read can be called unused."""


ORDER = (
    # jobs are lost, or are about to be; nothing runs
    "file_corrupt",
    "wraparound_near",
    "file_on_network",
    "disk_full",
    "migrations_pending",
    "not_durable",
    "connections_short",
    # every job gets slower
    "index_missing",
    "index_invalid",
    "autovacuum_off",
    "table_autovacuum_off",
    # warnings: jobs may be lost, or get slower
    "commits_not_durable",
    "slot_idle",
    "horizon_held",
    "vacuum_behind",
    "connections_tight",
    "connections_nearly_used_up",
    "notifications_pile_up",
    "wal_large",
    "file_not_wal",
    "table_bloated",
    "index_bloated",
    # jobs start later, and what is merely not as it should be
    "not_listening",
    "not_woken",
    "clock_off",
    "index_unused",
    "file_mostly_free",
    "check_unfinished",
)
"""By the harm that it does."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should look at."""

    code: str
    severity: Severity
    facts: dict[str, Any] = field(default_factory=dict)


def examine(checkup: Checkup, *, need: ConnectionNeed | None = None) -> tuple[Finding, ...]:
    """Return the findings; ``need`` is what the daemon's configuration may open, None where there is none."""
    found = [*_schema(checkup), *_tables(checkup), *_indexes(checkup)]
    if checkup.server is not None:
        limit_s = HOLDS_WHILE_BEHIND_S if any(map(dead_too_many, checkup.tables)) else HOLDS_TOO_LONG_S
        found += [*_server(checkup.server), *_horizon(checkup.server, limit_s), *_connections(checkup.server, need)]
    if checkup.file is not None:
        found += _file(checkup.file)
    if abs(checkup.clock_ahead_s) - checkup.round_trip_s > CLOCK_OFF_S:
        found.append(Finding("clock_off", "warning", {"ahead_s": round(checkup.clock_ahead_s, 3)}))
    return tuple(sorted(found, key=lambda finding: ORDER.index(finding.code)))


def dead_too_many(table: TableState) -> bool:
    """Whether autovacuum should have cleaned up long ago."""
    return table.dead_rows > max(DEAD_LEAST, DEAD_TOO_MANY * (table.vacuum_at or 0))


def wasted_bytes(thing: TableState | IndexState) -> int:
    """Return by how much a table or index is larger than its rows need, as far as that can be estimated."""
    return 0 if thing.wanted_bytes is None else max(0, thing.bytes - thing.wanted_bytes)


def _schema(checkup: Checkup) -> Iterator[Finding]:
    if checkup.pending:
        yield Finding("migrations_pending", "problem", {"pending": list(checkup.pending)})


def _tables(checkup: Checkup) -> Iterator[Finding]:
    for table in checkup.tables:
        if not table.autovacuum:
            yield Finding("table_autovacuum_off", "problem", {"table": table.name})
        elif dead_too_many(table):
            yield Finding("vacuum_behind", "warning", _lag(table))
        if _is_bloated(table) and not dead_too_many(table):
            yield Finding("table_bloated", "warning", _bloat(table))


def _indexes(checkup: Checkup) -> Iterator[Finding]:
    for missing in checkup.missing:
        facts = {"index": missing.name, "table": missing.table, "definition": missing.definition}
        yield Finding("index_missing", "problem", facts)
    for index in checkup.indexes:
        if not index.valid:
            yield Finding("index_invalid", "problem", {"index": index.name, "table": index.table, "ours": index.ours})
            continue
        if not index.ours and not index.unique and index.scans == 0 and index.written >= UNUSED_FROM:
            yield Finding("index_unused", "warning", {"index": index.name, "table": index.table, "bytes": index.bytes})
        if _is_bloated(index):
            yield Finding("index_bloated", "warning", {**_bloat(index), "table": index.table})


def _is_bloated(thing: TableState | IndexState) -> bool:
    wasted = wasted_bytes(thing)
    return wasted > WASTE_LEAST and wasted > WASTE_SHARE * thing.bytes


def _bloat(thing: TableState | IndexState) -> dict[str, Any]:
    return {"name": thing.name, "bytes": thing.bytes, "wanted_bytes": thing.wanted_bytes}


def _lag(table: TableState) -> dict[str, Any]:
    return {
        "table": table.name,
        "dead_rows": table.dead_rows,
        "vacuum_at": table.vacuum_at,
        "vacuumed_ago_s": table.vacuumed_ago_s,
        "vacuuming": table.vacuuming,
    }


def _server(server: ServerState) -> Iterator[Finding]:
    if not server.autovacuum:
        yield Finding("autovacuum_off", "problem")
    for name, is_on in (("fsync", server.fsync), ("full_page_writes", server.full_page_writes)):
        if not is_on:
            yield Finding("not_durable", "problem", {"setting": name})
    if server.synchronous_commit == "off":
        yield Finding("commits_not_durable", "warning", {"setting": "synchronous_commit"})
    if server.freeze_max_age and server.xid_age > XID_AGE_SHARE * server.freeze_max_age:
        yield Finding("wraparound_near", "problem", {"xid_age": server.xid_age})
    if not server.listening:
        yield Finding("not_listening", "warning", {"pooled": server.pooled})
    if server.notify_queue_usage > NOTIFY_QUEUE_SHARE:
        yield Finding("notifications_pile_up", "warning", {"share": round(server.notify_queue_usage, 3)})
    for slot in server.idle_slots:
        if slot.kept_bytes > SLOT_KEEPS_BYTES:
            yield Finding("slot_idle", "warning", {"slot": slot.name, "kept_bytes": slot.kept_bytes})


def _horizon(server: ServerState, limit_s: float) -> Iterator[Finding]:
    for holder in server.horizon:
        if _holds_too_long(holder, limit_s):
            yield Finding(
                "horizon_held",
                "warning",
                {
                    "kind": holder.kind,
                    "name": holder.name,
                    "age_s": holder.age_s,
                    "age_transactions": holder.age_transactions,
                    "application": holder.application,
                    "user": holder.user,
                    "client": holder.client,
                    "state": holder.state,
                    "query": holder.query,
                },
            )


def _holds_too_long(holder: HorizonHolder, limit_s: float) -> bool:
    """Whether dead rows have piled up behind it, or will."""
    if holder.age_s is not None:
        return holder.age_s > limit_s
    return holder.age_transactions > HOLDS_TOO_MANY


def _connections(server: ServerState, need: ConnectionNeed | None) -> Iterator[Finding]:
    if server.limits is None:
        return
    usable = usable_connections(server.limits)
    used = sum(use.count for use in server.uses)
    others = sum(use.count for use in server.uses if not use.ours)
    facts = {"usable": usable, "used": used, "others": others, "max_connections": server.limits.max_connections}
    if need is not None and (problem := server_problem(need, server.limits)):
        yield Finding("connections_short", "problem", {**facts, "needed": need.total, "problem": problem})
    elif need is not None and need.total > usable - others:
        yield Finding("connections_tight", "warning", {**facts, "needed": need.total})
    elif used > CONNECTIONS_SHARE * usable:
        yield Finding("connections_nearly_used_up", "warning", facts)


def _file(file: FileState) -> Iterator[Finding]:
    if file.corruption:
        yield Finding("file_corrupt", "problem", {"found": list(file.corruption)})
    if file.on_network:
        yield Finding("file_on_network", "problem", {"file_system": file.file_system})
    if file.journal_mode != "wal":
        yield Finding("file_not_wal", "warning", {"journal_mode": file.journal_mode})
    if file.disk_free_bytes < DISK_FREE_LEAST:
        yield Finding("disk_full", "problem", {"free_bytes": file.disk_free_bytes})
    if file.wal_bytes > WAL_BYTES:
        yield Finding("wal_large", "warning", {"wal_bytes": file.wal_bytes})
    if file.free_bytes > WASTE_LEAST and file.free_bytes > WASTE_SHARE * file.bytes:
        yield Finding("file_mostly_free", "warning", {"bytes": file.bytes, "free_bytes": file.free_bytes})
    if not file.wakes:
        yield Finding("not_woken", "warning")
    if file.corruption is None:
        yield Finding("check_unfinished", "warning", {"bytes": file.bytes})
