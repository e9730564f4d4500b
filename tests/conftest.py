"""Fixtures that every test may use."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer


def pytest_configure() -> None:
    """Hear Ctrl-C, and let the programs under test hear it, even if a shell in the background has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server for this test process (each pytest-xdist worker has its own)."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """Name a migrated database that nobody is connected to."""
    from soniqd.backends.postgres import PostgresBackend

    async def migrate(url: str) -> None:
        backend = PostgresBackend(url)
        try:
            await backend.setup()
        finally:
            await backend.close()

    name = postgres_server.create_database("soniq_template")
    asyncio.run(migrate(postgres_server.url(name)))
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """Return the URL of a fresh, migrated database."""
    yield from _database(postgres_server, postgres_template)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a fresh database without any table."""
    yield from _database(postgres_server, None)


def _database(server: PostgresServer, template: str | None) -> Iterator[str]:
    name = server.create_database(template=template)
    try:
        yield server.url(name)
    finally:
        if not server.running:
            server.start()
        server.drop_database(name)
