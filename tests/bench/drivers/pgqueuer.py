"""pgqueuer's driver, on asyncpg as its own command line does."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries


class Producer:
    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def one(self, number: int) -> None:
        await self._queries.enqueue("noop", _payload(number))

    async def many(self, count: int) -> None:
        await self._queries.enqueue(["noop"] * count, [_payload(number) for number in range(count)], [0] * count)


@asynccontextmanager
async def producing(url: str) -> AsyncIterator[Producer]:
    connection = await asyncpg.connect(url)
    try:
        yield Producer(Queries(AsyncpgDriver(connection)))
    finally:
        await connection.close()


async def setup(url: str) -> None:
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    await connection.close()


async def work(url: str, concurrency: int, tick: Callable[[int], None]) -> None:
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        tick(json.loads(job.payload or b"{}")["i"])

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
    await queue.run(batch_size=concurrency)


def _payload(number: int) -> bytes:
    return json.dumps({"i": number}).encode()
