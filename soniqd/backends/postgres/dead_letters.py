"""Jobs that failed for good."""

from __future__ import annotations

from typing import Any

from psycopg import errors

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.records import dead_letter_record
from soniqd.backends.values import DeadLetterFilter
from soniqd.errors import DatabaseError
from soniqd.model import JobId


class PostgresDeadLetters:
    """The protocol's DeadLetterStore."""

    _database: Database

    async def list_dead_letters(self, where: DeadLetterFilter) -> list[dict[str, Any]]:
        parameters = {
            "job_names": list(where.job_names),
            "queues": list(where.queues),
            "reasons": list(where.reasons),
            "since": where.since,
            "until": where.until,
            "replayed": where.replayed,
            "limit": where.limit,
            "offset": where.offset,
        }
        return [dead_letter_record(row) for row in await self._database.examine(SQL["list_dead_letters"], parameters)]

    async def get_dead_letter(self, job_id: JobId) -> dict[str, Any] | None:
        rows = await self._database.fetch(SQL["get_dead_letter"], {"id": job_id}, rows="dict", repeat=True)
        return dead_letter_record(rows[0]) if rows else None

    async def replay_dead_letter(
        self,
        job_id: JobId,
        new_id: JobId,
        *,
        max_attempts: int | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> JobId | None:
        parameters = {
            "id": job_id,
            "new_id": new_id,
            "max_attempts": max_attempts,
            "priority": priority,
            "queue": queue,
        }
        try:
            rows = await self._database.fetch(SQL["replay_dead_letter"], parameters)
        except DatabaseError as error:
            # The caller tries again after a lost connection, and the first try had arrived.
            if isinstance(error.__cause__, errors.UniqueViolation):
                return new_id
            raise
        return new_id if rows else None

    async def delete_dead_letter(self, job_id: JobId) -> bool:
        return bool(await self._database.fetch(SQL["delete_dead_letter"], {"id": job_id}))
