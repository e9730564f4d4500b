"""Removing dead rows between autovacuum's looks; when that is worth it, :mod:`soniqd.policy.vacuuming` decides.

The options keep it out of everybody's way: ``SKIP_LOCKED`` does not wait for a lock (a vacuum of another host has it,
or autovacuum, or a migration), ``TRUNCATE false`` takes none that a claim would wait for. ``INDEX_CLEANUP`` is on,
since entries that claims walk over are what it is for, and by default they stay where few pages have dead rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from psycopg.errors import Diagnostic

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.deadline import shut
from soniqd.backends.postgres.failure import reason_of, translated
from soniqd.backends.postgres.statements import SQL
from soniqd.errors import DatabaseError
from soniqd.model.wear import TableWear

_VACUUM = b"VACUUM (SKIP_LOCKED, TRUNCATE false, INDEX_CLEANUP on, PARALLEL 0) soniq_jobs"
_LONGEST_S = 120.0
"""Whoever alters the table waits for it, and claims wait behind them. What takes longer is autovacuum's."""
_GRACE_S = 5.0
_AWAY = ("08", "57P")
"""SQLSTATEs of connections and sessions that have ended begin so."""
POOL_FROM = 3
"""In a smaller pool it would keep claims and outcomes waiting: with it there are two connections left for them."""


class PostgresVacuum:
    """The protocol's ``wear`` and ``vacuum``."""

    _database: Database
    _has_room_for_vacuum: bool

    async def wear(self) -> TableWear | None:
        if not self._has_room_for_vacuum:
            return None
        rows = await self._database.fetch(SQL["wear"], {}, rows="dict", repeat=True)
        return TableWear(**rows[0]) if rows else None

    async def vacuum(self) -> bool:
        said: list[str | None] = []

        def hear(notice: Diagnostic) -> None:
            said.append(notice.sqlstate)  # read now: the notice is gone afterwards

        loop = asyncio.get_running_loop()
        async with self._database.lend() as connection:
            connection.add_notice_handler(hear)
            deadline = loop.call_later(_LONGEST_S + _GRACE_S, shut, connection)
            try:
                with _translated():
                    if self._database.keeps_sessions:
                        await connection.execute(f"SET statement_timeout = {round(_LONGEST_S * 1000)}".encode())
                    await connection.execute(_VACUUM, prepare=False)
            finally:
                deadline.cancel()
                connection.remove_notice_handler(hear)
        return errors.LockNotAvailable.sqlstate not in said


@contextmanager
def _translated() -> Iterator[None]:
    """As for any statement, but one that the server ends for its time, or for want of room, is no sign of an outage."""
    purpose = "vacuum the table of jobs"
    with translated(purpose):
        try:
            yield
        except psycopg.OperationalError as error:
            if error.sqlstate is None or error.sqlstate.startswith(_AWAY):
                raise
            raise DatabaseError(f"cannot {purpose}: {reason_of(error)}", sqlstate=error.sqlstate) from error
