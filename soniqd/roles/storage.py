"""A child's way to its database: it waits for as long as it takes, and says so once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from soniqd.backends import StorageBackend
from soniqd.backends.factory import create_backend
from soniqd.errors import DatabaseError, SchemaError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model.child import ChildSpec
from soniqd.policy.connections import SCHEDULER_CONNECTIONS, SCHEDULER_POOL
from soniqd.settings.daemon import DatabaseTable

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


def make_backend(database: DatabaseTable, *, pool_max_size: int | None = None) -> StorageBackend:
    """Make the backend of the daemon's settings, not yet open."""
    most = database.pool_max_size if pool_max_size is None else pool_max_size
    return create_backend(
        database.url,
        pool_min_size=min(database.pool_min_size, most),
        pool_max_size=most,
        connect_timeout_s=database.connect_timeout,
        statement_timeout_s=database.statement_timeout,
    )


def pool_size(spec: ChildSpec) -> int | None:
    """Return how large the pool of a child may be, so that all of its connections are as many as it counts with."""
    if not spec.connections:
        return None
    beside_the_pool = SCHEDULER_CONNECTIONS - SCHEDULER_POOL if spec.role == "scheduler" else 0
    return spec.connections - beside_the_pool


async def open_patiently(backend: StorageBackend, *, slot: str, on_waiting: Callable[[], None]) -> None:
    """Open a backend whose schema is this release's, however long that takes.

    A database that is away, not set up yet, or broken is somebody's to repair; leaving would only make the master start
    the next child into the same.
    """
    said: type[Exception] | None = None
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            await backend.open()
            await backend.check_schema()
        except DatabaseError as error:
            if type(error) is not said:
                said = type(error)
                event = catalogue.SCHEMA_UNUSABLE if isinstance(error, SchemaError) else catalogue.DATABASE_AWAITED
                emit(event, slot=slot, error=redact(str(error)))
            on_waiting()
        else:
            return
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  spreads load only
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
