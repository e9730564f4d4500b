"""A statement that is run one by one as often as it goes, sent with as few steps as libpq needs.

psycopg's cursor finds types, converts, and keeps statistics of what to prepare: 40 us for the eight parameters of a
job, as long as the server takes to store it, and several times that in a process that has slept before, whose caches
are cold. Here the statement is prepared when a connection meets it first, values go as text, and rows come back in the
server's binary format. Behind a pooler, where nothing stays prepared, and on connections
of another encoding, psycopg's way is the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

from soniqd.backends.postgres.pool import Connection
from soniqd.backends.postgres.statements import Statement

_PLACEHOLDER = re.compile(rb"%\((\w+)\)s")
_HEAR_OUT_S = 5.0
_SUCCEEDED = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class DirectStatement:
    """A statement and the connections that have it prepared."""

    def __init__(self, statement: Statement) -> None:
        self.purpose = statement.purpose
        self._statement = statement
        self._name = f"soniq_{statement.name}".encode()
        names = list(dict.fromkeys(_PLACEHOLDER.findall(statement.text)))
        self._text = _PLACEHOLDER.sub(lambda found: b"$%d" % (names.index(found[1]) + 1), statement.text)
        self._names = [name.decode() for name in names]
        self._fitting: WeakKeyDictionary[Connection, bool] = WeakKeyDictionary()

    async def run(self, connection: Connection, parameters: Mapping[str, str | None]) -> list[TupleRow]:
        """Run it and return its rows; raises psycopg's errors."""
        fitting = self._fitting.get(connection)
        if fitting is None:
            fitting = connection.prepare_threshold is not None and connection.info.encoding == "utf-8"
            if fitting:
                async with connection.lock:
                    await connection.wait(self._prepare(connection.pgconn))
            self._fitting[connection] = fitting
        if not fitting:
            cursor = await psycopg.AsyncCursor(connection).execute(self._statement.text, parameters, binary=True)
            return await cursor.fetchall()
        values = [_encoded(parameters[name]) for name in self._names]
        try:
            async with connection.lock:
                result = await self._executed(connection, values)
        except errors.InvalidSqlStatementName:  # somebody who was lent the connection has deallocated it
            del self._fitting[connection]
            return await self.run(connection, parameters)
        transformer = Transformer(connection)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def _prepare(self, pgconn: PGconn) -> PQGen[None]:
        """Prepare it, unless that was done by somebody who was cancelled before he heard so."""
        pgconn.send_prepare(self._name, self._text)
        with contextlib.suppress(errors.DuplicatePreparedStatement):
            _check((yield from generators.execute(pgconn)))

    async def _executed(self, connection: Connection, values: list[bytes | None]) -> PGresult:
        """Send and wait without psycopg's ``wait``, which arms a timer ten times a second for the sake of Ctrl-C."""
        pgconn = connection.pgconn
        pgconn.send_query_prepared(self._name, values, result_format=Format.BINARY)
        if pgconn.flush():  # more than the socket takes at once
            return _check(await connection.wait(generators.execute(pgconn)))
        try:
            return _check(await _results(pgconn))
        except asyncio.CancelledError:
            await _cancel(connection)
            raise


async def _results(pgconn: PGconn) -> list[PGresult]:
    results: list[PGresult] = []
    while True:
        if pgconn.is_busy():
            await _readable(pgconn.socket)
            try:
                pgconn.consume_input()
            except psycopg.OperationalError:
                if not any(result.status == ExecStatus.FATAL_ERROR for result in results):
                    raise
                return results  # the server has said why before it left
        elif (result := pgconn.get_result()) is not None:
            results.append(result)
        else:
            return results


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _note, readable)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


def _note(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


async def _cancel(connection: Connection) -> None:
    """Let the server know that nobody waits any more, and hear it out, so that the connection can be used again."""
    with contextlib.suppress(psycopg.Error):
        await connection.cancel_safe(timeout=_HEAR_OUT_S)
        await connection.wait(generators.fetch_many(connection.pgconn), timeout=_HEAR_OUT_S)


def _encoded(value: str | None) -> bytes | None:
    if value is None:
        return None
    encoded = value.encode()
    if 0 in encoded:  # libpq would end the text there
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return encoded


def _check(results: Sequence[PGresult]) -> PGresult:
    """Return the result, or raise what went wrong; a server that goes away may say so in several."""
    if not results:
        raise psycopg.OperationalError("the connection ended without an answer")
    for result in results:
        if result.status not in _SUCCEEDED:
            raise errors.error_from_result(result)
    return results[0]
