"""procrastinate's driver, on its own psycopg connector; finished jobs stay in its table, as they do by default."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import procrastinate


class Producer:
    def __init__(self, task: Any) -> None:
        self._task = task

    async def one(self, number: int) -> None:
        await self._task.defer_async(i=number)

    async def many(self, count: int) -> None:
        await self._task.batch_defer_async(*({"i": number} for number in range(count)))


@asynccontextmanager
async def producing(url: str) -> AsyncIterator[Producer]:
    app, task = _application(url, connections=1, tick=lambda _: None)
    async with app.open_async():
        yield Producer(task)


async def setup(url: str) -> None:
    app, _ = _application(url, connections=1, tick=lambda _: None)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work(url: str, concurrency: int, tick: Callable[[int], None]) -> None:
    app, _ = _application(url, connections=concurrency + 1, tick=tick)
    async with app.open_async():
        await app.run_worker_async(concurrency=concurrency)


def _application(url: str, *, connections: int, tick: Callable[[int], None]) -> tuple[procrastinate.App, Any]:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=connections))

    @app.task(name="noop")
    async def noop(i: int) -> None:
        tick(i)

    return app, noop
