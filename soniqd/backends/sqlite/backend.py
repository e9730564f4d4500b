"""The SQLite backend as a whole: its lifecycle, wake-ups and leadership."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soniqd.backends.protocol import Leadership, WakeUps
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.bell import Subscription
from soniqd.backends.sqlite.connection import check_schema, migrate, migration_status
from soniqd.backends.sqlite.dead_letters import SQLiteDeadLetters
from soniqd.backends.sqlite.insight import SQLiteInsight
from soniqd.backends.sqlite.jobs import SQLiteJobs
from soniqd.backends.sqlite.leadership import FileLock
from soniqd.backends.sqlite.schedules import SQLiteSchedules
from soniqd.backends.sqlite.transaction import Transaction
from soniqd.backends.values import Capabilities, MigrationStatus
from soniqd.errors import ConfigurationError, UnsupportedByBackendError

if TYPE_CHECKING:
    from soniqd.model.checkup import Checkup

_TABLES = (
    "soniq_jobs",
    "soniq_finished_jobs",
    "soniq_dead_letter_jobs",
    "soniq_task_registry",
    "soniq_workers",
    "soniq_queues",
    "soniq_recurring_jobs",
    "soniq_schedule_ticks",
)


class SQLiteBackend(SQLiteJobs, SQLiteInsight, SQLiteDeadLetters, SQLiteSchedules):
    """Jobs in one file of this host. ``clock`` gives seconds since the epoch.

    ``busy_timeout_s`` is how long a call waits for another process's lock before it gives up.
    """

    def __init__(
        self, path: str | Path, *, busy_timeout_s: float = 30.0, clock: Callable[[], float] = time.time
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise ConfigurationError(f"cannot use {str(path)!r} as an SQLite file: jobs in memory are 'memory://'")
        self._access = Access(Path(path).absolute(), busy_timeout_s=busy_timeout_s, clock=clock)
        self._busy_timeout_s = busy_timeout_s
        self._subscriptions: set[Subscription] = set()
        self._locks: set[FileLock] = set()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("sqlite", transactional_enqueue=False, multi_process=True, multi_host=False)

    @property
    def location(self) -> str:
        return str(self._access.path)

    async def open(self) -> None:
        await self._access.open()

    async def close(self) -> None:
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        for lock in self._locks:
            lock.release()
        self._locks.clear()
        await self._access.close()

    async def ping(self) -> None:
        await self._access.read(lambda db: db.execute("SELECT 1").fetchone())

    async def check_schema(self) -> None:
        await self._access.read(lambda db: check_schema(db, self._access.path))

    async def connection_limits(self) -> None: ...

    async def checkup(self) -> Checkup:
        from soniqd.backends.sqlite import checkup  # noqa: PLC0415 (no worker needs it)

        wake_ups = await self.subscribe()
        try:
            wakes = wake_ups.live
        finally:
            await wake_ups.close()
        path, busy_timeout_s = self._access.path, self._busy_timeout_s
        return await asyncio.to_thread(checkup.look, path, wakes=wakes, busy_timeout_s=busy_timeout_s)

    async def setup(self) -> MigrationStatus:
        is_new = not _has_content(self._access.path)
        await self._access.open()
        status = await self._access.write(lambda tx: migrate(tx.connection, now=tx.now))
        return replace(status, pending=status.applied, created=True) if is_new else status

    async def migration_status(self) -> MigrationStatus:
        return await self._access.read(migration_status)

    async def subscribe(self) -> WakeUps:
        subscription = Subscription(self._access.path, clock=self._access.now, on_close=self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    def leadership(self, name: str) -> Leadership:
        return _Leadership(self._access, self._locks, name)

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        raise UnsupportedByBackendError("cannot lend a connection: SQLite's belong to their threads")

    async def reset(self) -> None:
        await self._access.write(_delete_all)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _delete_all(tx: Transaction) -> None:
    for table in _TABLES:
        tx.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from the list above


class _Leadership:
    """A file lock, taken on the reader's thread."""

    def __init__(self, access: Access, locks: set[FileLock], name: str) -> None:
        self._access = access
        self._locks = locks
        self._lock = FileLock(access.path, name)

    async def acquire(self) -> bool:
        held = await self._access.read(lambda _: self._lock.acquire())
        if held:
            self._locks.add(self._lock)
        return held

    async def held(self, *, max_age_s: float = 0.0) -> bool:  # noqa: ARG002  a look at a file costs nothing
        return await self._access.read(lambda _: self._lock.held())

    async def release(self) -> None:
        self._locks.discard(self._lock)
        self._lock.release()
