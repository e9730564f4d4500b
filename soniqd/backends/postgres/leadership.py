"""Being the only one for a name: an advisory lock of a session.

PostgreSQL frees the lock when the session ends, so kill -9 of the holder frees it at once, and a lost host when the
server's keepalives give up on it (about 15 s). The holder learns of a loss by asking.

Behind a pooler a session is shared: a lock of its would be everybody's, and stay when we are gone. There the lock is
that of a transaction which stays open for as long as it leads; the pooler keeps one of the server's connections for
it, and ends the transaction when our connection ends. Between statements such a transaction has no snapshot, so it
keeps no dead row from being removed.

Where the pool has one connection only, as a scheduler's has, the lock is on that one: statements take turns there as
they do anyhow, and an idle daemon needs a connection less. Should the pool replace it, the lead is lost, which shows by
the connection being another one.
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

import psycopg
from psycopg.pq import TransactionStatus

from soniqd.backends.postgres.connection import Connection
from soniqd.backends.postgres.database import Database, execute
from soniqd.backends.postgres.deadline import Deadlines
from soniqd.backends.postgres.failure import translated
from soniqd.backends.postgres.pool import is_usable
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
    """The protocol's Leadership. ``leading`` holds those with something to give back, for the backend to close."""

    def __init__(self, database: Database, name: str, *, leading: set[PostgresLeadership]) -> None:
        self._database = database
        self._leading = leading
        self._key = advisory_key(f"leadership:{name}")
        self._seat: OwnConnection | OnlyConnection | None = None
        self._proved_s = -math.inf

    async def acquire(self) -> bool:
        with translated("ask for the leadership"):
            try:
                seat = self._seat
                if seat is None or not seat.fits:
                    await self.release()
                    self._seat = seat = await self._new_seat()
                    self._leading.add(self)
                return await seat.take()
            except BaseException:
                await self.release()
                raise

    async def held(self, *, max_age_s: float = 0.0) -> bool:
        seat = self._seat
        if seat is None:
            return False
        try:
            async with seat.lent() as connection:
                if connection is None:
                    return False
                if time.monotonic() - self._proved_s < max_age_s:
                    return True  # the lock lasts as long as the session, whose end would be seen on the socket
                held = await seat.lock.is_on(connection)
        except (psycopg.Error, DatabaseError):  # the connection is gone, or its transaction broken off, and the lock
            await self.release()
            return False
        self._proved_s = time.monotonic() if held else -math.inf
        return held

    async def release(self) -> None:
        seat, self._seat = self._seat, None
        self._proved_s = -math.inf
        self._leading.discard(self)
        if seat is not None:
            # Said and not left to the end of the session, of which the server hears a little later.
            await seat.give_back()

    async def _new_seat(self) -> OwnConnection | OnlyConnection:
        database = self._database
        session = SessionLock(database.deadlines, self._key)
        if database.shares_its_only_session:
            return OnlyConnection(database, session)
        connection = await database.connect(purpose=leader_name())
        lock = session if database.keeps_sessions else TransactionLock(database.deadlines, self._key)
        return OwnConnection(connection, lock)


class OwnConnection:
    """A connection for nothing but a lock."""

    def __init__(self, connection: Connection, lock: SessionLock | TransactionLock) -> None:
        self.connection = connection
        self.lock = lock

    @property
    def fits(self) -> bool:
        """Whether the lock can be asked for here."""
        return is_usable(self.connection)

    async def take(self) -> bool:
        """Try once; True if the lock is held now."""
        return await self.lock.try_on(self.connection)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection | None]:
        """Lend the connection that the lock is on; None if there is none any more."""
        yield self.connection if is_usable(self.connection) else None

    async def give_back(self) -> None:
        """Free the lock, and close."""
        try:
            with contextlib.suppress(psycopg.Error):
                await self.lock.free_on(self.connection)
        finally:
            await self.connection.close()


