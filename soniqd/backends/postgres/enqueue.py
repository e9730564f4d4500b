"""Storing jobs: one by one, in bulk, under a key, and in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import psycopg
from psycopg import errors
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import TupleRow

from soniqd.backends.postgres.database import Database, Transaction, copy, execute
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.backends.postgres.failure import reason_of, translated
from soniqd.backends.postgres.gathering import Gatherer
from soniqd.backends.postgres.statements import SQL, Statement
from soniqd.errors import DatabaseError, InvalidArgumentsError
from soniqd.model import JobId, NewJob

_CHUNK = 5_000
"""Jobs that one statement stores: larger ones win nothing and hold more memory on both sides."""

_COPY_FROM = 500
"""Jobs from which on COPY, with four round trips more, is faster than one statement: by a third for thousands."""

_BLOCK = 256
"""Rows that go to the server in one piece, some 30 to 60 kB: it stores them while the next ones are written."""

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_SPECIAL = re.compile(r"[\\\t\n\r]").search

_NULL = "NULL"
_PLAIN = re.compile(r"(?!null$)[\w-]+", re.ASCII | re.IGNORECASE).fullmatch

_ROUNDS = 10
"""How often a keyed job may find its twin gone just now; each time something else made progress."""


class PostgresEnqueue:
    """The protocol's ``enqueue``."""

    _database: Database
    _gatherer: Gatherer | None = None

    async def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[JobId]:
        if not jobs:
            return []
        if connection is not None:
            return await _enqueue_for_caller(jobs, connection)
        if len(jobs) == 1 and not _is_keyed(jobs[0]):
            if self._gatherer is None:
                self._gatherer = Gatherer(one=self._store_one, many=self._store_many)
            await self._gatherer.store(jobs[0])
            return [jobs[0].id]
        return await self._store_many(jobs)

    async def _store_one(self, job: NewJob) -> None:
        try:
            if job.run_at is None and job.delay_s is None:
                await self._database.run(_ENQUEUE_NOW, _now(job))
            else:
                await self._database.fetch(SQL["enqueue_later"], _later(job))
        except (DatabaseError, UnicodeEncodeError) as error:  # what _refusals() does, without its cost
            _refuse(error)

    async def _store_many(self, jobs: Sequence[NewJob]) -> list[JobId]:
        with _refusals():
            if len(jobs) == 1:  # in one round trip; only a twin's coming and going takes more
                return await _store_keyed(self._database, jobs)
            if len(jobs) < _COPY_FROM and not any(map(_is_keyed, jobs)):
                return await _store_plain(self._database, jobs)
            async with self._database.transaction("store jobs and tell listeners") as transaction:
                return await store(transaction, jobs)


async def store(transaction: Transaction, jobs: Sequence[NewJob]) -> list[JobId]:
    """Store jobs in order within a transaction at hand; return the ids that stand for them."""
    ids: list[JobId] = []
    for chunk in _chunks(jobs):
        if any(map(_is_keyed, chunk)):  # together with those that are not: a statement for each run costs a round trip
            ids += await _store_keyed(transaction, chunk)
        elif len(chunk) >= _COPY_FROM and _can_copy(transaction, chunk):
            ids += await _copy(transaction, chunk)
        else:
            ids += await _store_plain(transaction, chunk)
    return ids


async def _enqueue_for_caller(jobs: Sequence[NewJob], connection: Any) -> list[JobId]:
    if not isinstance(connection, psycopg.AsyncConnection):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise InvalidArgumentsError(f"cannot enqueue on this connection: expected psycopg.AsyncConnection, got {kind}")
    callers = _CallersTransaction(connection)
    with translated("store jobs on the caller's connection"), _refusals():
        idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if not (connection.autocommit and idle):
            return await store(callers, jobs)
        async with connection.transaction():
            return await store(callers, jobs)


