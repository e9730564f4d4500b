"""The floor: a loop of psycopg over one connection, with no queue around it.

It claims a batch, runs a task for each row, and marks the batch as done: nothing is checked, fenced, timed, retried or
logged. What it enqueues one by one is a row and its notification in one statement.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg

_TABLE = """
CREATE TABLE floor_jobs (
  id bigserial PRIMARY KEY,
  state smallint NOT NULL DEFAULT 0,
  priority int NOT NULL DEFAULT 0,
  payload jsonb NOT NULL,
  attempts int NOT NULL DEFAULT 0,
  started_at timestamptz,
  finished_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX floor_jobs_claim ON floor_jobs (priority, id) WHERE state = 0;
"""
_ONE = (
    "WITH new AS (INSERT INTO floor_jobs (payload) VALUES (%s) RETURNING id) SELECT id, pg_notify('floor', '') FROM new"
)
_MANY = "INSERT INTO floor_jobs (payload) SELECT p::jsonb FROM unnest(%s::text[]) p"
_CLAIM = """
WITH best AS (
  SELECT id FROM floor_jobs WHERE state = 0 ORDER BY priority, id LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE floor_jobs SET state = 1, attempts = attempts + 1, started_at = now() FROM best WHERE floor_jobs.id = best.id
RETURNING floor_jobs.id, floor_jobs.payload
"""
_DONE = "UPDATE floor_jobs SET state = 2, finished_at = now() WHERE id = ANY (%s::bigint[])"
_IDLE_S = 0.005


class Producer:
    """Inserts."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def one(self, number: int) -> None:
        await self._connection.execute(_ONE, [json.dumps({"i": number})], prepare=True)

    async def many(self, count: int) -> None:
        await self._connection.execute(_MANY, [[json.dumps({"i": number}) for number in range(count)]])


@asynccontextmanager
async def producing(url: str) -> AsyncIterator[Producer]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield Producer(connection)


async def setup(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(_TABLE)


async def work(url: str, concurrency: int, tick: Callable[[int], None]) -> None:
    """Run until the process is ended; ``concurrency`` is the size of a batch."""

    async def noop(i: int) -> None:
        tick(i)

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        claim, done = connection.cursor(binary=True), connection.cursor()
        while True:
            await claim.execute(_CLAIM, [concurrency], prepare=True)
            rows = await claim.fetchall()
            if not rows:
                await asyncio.sleep(_IDLE_S)
                continue
            await asyncio.gather(*(asyncio.create_task(noop(**payload)) for _, payload in rows))
            await done.execute(_DONE, [[id_ for id_, _ in rows]], prepare=True)
