"""The stores that the suite runs over: every test of this folder runs once for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from soniqd.backends import StorageBackend
from tests.backends.conformance.builders import NewView


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def new_view(request: pytest.FixtureRequest, tmp_path: Path) -> NewView:
    """Return a maker of backends that all see one fresh, migrated store."""
    match request.param:
        case "memory":
            return _new_memory
        case "sqlite":
            return partial(_new_sqlite, tmp_path / "jobs.db")
        case _:
            return partial(_new_postgres, request.getfixturevalue("postgres_url"))


def _new_memory() -> StorageBackend:
    from soniqd.backends.memory import MemoryBackend

    return MemoryBackend()


def _new_sqlite(path: Path) -> StorageBackend:
    from soniqd.backends.sqlite import SQLiteBackend

    return SQLiteBackend(path)


def _new_postgres(url: str) -> StorageBackend:
    from soniqd.backends.postgres import PostgresBackend

    return PostgresBackend(url)


@pytest.fixture
async def backend(new_view: NewView) -> AsyncIterator[StorageBackend]:
    view = new_view()
    await view.open()
    yield view
    await view.close()


@pytest.fixture
async def second_backend(backend: StorageBackend, new_view: NewView) -> AsyncIterator[StorageBackend]:
    """Another connection's view of the same store."""
    if not backend.capabilities.multi_process:
        pytest.skip("a store of one process has no second view")
    view = new_view()
    await view.open()
    yield view
    await view.close()
