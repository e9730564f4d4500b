"""Fixtures of the tests of single backends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from soniqd.backends.postgres import PostgresBackend


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    """Return an open backend over a fresh, migrated database."""
    backend = PostgresBackend(postgres_url)
    await backend.open()
    yield backend
    await backend.close()
