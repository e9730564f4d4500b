"""The driver of Soniq 0.1.0, whose tables soniqd's are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from soniq import Soniq


class Producer:
    def __init__(self, app: Any, task: Any) -> None:
        self._app, self._task = app, task

    async def one(self, number: int) -> None:
        await self._app.enqueue(self._task, i=number)

    async def many(self, count: int) -> None:
        await self._app.enqueue_many(self._task, [{"i": number} for number in range(count)])


@asynccontextmanager
async def producing(url: str) -> AsyncIterator[Producer]:
    app, task = _application(url, connections=1, tick=lambda _: None)
    await app.ensure_initialized()
    try:
        yield Producer(app, task)
    finally:
        await app.close()


async def setup(url: str) -> None:
    app, _ = _application(url, connections=1, tick=lambda _: None)
    await app.setup()
    await app.close()


async def work(url: str, concurrency: int, tick: Callable[[int], None]) -> None:
    app, _ = _application(url, connections=concurrency + 3, tick=tick)
    await app.run_worker(concurrency=concurrency)
    await app.close()


def _application(url: str, *, connections: int, tick: Callable[[int], None]) -> tuple[Any, Any]:
    app = Soniq(database_url=url, pool_min_size=1, pool_max_size=connections, log_level="WARNING")

    @app.job(name="noop")
    async def noop(i: int) -> None:
        tick(i)

    return app, noop
