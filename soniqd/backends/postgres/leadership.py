"""Being the only one for a name: a session advisory lock on a connection of its own.

PostgreSQL frees the lock when the session ends, so kill -9 of the holder frees it at once, and a lost host when the
server's keepalives give up on it (about 15 s). The holder learns of a loss by asking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket

import psycopg

from soniqd.backends.postgres.database import Database, execute
from soniqd.backends.postgres.failure import translated
from soniqd.backends.postgres.pool import Connection, is_usable
from soniqd.backends.postgres.statements import SQL
from soniqd.model import LeaderRecord


def advisory_key(name: str) -> int:
    """Derive a lock's key from its name: the same in every process and release."""
    return int.from_bytes(hashlib.sha256(f"soniqd:{name}".encode()).digest()[:8], "big", signed=True)


def leader_name() -> str:
    """Say who this is in the purpose of a leader's connection, the only place where other hosts can read it.

    The server cuts application names to 63 bytes: the host's name stands last.
    """
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f"leader {os.getpid()}@{host}"


def read_leader_name(application_name: str | None, address: str | None) -> LeaderRecord:
    """Read what :func:`leader_name` says; a leader that says nothing is known by its address."""
    said = re.search(r" leader (\d+)@(.+)$", application_name or "")
    if said is None:
        return LeaderRecord(address or "localhost")
    return LeaderRecord(said[2], int(said[1]))


class PostgresLeadership:
    """The protocol's Leadership. ``leading`` holds those with a connection, for the backend to close."""

    def __init__(self, database: Database, name: str, *, leading: set[PostgresLeadership]) -> None:
        self._database = database
        self._leading = leading
        self._key = advisory_key(f"leadership:{name}")
        self._connection: Connection | None = None

    async def acquire(self) -> bool:
        with translated("ask for the leadership"):
            try:
                connection = await self._connect()
                [(held,)] = await self._run(connection, "try_lead")
            except BaseException:
                await self.release()
                raise
        return bool(held)

    async def held(self) -> bool:
        if self._connection is None or not is_usable(self._connection):
            return False
        try:
            [(held,)] = await self._run(self._connection, "is_leading")
        except (psycopg.OperationalError, psycopg.InterfaceError):
            await self.release()
            return False
        return bool(held)

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        self._leading.discard(self)
        if connection is None:
            return
        with contextlib.suppress(psycopg.Error):
            # Said and not left to the end of the session, of which the server hears a little later.
            await self._run(connection, "stop_leading")
        await connection.close()

    async def _connect(self) -> Connection:
        if self._connection is not None and not is_usable(self._connection):
            await self.release()
        if self._connection is None:
            self._connection = await self._database.connect(purpose=leader_name())
            self._leading.add(self)
            await execute(self._connection, SQL["watch_leader"], {})
        return self._connection

    async def _run(self, connection: Connection, name: str) -> list[tuple[object, ...]]:
        with self._database.deadlines.watched(connection):
            return await execute(connection, SQL[name], {"key": self._key})
