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

import psycopg
from psycopg import abc, errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

from soniqd.backends.postgres.connection import Connection
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

    async def run(self, connection: Connection, parameters: Mapping[str, str | None]) -> list[TupleRow]:
        """Run it and return its rows; raises psycopg's errors."""
        if self._name in connection.direct:
            transformer = connection.direct[self._name]
        else:
            transformer = connection.direct[self._name] = await self._meet(connection)
        if transformer is None:
            cursor = await psycopg.AsyncCursor(connection).execute(self._statement.text, parameters, binary=True)
            return await cursor.fetchall()
        values: list[bytes | None] = []
        for name in self._names:
            value = parameters[name]
            values.append(None if value is None else value.encode())
            if value is not None and "\0" in value:  # libpq would end the text there
                raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        try:
            async with connection.lock:
                result = await self._executed(connection, values)
        except errors.InvalidSqlStatementName:  # somebody who was lent the connection has deallocated it
            del connection.direct[self._name]
            return await self.run(connection, parameters)
        transformer.set_pgresult(result)
        rows = transformer.load_rows(0, result.ntuples, tuple)
        transformer.set_pgresult(None)
        return rows

    async def _meet(self, connection: Connection) -> abc.Transformer | None:
        """Prepare it where that lasts, and return what reads its rows."""
        if connection.prepare_threshold is None or connection.info.encoding != "utf-8":
            return None
        async with connection.lock:
            await connection.wait(self._prepare(connection.pgconn))
        return Transformer(connection)

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
            return _check(await _results(connection))
        except asyncio.CancelledError:
            await _cancel(connection)
            raise


async def _results(connection: Connection, *, again: bool = False) -> list[PGresult]:
    pgconn = connection.pgconn
    results: list[PGresult] = []
    while True:
        if pgconn.is_busy():
            try:
                await connection.arrival(again=again)
            except psycopg.OperationalError:
                if not any(result.status == ExecStatus.FATAL_ERROR for result in results):
                    raise
                return results  # the server has said why before it left
            again = True
        elif (result := pgconn.get_result()) is not None:
            results.append(result)
        else:
            return results


async def _cancel(connection: Connection) -> None:
    """Let the server know that nobody waits any more, and hear it out, so that the connection can be used again.

    Not by psycopg's ``wait``, which goes on waiting when it is to stop. If nothing comes, the connection stays in the
    middle of something, and the pool closes it.
    """
    with contextlib.suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(_HEAR_OUT_S):
            await connection.cancel_safe(timeout=_HEAR_OUT_S)
            await _results(connection, again=True)


def _check(results: Sequence[PGresult]) -> PGresult:
    """Return the result, or raise what went wrong; a server that goes away may say so in several."""
    if not results:
        raise psycopg.OperationalError("the connection ended without an answer")
    for result in results:
        if result.status not in _SUCCEEDED:
            raise errors.error_from_result(result)
    return results[0]
