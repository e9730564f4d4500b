"""soniqd's producer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from soniqd import Soniq
from tests.bench.jobs import noop


class Producer:
    """Enqueues by the library."""

    def __init__(self, app: Soniq) -> None:
        self._app = app

    async def one(self, number: int) -> None:
        await self._app.enqueue("noop", i=number)

    async def many(self, count: int) -> None:
        await self._app.enqueue_many("noop", ({"i": number} for number in range(count)))


@asynccontextmanager
async def producing(url: str) -> AsyncIterator[Producer]:
    async with _application(url) as app:
        yield Producer(app)


async def setup(url: str) -> None:
    async with _application(url) as app:
        await app.setup()


def _application(url: str) -> Soniq:
    settings: dict[str, Any] = {} if url.startswith("sqlite") else {"pool_min_size": 1, "pool_max_size": 1}
    app = Soniq(database_url=url, **settings)
    app.job(name="noop")(noop)  # declared, so that its arguments are checked as an application's are
    return app
