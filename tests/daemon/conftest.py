"""Fixtures of the tests with a whole daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from soniqd import Soniq
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, migrated database of either kind that several processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Soniq]:
    """A producer, and a view on the jobs, from outside the daemon."""
    async with Soniq(database_url=database_url, enqueue_validation="none", pool_min_size=1) as producer:
        yield producer


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that belongs to one test, which may stop and kill it; its database ``postgres`` is empty."""
    server = PostgresServer()
    server.start()
    try:
        yield server
    finally:
        server.close()