class _CallersTransaction(Transaction):
    """The caller's connection, with the caller's deadlines."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await execute(self.connection, statement, parameters)

    async def copy(self, statement: Statement, blocks: Iterable[str]) -> None:
        await copy(self.connection, statement, blocks)


def _can_copy(transaction: Transaction, jobs: Sequence[NewJob]) -> bool:
    """COPY knows no clock to tell what is due later, and does not go into a pipeline."""
    pipeline = transaction.connection.pgconn.pipeline_status
    return pipeline == PipelineStatus.OFF and all(job.run_at is None and job.delay_s is None for job in jobs)


async def _copy(transaction: Transaction, jobs: Sequence[NewJob]) -> list[JobId]:
    await transaction.copy(SQL["copy_jobs"], _blocks(jobs))
    await transaction.fetch(SQL["tell_queues"], {"queues": sorted({job.queue for job in jobs})})
    return [job.id for job in jobs]


def _blocks(jobs: Sequence[NewJob]) -> Iterator[str]:
    """Write rows in COPY's text format (PostgreSQL manual, COPY, "Text Format"): twice as fast as value by value.

    What jobs of one task have in common is written once.
    """
    tails: dict[tuple[Any, ...], str] = {}
    for start in range(0, len(jobs), _BLOCK):
        lines = []
        for job in jobs[start : start + _BLOCK]:
            common = (job.name, job.max_attempts, job.priority, job.queue, job.producer_id)
            tail = tails.get(common)
            if tail is None:
                tail = tails[common] = "\t".join(map(_field, common))
            lines.append(f"{job.id}\t{_field(job.args_json)}\t{_field(job.args_hash)}\t{tail}\n")
        yield "".join(lines)


def _field(value: str | int | None) -> str:
    if value is None:
        return "\\N"
    text = str(value)
    return text.translate(_ESCAPES) if _SPECIAL(text) else text


class _Runs(Protocol):
    """A transaction, or the database itself, where each statement is one."""

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any], /) -> list[TupleRow]: ...


async def _store_plain(transaction: _Runs, jobs: Sequence[NewJob]) -> list[JobId]:
    await transaction.fetch(SQL["enqueue_many"], _columns(jobs))
    return [job.id for job in jobs]


async def _store_keyed(transaction: _Runs, jobs: Sequence[NewJob]) -> list[JobId]:
    """Store jobs or find the twins that hold their keys; a twin may come or go in between, so look again."""
    ids = [job.id for job in jobs]
    missing = list(range(len(jobs)))
    for _ in range(_ROUNDS):
        rows = await transaction.fetch(SQL["enqueue_keyed"], _keyed_columns([jobs[i] for i in missing]))
        twins = {missing[place - 1]: twin for place, twin, _ in rows if place}
        for index, twin in twins.items():
            if twin is not None:
                ids[index] = JobId(twin)
        missing = sorted(index for index, twin in twins.items() if twin is None)
        if not missing:
            return ids
    raise DatabaseError(f"cannot store job {jobs[missing[0]].id}: other jobs take its key and leave it all the time")


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the database's refusal of a job's content into the caller's mistake that it is."""
    try:
        yield
    except (psycopg.DataError, DatabaseError, UnicodeEncodeError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    if isinstance(error, psycopg.DataError):
        raise InvalidArgumentsError(f"cannot store job: {reason_of(error)}") from error
    if isinstance(error, UnicodeEncodeError):
        raise InvalidArgumentsError(f"cannot store job: it is not Unicode text: {error.reason}") from error
    if isinstance(error.__cause__, psycopg.DataError | errors.ProgramLimitExceeded | errors.StatementTooComplex):
        raise InvalidArgumentsError(str(error)) from error.__cause__
    raise error


def _is_keyed(job: NewJob) -> bool:
    return job.unique or job.dedup_key is not None


def _chunks(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    for start in range(0, len(jobs), _CHUNK):
        yield jobs[start : start + _CHUNK]


_ENQUEUE_NOW = DirectStatement(SQL["enqueue_now"])


def _now(job: NewJob) -> dict[str, str | None]:
    return {
        "id": job.id,
        "name": job.name,
        "args": job.args_json,
        "args_hash": job.args_hash,
        "max_attempts": str(job.max_attempts),
        "priority": str(job.priority),
        "queue": job.queue,
        "producer_id": job.producer_id,
    }


def _later(job: NewJob) -> dict[str, Any]:
    return {**_now(job), "run_at": job.run_at, "delay_s": job.delay_s}


def _columns(jobs: Sequence[NewJob]) -> dict[str, str]:
    return {
        "ids": _array(job.id for job in jobs),
        "names": _array(job.name for job in jobs),
        "args": _array(job.args_json for job in jobs),
        "args_hashes": _array(job.args_hash for job in jobs),
        "max_attempts": _array(str(job.max_attempts) for job in jobs),
        "priorities": _array(str(job.priority) for job in jobs),
        "queues": _array(job.queue for job in jobs),
        "producer_ids": _array(job.producer_id for job in jobs),
        "run_ats": _array(None if job.run_at is None else job.run_at.isoformat() for job in jobs),
        "delays_s": _array(None if job.delay_s is None else repr(float(job.delay_s)) for job in jobs),
    }


def _keyed_columns(jobs: Sequence[NewJob]) -> dict[str, str]:
    return _columns(jobs) | {
        "uniques": _array("t" if job.unique else "f" for job in jobs),
        "dedup_keys": _array(job.dedup_key for job in jobs),
    }


def _array(values: Iterable[str | None]) -> str:
    """Write an array as text (PostgreSQL manual, "Arrays", section 8.15.6), which costs half of what psycopg does."""
    return "{" + ",".join([_NULL if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if _PLAIN(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
