"""``soniqctl doctor``: examine the database, and say in plain words what is wrong with it and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from soniqd.cli.findings import Diagnosis, word
from soniqd.cli.options import json_option
from soniqd.cli.render import print_fields, print_json, print_line, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import count, duration, size
from soniqd.log.redact import redact
from soniqd.policy.connections import ConnectionNeed, usable_connections
from soniqd.policy.doctor import examine, wasted_bytes

if TYPE_CHECKING:
    from soniqd.model.checkup import Checkup, FileState, IndexState, ServerState, TableState

_USES_SHOWN = 8
_HOLDERS_SHOWN = 5


@click.command()
@json_option
@click.pass_obj
def doctor(session: Session) -> None:
    """Examine the database: bloat, vacuum, who holds dead rows, indexes, connections, notifications, the clock.

    Says what is wrong, the worst first, what to do about it, and what it goes by; --json has all that was looked at.
    Changes nothing, and costs no more however much is stored. Exit code 0 if nothing is wrong, 1 if something is.
    A role with pg_monitor sees more. Of an SQLite file the journal, the structure and the disk are examined.
    """
    need = _need(session)
    checkup = session.with_backend(lambda backend: backend.checkup(), migrated=False)
    diagnoses = [word(finding) for finding in examine(checkup, need=need)]
    if session.as_json:
        print_json({"healthy": not diagnoses, "findings": diagnoses, "needed": need and need.total, "facts": checkup})
    else:
        _print_diagnoses(diagnoses)
        print_line("")
        _print_facts(checkup, need, diagnoses)
    if diagnoses:
        click.get_current_context().exit(1)


def _need(session: Session) -> ConnectionNeed | None:
    """Return what the daemon's configuration may open; None where there is none to go by."""
    if session.config_path is None or not session.database.url.startswith("postgres"):
        return None
    from soniqd.supervisor.plan import make_plan, plan_need  # noqa: PLC0415  keeps --help fast

    return plan_need(make_plan(session.settings))


def _print_diagnoses(diagnoses: list[Diagnosis]) -> None:
    for one in diagnoses:
        print_line(f"! {one.summary}", tone=one.tone)
        for advice in one.advice:
            print_line(f"  -> {advice}")
    if not diagnoses:
        print_line("nothing is wrong with the database", tone="good")


def _print_facts(checkup: Checkup, need: ConnectionNeed | None, diagnoses: list[Diagnosis]) -> None:
    fields: list[tuple[str, object]] = [("database", redact(checkup.location)), ("migrations", _migrations(checkup))]
    if checkup.server is not None:
        fields += _server_fields(checkup, checkup.server, need)
    if checkup.file is not None:
        fields += _file_fields(checkup.file)
    print_fields(fields)
    if checkup.server is not None:
        _print_evidence(checkup, checkup.server, diagnoses)


def _print_evidence(checkup: Checkup, server: ServerState, diagnoses: list[Diagnosis]) -> None:
    """Show what the findings speak of, and no more."""
    codes = {one.code for one in diagnoses}
    named = {one.facts.get(key) for one in diagnoses for key in ("table", "index", "name")}
    if tables := [table for table in checkup.tables if table.name in named]:
        _print_tables(tables)
    if indexes := [index for index in checkup.indexes if index.name in named]:
        _print_indexes(indexes)
    if codes & {"connections_short", "connections_tight", "connections_nearly_used_up"}:
        _print_uses(server)
    if codes & {"horizon_held", "vacuum_behind", "wraparound_near"}:
        _print_horizon(server)


def _migrations(checkup: Checkup) -> str:
    foreign = f", {count(len(checkup.foreign), 'unknown one')} of a newer soniqd" if checkup.foreign else ""
    return f"{len(checkup.applied)} applied, {len(checkup.pending)} pending{foreign}"


def _server_fields(checkup: Checkup, server: ServerState, need: ConnectionNeed | None) -> list[tuple[str, object]]:
    used = sum(use.count for use in server.uses)
    allowed = "unknown, a pooler is in between" if server.limits is None else usable_connections(server.limits)
    needed = "" if need is None else f", the daemon needs up to {need.total}"
    return [
        ("server", f"PostgreSQL {server.version}{', through a pooler' if server.pooled else ''}"),
        ("round trip", f"{1000 * checkup.round_trip_s:.1f} ms, clock {round(1000 * checkup.clock_ahead_s):+d} ms"),
        ("wake-ups", "by notification" if server.listening else "by polling"),
        ("connections", f"{used} in use, {allowed} allowed{needed}"),
        *([] if server.sees_all else [("sees", "only its own role's sessions in full: GRANT pg_monitor TO it")]),
    ]


def _file_fields(file: FileState) -> list[tuple[str, object]]:
    return [
        ("file", f"{size(file.bytes)}, of which {size(file.free_bytes)} are free, on {file.file_system}"),
        ("journal", f"{file.journal_mode}, {size(file.wal_bytes)} wait to be copied"),
        ("disk", f"{size(file.disk_free_bytes)} free"),
        ("wake-ups", "by a socket beside the file" if file.wakes else "by polling"),
        (
            "structure",
            "not checked to its end" if file.corruption is None else "damaged" if file.corruption else "sound",
        ),
    ]


def _print_tables(tables: Sequence[TableState]) -> None:
    print_line("")
    rows = [
        (table.name, table.rows, table.dead_rows, size(table.bytes), size(wasted_bytes(table)), _ago(table))
        for table in tables
    ]
    print_table(("table", "rows", "dead", "size", "spare", "vacuumed"), rows, empty="")


def _ago(table: TableState) -> str:
    if table.vacuuming:
        return "now"
    return "never" if table.vacuumed_ago_s is None else f"{duration(table.vacuumed_ago_s)} ago"


def _print_indexes(indexes: Sequence[IndexState]) -> None:
    print_line("")
    rows = [
        (index.name, index.table, size(index.bytes), size(wasted_bytes(index)), index.scans, _kind(index))
        for index in indexes
    ]
    print_table(("index", "table", "size", "spare", "reads", "of"), rows, empty="")


def _kind(index: IndexState) -> str:
    return ("soniqd" if index.ours else "others") + ("" if index.valid else ", invalid")


def _print_uses(server: ServerState) -> None:
    print_line("")
    rows = [(use.application or "-", use.user or "-", use.count) for use in server.uses[:_USES_SHOWN]]
    print_table(("application", "user", "connections"), rows, empty="nobody else is connected")
    if hidden := sum(use.count for use in server.uses[_USES_SHOWN:]):
        print_line(f"and {count(hidden, 'further connection')}")


def _print_horizon(server: ServerState) -> None:
    """Show who holds the horizon now, also those who are no finding yet."""
    if not server.horizon:
        return
    print_line("")
    rows = [
        (holder.kind, holder.name, holder.application or "-", holder.state or "-", duration(holder.age_s))
        for holder in server.horizon[:_HOLDERS_SHOWN]
    ]
    print_table(("holds the horizon", "name", "application", "state", "for"), rows, empty="nobody")