class OnlyConnection:
    """A session's lock on the only connection that the pool has."""

    def __init__(self, database: Database, lock: SessionLock) -> None:
        self._database = database
        self._connection: Connection | None = None
        """On which the lock is."""
        self.lock = lock

    @property
    def fits(self) -> bool:
        """Whether the pool still is as it was."""
        return self._database.shares_its_only_session

    async def take(self) -> bool:
        """Try once; True if the lock is held now."""
        async with self._database.lent() as connection:
            if not self.fits:  # it was connected anew, and to a pooler
                self._connection = None
                return False
            is_new = self._connection is not connection
            self._connection = connection  # before the lock is asked for: who is cancelled then gives it back
            held = await self.lock.try_on(connection)
            if not held:
                self._connection = None
            elif is_new:
                await self._name(connection, f"{self._database.application_name} {leader_name()}")
            return held

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection | None]:
        """Lend the connection that the lock is on, in its turn; None if there is none any more."""
        if self._connection is None:
            yield None
            return
        try:
            async with self._database.lent() as connection:
                if connection is not self._connection:
                    self._connection = None
                yield self._connection
        except (psycopg.Error, DatabaseError):
            self._connection = None
            raise

    async def give_back(self) -> None:
        """Free the lock, on the connection that stays the pool's."""
        with contextlib.suppress(psycopg.Error, DatabaseError):
            async with self.lent() as connection:
                if connection is not None:
                    await self.lock.free_on(connection)
                    await self._name(connection, self._database.application_name)

    async def _name(self, connection: Connection, name: str) -> None:
        with self._database.deadlines.watched(connection):
            await execute(connection, SQL["call_itself"], {"name": name})


class SessionLock:
    """The lock of a session; raises psycopg's errors."""

    def __init__(self, deadlines: Deadlines, key: int) -> None:
        self._deadlines = deadlines
        self._key = key

    async def try_on(self, connection: Connection) -> bool:
        """Take it unless somebody else has it; return whether it is held now."""
        [(held,)] = await self._run(connection, "try_lead")
        if held:
            await self._run(connection, "watch_leader")
        return bool(held)

    async def is_on(self, connection: Connection) -> bool:
        """Ask the server whether it is held."""
        [(held,)] = await self._run(connection, "is_leading")
        return bool(held)

    async def free_on(self, connection: Connection) -> None:
        """Let others have it."""
        await self._run(connection, "stop_leading")

    async def _run(self, connection: Connection, name: str) -> list[tuple[object, ...]]:
        with self._deadlines.watched(connection):
            return await execute(connection, SQL[name], {"key": self._key})


class TransactionLock:
    """The lock of a transaction that stays open; raises psycopg's errors."""

    def __init__(self, deadlines: Deadlines, key: int) -> None:
        self._deadlines = deadlines
        self._key = key

    async def try_on(self, connection: Connection) -> bool:
        """Take it unless somebody else has it; return whether it is held now."""
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            await self._say(connection, _BEGIN)
        [(_, held)] = await self._run(connection, "try_lead_by_transaction")
        if not held:
            await self._say(connection, b"ROLLBACK")  # who only follows needs no connection of the server
        return bool(held)

    async def is_on(self, connection: Connection) -> bool:
        """Ask the server whether it is held."""
        [(held,)] = await self._run(connection, "is_leading")
        return bool(held)

    async def free_on(self, connection: Connection) -> None:
        """Let others have it."""
        await self._say(connection, b"ROLLBACK")

    async def _run(self, connection: Connection, name: str) -> list[tuple[object, ...]]:
        """As one simple query: the extended protocol's portal would keep its snapshot until the next statement."""
        with self._deadlines.watched(connection):
            cursor = await psycopg.AsyncClientCursor(connection).execute(SQL[name].text, {"key": self._key})
            return await cursor.fetchall()

    async def _say(self, connection: Connection, command: bytes) -> None:
        with self._deadlines.watched(connection):
            await connection.execute(command)
