"""Looking at the health of the database: catalogues and statistics views only, in a read-only transaction.

It asks for nothing that grows with what is stored: row counts and widths are those of the last vacuum or analyze.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from soniqd.backends.postgres.database import Database, Transaction
from soniqd.backends.postgres.limits import read_limits
from soniqd.backends.postgres.migrate import MIGRATIONS, Migration, migration_status
from soniqd.backends.postgres.statements import SQL
from soniqd.model.checkup import (
    Checkup,
    ConnectionUse,
    HorizonHolder,
    IdleSlot,
    IndexState,
    MissingIndex,
    ServerState,
    TableState,
)

_ROUND_TRIPS = 5
_CREATE = re.compile(r"^\s*CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+)\s+ON (\w+)[^;]*;", re.MULTILINE)
_DROP = re.compile(r"^\s*DROP INDEX (?:IF EXISTS )?(\w+)\s*;", re.MULTILINE)
_FIRST_WORDS = re.compile(r"^CREATE (UNIQUE )?INDEX (?:IF NOT EXISTS )?")


def expected_indexes(migrations: Iterable[Migration] = MIGRATIONS) -> dict[str, MissingIndex]:
    """Return the indexes that are there after these migrations, primary keys aside, as statements that make them."""
    expected: dict[str, MissingIndex] = {}
    for migration in migrations:
        for found in sorted((*_CREATE.finditer(migration.text), *_DROP.finditer(migration.text)), key=_place):
            if found.re is _DROP:
                expected.pop(found[1], None)
            else:
                statement = " ".join(found[0].split())
                definition = _FIRST_WORDS.sub(r"CREATE \1INDEX CONCURRENTLY ", statement)
                expected[found[1]] = MissingIndex(found[1], found[2], definition)
    return expected


async def look(database: Database, *, listening: bool) -> Checkup:
    """Collect the facts; ``listening``: a subscription of this backend has proved that it hears."""
    status = await migration_status(database)
    round_trip_s, clock_ahead_s = await _compare_clocks(database)
    async with database.lend() as connection:
        limits = await read_limits(connection)
    async with database.transaction("look at the database", free_planner=True) as transaction:
        await transaction.connection.execute(b"SET TRANSACTION READ ONLY")
        server = await _server(transaction)
        horizon = await _horizon(transaction)
        slots = await transaction.fetch_dicts(SQL["checkup_slots"], {})
        uses = await transaction.fetch_dicts(SQL["checkup_connections"], {})
        tables = await transaction.fetch_dicts(SQL["checkup_tables"], {})
        indexes = await transaction.fetch_dicts(SQL["checkup_indexes"], {})
    return Checkup(
        location=database.target.location,
        applied=status.applied,
        pending=status.pending,
        foreign=status.foreign,
        tables=tuple(TableState(**row) for row in tables),
        indexes=tuple(_index(row) for row in indexes),
        missing=_missing(status.applied, {row["name"] for row in indexes}),
        clock_ahead_s=clock_ahead_s,
        round_trip_s=round_trip_s,
        server=ServerState(
            **server,
            pooled=limits is None,
            listening=listening,
            limits=limits,
            uses=tuple(ConnectionUse(**row) for row in uses),
            horizon=(*horizon, *_slot_holders(slots)),
            idle_slots=tuple(_idle_slots(slots)),
        ),
    )


async def _compare_clocks(database: Database) -> tuple[float, float]:
    """Return the fastest round trip, and how far the database's clock was ahead of ours in the middle of it."""
    best = (float("inf"), 0.0)
    for _ in range(_ROUND_TRIPS):
        sent, sent_wall = time.monotonic(), time.time()
        [(database_now,)] = await database.fetch(SQL["clock"], {}, repeat=True)
        took_s = time.monotonic() - sent
        best = min(best, (took_s, database_now - sent_wall - took_s / 2))
    return best


async def _server(transaction: Transaction) -> dict[str, Any]:
    [row] = await transaction.fetch_dicts(SQL["checkup_server"], {})
    return row


async def _horizon(transaction: Transaction) -> list[HorizonHolder]:
    sessions = await transaction.fetch_dicts(SQL["checkup_sessions"], {})
    prepared = await transaction.fetch_dicts(SQL["checkup_prepared"], {})
    return [HorizonHolder(**row) for row in (*sessions, *prepared)]


def _slot_holders(slots: Iterable[Mapping[str, Any]]) -> list[HorizonHolder]:
    return [
        HorizonHolder("replication slot", slot["name"], slot["age_transactions"])
        for slot in slots
        if slot["age_transactions"] is not None
    ]


def _idle_slots(slots: Iterable[Mapping[str, Any]]) -> list[IdleSlot]:
    return [IdleSlot(slot["name"], slot["kept_bytes"] or 0) for slot in slots if not slot["active"]]


def _index(row: dict[str, Any]) -> IndexState:
    ours = row.pop("of_constraint") or row["name"] in expected_indexes()
    return IndexState(**row, ours=ours)


def _missing(applied: Iterable[str], present: set[str]) -> tuple[MissingIndex, ...]:
    """Name what the migrations that were applied have made and somebody has dropped since."""
    stems = set(applied)
    expected = expected_indexes(migration for migration in MIGRATIONS if migration.stem in stems)
    return tuple(index for name, index in sorted(expected.items()) if name not in present)


def _place(found: re.Match[str]) -> int:
    return found.start()
