"""Being the only one for a name: a session advisory lock on a connection of its own.

PostgreSQL frees the lock when the session ends, so kill -9 of the holder frees it at once, and a lost host when the
server's keepalives give up on it (about 15 s). The holder learns of a loss by asking.

Behind a pooler a session is shared: a lock of its would be everybody's, and stay when we are gone. There the lock is
that of a transaction which stays open for as long as it leads; the pooler keeps one of the server's connections for
it, and ends the transaction when our connection ends. Between statements such a transaction has no snapshot, so it
keeps no dead row from being removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import socket
import time

import psycopg
from psycopg.pq import TransactionStatus

from soniqd.backends.postgres.database import Database, execute
from soniqd.backends.postgres.failure import translated
from soniqd.backends.postgres.pool import Connection, is_usable
from soniqd.backends.postgres.statements import SQL
from soniqd.model import LeaderRecord

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
"""Whatever the database's default is: at a higher level the snapshot of the first statement would stay."""


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
        self._by_transaction = False
        self._proved_s = -math.inf

    async def acquire(self) -> bool:
        with translated("ask for the leadership"):
            try:
                held = await self._try(await self._connect())
            except BaseException:
                await self.release()
                raise
        return held

    async def _try(self, connection: Connection) -> bool:
        if not self._by_transaction:
            [(held,)] = await self._run(connection, "try_lead")
            return bool(held)
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            await self._say(connection, _BEGIN)
        [(_, held)] = await self._run(connection, "try_lead_by_transaction")
        if not held:
            await self._say(connection, b"ROLLBACK")  # who only follows needs no connection of the server
        return bool(held)

    async def held(self, *, max_age_s: float = 0.0) -> bool:
        if self._connection is None or not is_usable(self._connection):
            return False
        if time.monotonic() - self._proved_s < max_age_s:
            return True  # the lock lasts as long as the session, whose end would be seen on the socket
        try:
            [(held,)] = await self._run(self._connection, "is_leading")
        except psycopg.Error:  # the connection is gone, or its transaction was broken off, and the lock with it
            await self.release()
            return False
        self._proved_s = time.monotonic() if held else -math.inf
        return bool(held)

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        self._proved_s = -math.inf
        self._leading.discard(self)
        if connection is None:
            return
        with contextlib.suppress(psycopg.Error):
            # Said and not left to the end of the session, of which the server hears a little later.
            if self._by_transaction:
                await self._say(connection, b"ROLLBACK")
            else:
                await self._run(connection, "stop_leading")
        await connection.close()

    async def _connect(self) -> Connection:
        if self._connection is not None and not is_usable(self._connection):
            await self.release()
        if self._connection is None:
            self._connection = await self._database.connect(purpose=leader_name())
            self._leading.add(self)
            self._by_transaction = not self._database.keeps_sessions
            if not self._by_transaction:
                await execute(self._connection, SQL["watch_leader"], {})
        return self._connection

    async def _run(self, connection: Connection, name: str) -> list[tuple[object, ...]]:
        parameters = {"key": self._key}
        with self._database.deadlines.watched(connection):
            if not self._by_transaction:
                return await execute(connection, SQL[name], parameters)
            # As one simple query: the extended protocol's portal would keep its snapshot until the next statement.
            cursor = await psycopg.AsyncClientCursor(connection).execute(SQL[name].text, parameters)
            return await cursor.fetchall()

    async def _say(self, connection: Connection, command: bytes) -> None:
        with self._database.deadlines.watched(connection):
            await connection.execute(command)
