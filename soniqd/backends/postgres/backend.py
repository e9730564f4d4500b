"""The PostgreSQL backend as a whole: its lifecycle, and what is not about rows."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from soniqd.backends.postgres import migrate
from soniqd.backends.postgres.claim import PostgresClaim
from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.dead_letters import PostgresDeadLetters
from soniqd.backends.postgres.enqueue import PostgresEnqueue
from soniqd.backends.postgres.insight import PostgresInsight
from soniqd.backends.postgres.leadership import PostgresLeadership
from soniqd.backends.postgres.limits import read_limits
from soniqd.backends.postgres.outcome import PostgresOutcome
from soniqd.backends.postgres.schedules import PostgresSchedules
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.postgres.target import parse_target
from soniqd.backends.postgres.vacuum import POOL_FROM, PostgresVacuum
from soniqd.backends.postgres.wakeups import PostgresWakeUps
from soniqd.backends.protocol import Leadership, WakeUps
from soniqd.backends.values import Capabilities, MigrationStatus
from soniqd.model.limits import ServerLimits

if TYPE_CHECKING:
    from soniqd.model.checkup import Checkup


class PostgresBackend(
    PostgresEnqueue,
    PostgresClaim,
    PostgresOutcome,
    PostgresInsight,
    PostgresDeadLetters,
    PostgresSchedules,
    PostgresVacuum,
):
    """Jobs in PostgreSQL. It connects when it is first used, at the latest; ``open`` only says early what is wrong."""

    def __init__(
        self,
        url: str,
        *,
        pool_min_size: int = 1,
        pool_max_size: int = 20,
        connect_timeout_s: float = 5.0,
        statement_timeout_s: float = 30.0,
    ) -> None:
        self._database = Database(
            parse_target(url, connect_timeout_s=connect_timeout_s),
            min_size=pool_min_size,
            max_size=pool_max_size,
            connect_timeout_s=connect_timeout_s,
            statement_timeout_s=statement_timeout_s,
        )
        self._has_room_for_vacuum = pool_max_size >= POOL_FROM
        self._lookaheads = {}
        self._subscriptions: set[PostgresWakeUps] = set()
        self._leaderships: set[PostgresLeadership] = set()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("postgres", transactional_enqueue=True, multi_process=True, multi_host=True)

    @property
    def location(self) -> str:
        return self._database.target.location

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        for subscription in tuple(self._subscriptions):
            await subscription.close()
        for leadership in tuple(self._leaderships):
            await leadership.release()
        await self._stop_looking()
        await self._database.close()

    async def ping(self) -> None:
        await self._database.fetch(SQL["ping"], {}, repeat=True)

    async def check_schema(self) -> None:
        await migrate.check_schema(self._database)

    async def connection_limits(self) -> ServerLimits | None:
        async with self._database.lend() as connection:
            return await read_limits(connection)

    async def checkup(self) -> Checkup:
        from soniqd.backends.postgres import checkup  # noqa: PLC0415 (no worker needs it)

        await self.open()
        wake_ups = await self.subscribe()
        try:
            return await checkup.look(self._database, listening=wake_ups.live)
        finally:
            await wake_ups.close()

    async def setup(self) -> MigrationStatus:
        return await migrate.setup(self._database)

    async def migration_status(self) -> MigrationStatus:
        return await migrate.migration_status(self._database)

    async def subscribe(self) -> WakeUps:
        wake_ups = PostgresWakeUps(self._database, on_close=self._subscriptions.discard)
        self._subscriptions.add(wake_ups)
        await wake_ups.start()
        return wake_ups

    def leadership(self, name: str) -> Leadership:
        return PostgresLeadership(self._database, name, leading=self._leaderships)

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        return self._database.lend()

    async def reset(self) -> None:
        await self._database.fetch(SQL["reset"], {})
