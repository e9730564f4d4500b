"""Statements on pooled connections, with their deadlines and in soniqd's errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, overload

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, dict_row, tuple_row

from soniqd.backends.postgres.connection import AnyConnection, Connection
from soniqd.backends.postgres.deadline import Deadlines
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.backends.postgres.failure import translate, translated
from soniqd.backends.postgres.pool import ConnectionPool
from soniqd.backends.postgres.statements import Statement
from soniqd.backends.postgres.target import Target

_CLIENT_GRACE_S = 5.0
"""How much later than the server's our own deadline is: the server's error says more."""

_LONGEST_SILENCE_S = 10.0
"""How long a process may stand still in a transaction (stopped, swapped out, cut off) before its locks are taken away.

A host that stood still while it swept would keep all others from sweeping, for as long as it stands still.
"""

_OLDEST_SERVER = 140_000

# See the package's "Plans". jit: the costs that a forbidden plan is given would set the compiler to work.
# client_encoding: as connected, also after a stranger; direct statements send their texts in it unasked.
_SESSION = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_memoize": "off",
}
_Rows = Literal["tuple", "dict", "binary"]
_PLANNER = tuple(name for name in _SESSION if name.startswith(("plan_", "enable_")))


class Database:
    """A pool to run statements on, and a way to connections beside it."""

    def __init__(
        self, target: Target, *, min_size: int, max_size: int, connect_timeout_s: float, statement_timeout_s: float
    ) -> None:
        self.target = target
        self._statement_timeout_s = statement_timeout_s
        self.deadlines = Deadlines(statement_timeout_s + _CLIENT_GRACE_S if statement_timeout_s > 0 else 0.0)
        self._connect_timeout_s = connect_timeout_s
        self.pooled = False
        """Whether the latest connection went to a pooler."""
        self._sizes = (min_size, max_size)
        self._pool = self._new_pool()

    @property
    def keeps_sessions(self) -> bool:
        """Whether what a session is told lasts beyond a transaction: not behind a pooler, unless the URL says so."""
        said = self.target.keeps_sessions
        return not self.pooled if said is None else said

    @property
    def shares_its_only_session(self) -> bool:
        """Whether all statements go through one session, so that what belongs to a session can be on that one."""
        return self._sizes[1] == 1 and self.keeps_sessions

    @property
    def application_name(self) -> str:
        return str(self.target.parameters["application_name"])

    async def open(self) -> None:
        """Connect; a database that was closed may be opened again."""
        if self._pool.closed:
            self._pool = self._new_pool()
        with translated("connect to the database"):
            await self._pool.fill()

    async def close(self) -> None:
        self.deadlines.stop()
        await self._pool.close()

    @overload
    async def fetch(
        self,
        statement: Statement,
        parameters: Mapping[str, Any],
        *,
        rows: Literal["tuple", "binary"] = "tuple",
        repeat: bool = ...,
    ) -> list[TupleRow]: ...

    @overload
    async def fetch(
        self, statement: Statement, parameters: Mapping[str, Any], *, rows: Literal["dict"], repeat: bool = ...
    ) -> list[dict[str, Any]]: ...

    async def fetch(
        self,
        statement: Statement,
        parameters: Mapping[str, Any],
        *,
        rows: _Rows = "tuple",
        repeat: bool = False,
    ) -> list[Any]:
        """Run one statement as a transaction of its own.

        ``rows``: "binary" has the server send tuples in its own format, which costs both sides less.
        ``repeat``: running it twice does no harm, so it is tried again if the connection turns out to be dead.
        """
        try:
            return await self._fetch_once(statement, parameters, rows)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not repeat or (error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P"))):
                raise translate(error, statement.purpose) from error
        except psycopg.Error as error:
            raise translate(error, statement.purpose) from error
        with translated(statement.purpose):
            return await self._fetch_once(statement, parameters, rows)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Connection]:
        """Lend a pooled connection as it is, to be given back as it was; raises psycopg's errors."""
        async with self._pool.lent() as connection:
            yield connection

    async def count(self, statement: Statement, parameters: Mapping[str, Any]) -> int:
        """Run one statement as a transaction of its own; return how many rows it changed."""
        with translated(statement.purpose):
            async with self._pool.lent() as connection:
                with self.deadlines.watched(connection):
                    cursor = await psycopg.AsyncCursor(connection).execute(statement.text, parameters)
                    return cursor.rowcount

    async def run(self, statement: DirectStatement, parameters: Mapping[str, str | None]) -> list[TupleRow]:
        """Run one statement as a transaction of its own, in the shortest way; values and rows as it has them."""
        try:
            connection = await self._pool.borrow()
            try:
                self.deadlines.watch(connection)
                return await statement.run(connection, parameters)
            finally:
                self.deadlines.forget(connection)
                await self._pool.give_back(connection)
        except psycopg.Error as error:
            raise translate(error, statement.purpose) from error

    async def examine(self, statement: Statement, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run a statement that looks at whole tables, with the planner's usual freedom."""
        async with self.transaction(statement.purpose, free_planner=True) as transaction:
            return await transaction.fetch_dicts(statement, parameters)

    @asynccontextmanager
    async def transaction(self, purpose: str, *, free_planner: bool = False) -> AsyncIterator[Transaction]:
        """Lend a connection in a transaction that commits at the end of the block."""
        begin = b"; ".join([b"BEGIN", _patience(), *([_free_planner(local=True)] if free_planner else [])])
        with translated(purpose):
            async with self._pool.lent() as connection:
                with self.deadlines.watched(connection):
                    await connection.execute(begin)
                try:
                    yield Transaction(self, connection)
                except BaseException:
                    await self._roll_back(connection)
                    raise
                with self.deadlines.watched(connection):
                    await connection.execute(b"COMMIT")

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """Lend a pooled connection to a stranger; what transaction it leaves open is rolled back."""
        with translated("lend a connection"):
            connection = await self._pool.borrow()
        try:
            if self.keeps_sessions:
                with translated("prepare a connection for lending"):
                    await connection.execute(_free_planner(local=False))
            yield connection
        finally:
            await self._take_back(connection)

    async def connect(self, *, purpose: str, database: str | None = None) -> Connection:
        """Open a connection beside the pool; raises psycopg's errors."""
        target = self.target if database is None else self.target.for_database(database)
        name = f"{self.application_name} {purpose}"
        named = {**target.parameters, "application_name": name}
        return await self._connect(replace(target, parameters=named, prepare_threshold=None))

    async def _fetch_once(self, statement: Statement, parameters: Mapping[str, Any], rows: _Rows) -> list[Any]:
        connection = await self._pool.borrow()
        try:
            self.deadlines.watch(connection)
            factory = dict_row if rows == "dict" else tuple_row
            return await execute(connection, statement, parameters, factory, binary=rows == "binary")
        finally:
            self.deadlines.forget(connection)
            await self._pool.give_back(connection)

    def _new_pool(self) -> ConnectionPool:
        minimum, maximum = self._sizes
        wait_s = self._statement_timeout_s or 30.0
        return ConnectionPool(self._pooled, min_size=minimum, max_size=maximum, timeout_s=wait_s)

    async def _pooled(self) -> Connection:
        connection = await self._connect(self.target)
        if not self.keeps_sessions:
            return connection
        try:
            await connection.execute(self._session_settings())
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _connect(self, target: Target) -> Connection:
        hosts = str(target.parameters.get("host") or "").count(",") + 1
        try:
            async with asyncio.timeout(self._connect_timeout_s * hosts + 1.0):
                connection = await Connection.connect(autocommit=True, **target.parameters)
        except TimeoutError:
            raise psycopg.OperationalError(f"no connection within {self._connect_timeout_s:g} s") from None
        try:
            await self._examine(connection)
        except BaseException:
            await connection.close()
            raise
        connection.prepare_threshold = target.prepare_threshold if self.keeps_sessions else None
        return connection

    async def _examine(self, connection: Connection) -> None:
        """Refuse a server that is too old, and find out whether it is the server."""
        version = connection.info.server_version
        if version < _OLDEST_SERVER:
            raise psycopg.NotSupportedError(f"the server is PostgreSQL {version // 10_000}, 14 or newer is needed")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self.pooled = await is_pooled(connection)
        except TimeoutError:
            raise psycopg.OperationalError(f"no answer within {self._connect_timeout_s:g} s") from None

    def _session_settings(self) -> bytes:
        timeout_ms = round(self._statement_timeout_s * 1000)
        settings = {**_SESSION, "statement_timeout": str(timeout_ms)}
        return ("; ".join(f"SET {name} = '{value}'" for name, value in settings.items())).encode()

    async def _take_back(self, connection: Connection) -> None:
        try:
            await self._roll_back(connection)
            if not connection.closed and self.keeps_sessions:
                await connection.execute(self._session_settings())
        except psycopg.Error:
            await connection.close()
        finally:
            await self._pool.give_back(connection)

    async def _roll_back(self, connection: Connection) -> None:
        if connection.closed or connection.pgconn.transaction_status == TransactionStatus.IDLE:
            return
        with contextlib.suppress(psycopg.Error), self.deadlines.watched(connection):
            await connection.rollback()


class Transaction:
    """Statements of one transaction; raises psycopg's errors, which the block's end translates."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self.connection: AnyConnection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[TupleRow]:
        with self._database.deadlines.watched(self.connection):
            return await execute(self.connection, statement, parameters)

    async def copy(self, statement: Statement, blocks: Iterable[str]) -> None:
        with self._database.deadlines.watched(self.connection):
            await copy(self.connection, statement, blocks)

    async def fetch_dicts(self, statement: Statement, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        with self._database.deadlines.watched(self.connection):
            return await execute(self.connection, statement, parameters, dict_row)


async def is_pooled(connection: Connection) -> bool:
    """Tell whether something between us and the server answers in its place: its process id is another one then."""
    connection.prepare_threshold = None
    cursor = await psycopg.AsyncCursor(connection).execute(b"SELECT pg_backend_pid()")
    return await cursor.fetchone() != (connection.info.backend_pid,)


async def execute(
    connection: AnyConnection,
    statement: Statement,
    parameters: Mapping[str, Any],
    rows: Any = tuple_row,
    *,
    binary: bool = False,
) -> list[Any]:
    """Run a statement on any psycopg connection, whatever its own cursor and row factories are."""
    cursor = psycopg.AsyncCursor(connection, row_factory=rows)
    await cursor.execute(statement.text, parameters, binary=binary)
    return await cursor.fetchall() if cursor.description else []


async def copy(connection: AnyConnection, statement: Statement, blocks: Iterable[str]) -> None:
    """Send rows by COPY on any psycopg connection; ``blocks`` are lines in COPY's text format."""
    async with psycopg.AsyncCursor(connection).copy(statement.text) as out:
        for block in blocks:
            await out.write(block)


def _patience() -> bytes:
    return f"SET LOCAL idle_in_transaction_session_timeout = {round(_LONGEST_SILENCE_S * 1000)}".encode()


def _free_planner(*, local: bool) -> bytes:
    scope = "LOCAL " if local else ""
    return "; ".join(f"SET {scope}{name} TO DEFAULT" for name in _PLANNER).encode()
