"""Being the only one for a name: an advisory lock of a session.

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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import psycopg
from psycopg.pq import TransactionStatus

from soniqd.backends.postgres.database import Database, execute
from soniqd.backends.postgres.failure import translated
from soniqd.backends.postgres.pool import Connection, is_usable
from soniqd.backends.postgres.statements import SQL
from soniqd.errors import DatabaseError
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
    """The protocol's Leadership. ``leading`` holds those with a connection, for the backend to close.

    Where the pool has one connection only, as a scheduler's has, the lock is on that one: statements take turns there
    as they do anyhow, and an idle daemon needs a connection less. Should the pool replace it, the lead is lost, which
    shows by the connection being another one.
    """

    def __init__(self, database: Database, name: str, *, leading: set[PostgresLeadership]) -> None:
        self._database = database
        self._leading = leading
        self._key = advisory_key(f"leadership:{name}")
        self._connection: Connection | None = None
        self._kind: Literal["session", "shared session", "transaction"] = "session"
        self._proved_s = -math.inf

    async def acquire(self) -> bool:
        with translated("ask for the leadership"):
            try:
                await self._prepare()
                async with self._lent() as connection:
                    return await self._try(connection)
            except BaseException:
                await self.release()
                raise

    async def held(self, *, max_age_s: float = 0.0) -> bool:
        connection = self._connection
        if connection is None or not (self._kind == "shared session" or is_usable(connection)):
            return False
        try:
            async with self._lent() as lent:
                if lent is not connection:
                    self._forget()
                    return False
                if time.monotonic() - self._proved_s < max_age_s:
                    return True  # the lock lasts as long as the session, whose end would be seen on the socket
                [(held,)] = await self._run(connection, "is_leading")
        except (psycopg.Error, DatabaseError):  # the connection is gone, or its transaction broken off, and the lock
            if self._kind == "shared session":
                self._forget()
            else:
                await self.release()
            return False
        self._proved_s = time.monotonic() if held else -math.inf
        return bool(held)

    async def release(self) -> None:
        connection, kind = self._connection, self._kind
        self._forget()
        if connection is None:
            return
        # Said and not left to the end of the session, of which the server hears a little later.
        with contextlib.suppress(psycopg.Error, DatabaseError):
            if kind == "transaction":
                await self._say(connection, b"ROLLBACK")
            elif kind == "session":
                await self._run(connection, "stop_leading")
            else:
                await self._stop_sharing(connection)
        if kind != "shared session":
            await connection.close()

    async def _prepare(self) -> None:
        """Have a connection to take the lock on, unless that is the pool's."""
        connection = self._connection
        if self._database.shares_its_only_session:
            self._kind = "shared session"
        elif connection is None or not is_usable(connection):
            await self.release()
            self._connection = connection = await self._database.connect(purpose=leader_name())
            self._leading.add(self)
            self._kind = "session" if self._database.keeps_sessions else "transaction"
            if self._kind == "session":
                await execute(connection, SQL["watch_leader"], {})

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Connection]:
        if self._kind == "shared session":
            async with self._database.lent() as connection:
                yield connection
        else:
            assert self._connection is not None
            yield self._connection

    async def _try(self, connection: Connection) -> bool:
        if self._kind == "transaction":
            return await self._try_by_transaction(connection)
        if self._kind == "shared session":
            return await self._try_sharing(connection)
        [(held,)] = await self._run(connection, "try_lead")
        return bool(held)

    async def _try_sharing(self, connection: Connection) -> bool:
        if not self._database.keeps_sessions:  # it was connected anew, and to a pooler
            self._forget()
            return False
        is_new = self._connection is not connection
        self._connection = connection  # before the lock is asked for: who is cancelled then gives it back
        self._leading.add(self)
        [(held,)] = await self._run(connection, "try_lead")
        if not held:
            self._forget()
        elif is_new:
            await self._call_itself(connection, f"{self._database.application_name} {leader_name()}")
            await execute(connection, SQL["watch_leader"], {})
        return bool(held)

    async def _try_by_transaction(self, connection: Connection) -> bool:
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            await self._say(connection, _BEGIN)
        [(_, held)] = await self._run(connection, "try_lead_by_transaction")
        if not held:
            await self._say(connection, b"ROLLBACK")  # who only follows needs no connection of the server
        return bool(held)

    async def _stop_sharing(self, connection: Connection) -> None:
        async with self._database.lent() as lent:
            if lent is connection:
                await self._run(connection, "stop_leading")
                await self._call_itself(connection, self._database.application_name)

    def _forget(self) -> None:
        self._connection = None
        self._proved_s = -math.inf
        self._leading.discard(self)

    async def _run(self, connection: Connection, name: str) -> list[tuple[object, ...]]:
        parameters = {"key": self._key}
        with self._database.deadlines.watched(connection):
            if self._kind != "transaction":
                return await execute(connection, SQL[name], parameters)
            # As one simple query: the extended protocol's portal would keep its snapshot until the next statement.
            cursor = await psycopg.AsyncClientCursor(connection).execute(SQL[name].text, parameters)
            return await cursor.fetchall()

    async def _call_itself(self, connection: Connection, name: str) -> None:
        with self._database.deadlines.watched(connection):
            await execute(connection, SQL["call_itself"], {"name": name})

    async def _say(self, connection: Connection, command: bytes) -> None:
        with self._database.deadlines.watched(connection):
            await connection.execute(command)
