"""chancy's driver: its executor for coroutines, and its queue asked again at once while it has jobs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chancy import Chancy, Queue, Worker, job

_ticks: list[Callable[[int], None]] = []


@job(queue="default")
async def noop(*, i: int) -> None:
    _ticks[0](i)


class Producer:
    def __init__(self, app: Chancy) -> None:
        self._app = app

    async def one(self, number: int) -> None:
        await self._app.push(noop.job.with_kwargs(i=number))

    async def many(self, count: int) -> None:
        async for _ in self._app.push_many([noop.job.with_kwargs(i=number) for number in range(count)]):
            pass


@asynccontextmanager
async def producing(url: str) -> AsyncIterator[Producer]:
    async with _application(url, connections=1) as app:
        yield Producer(app)


async def setup(url: str) -> None:
    async with _application(url, connections=1) as app:
        await app.migrate()


async def work(url: str, concurrency: int, tick: Callable[[int], None]) -> None:
    _ticks.append(tick)
    queue = Queue("default", concurrency=concurrency, executor=Chancy.Executor.Async, eager_polling=True)
    async with _application(url, connections=10) as app:
        await app.declare(queue, upsert=True)
        async with Worker(app) as worker:
            await worker.wait_for_shutdown()


def _application(url: str, *, connections: int) -> Chancy:
    log = logging.getLogger("chancy")
    log.setLevel(logging.WARNING)
    return Chancy(url, log=log, min_connection_pool_size=1, max_connection_pool_size=connections)
