"""What the budgets are measured with: a server that nobody else uses, and the file with the most of everything."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from soniqd.backends.postgres import PostgresBackend
from tests.budgets.wire import Wire
from tests.support.postgres import PostgresServer

BUDGETS = tomllib.loads((Path(__file__).parent / "budgets.toml").read_text())

Holds = Callable[[str, float], None]


@pytest.fixture
def holds() -> Holds:
    """Return what compares a measured count with its budget, by "table.name"."""

    def check(name: str, measured: float) -> None:
        table, key = name.split(".")
        most, least = BUDGETS[table][key]
        print(f"{name} = {measured:.3f}")  # shown by pytest -rP
        assert measured <= most, f"{name} is {measured:.2f}, and may be {most} at most"
        assert measured >= least, f"{name} is {measured:.2f}, better than {least}: tighten its budget"

    return check


@pytest.fixture(scope="package")
def quiet_server() -> Iterator[PostgresServer]:
    """Start a server that writes for us alone: autovacuum is off."""
    server = PostgresServer()
    try:
        if not (server.binaries / "pg_waldump").exists():
            pytest.skip("pg_waldump is not installed with this PostgreSQL")
        server.start()
        server.execute("ALTER SYSTEM SET autovacuum = off")
        server.restart()
        yield server
    finally:
        server.close()


@pytest.fixture
async def wire(quiet_server: PostgresServer) -> AsyncIterator[Wire]:
    """Return the ears on the way to a fresh, migrated database."""
    name = quiet_server.create_database()
    backend = PostgresBackend(quiet_server.url(name))
    await backend.setup()
    await backend.close()
    async with Wire(quiet_server.url(name)) as wire:
        yield wire
    quiet_server.drop_database(name)


@pytest.fixture
async def store(wire: Wire) -> AsyncIterator[PostgresBackend]:
    """Return a backend with one connection, which is heard by ``wire``."""
    backend = PostgresBackend(wire.url, pool_max_size=1)
    await backend.open()
    yield backend
    await backend.close()
