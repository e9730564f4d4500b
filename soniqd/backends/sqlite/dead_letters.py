"""Dead letters in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Any

from soniqd.backends.records import dead_letter_record
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.enqueueing import store_jobs
from soniqd.backends.sqlite.inspection import mappings
from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.backends.values import DeadLetterFilter
from soniqd.model import JobId, NewJob


class SQLiteDeadLetters:
    """The protocol's DeadLetterStore."""

    _access: Access

    async def list_dead_letters(self, where: DeadLetterFilter) -> list[dict[str, Any]]:
        return await self._access.read(lambda db: _find(db, where))

    async def get_dead_letter(self, job_id: JobId) -> dict[str, Any] | None:
        found = await self._access.read(lambda db: mappings(db, "dead_letter", (job_id,)))
        return dead_letter_record(found[0]) if found else None

    async def replay_dead_letter(
        self,
        job_id: JobId,
        new_id: JobId,
        *,
        max_attempts: int | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> JobId | None:
        changes = {"max_attempts": max_attempts, "priority": priority, "queue": queue}
        given = {key: value for key, value in changes.items() if value is not None}
        return await self._access.write(lambda tx: _replay(tx, job_id, new_id, given))

    async def delete_dead_letter(self, job_id: JobId) -> bool:
        return await self._access.write(lambda tx: tx.run("delete_dead_letter", (job_id,)).rowcount > 0)


_ONE_OF = (
    "job_name IN (SELECT value FROM json_each(?))",
    "queue IN (SELECT value FROM json_each(?))",
    "dead_letter_reason IN (SELECT value FROM json_each(?))",
)


def _find(db: sqlite3.Connection, where: DeadLetterFilter) -> list[dict[str, Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for condition, wanted in zip(_ONE_OF, (where.job_names, where.queues, where.reasons), strict=True):
        if wanted:
            conditions.append(condition)
            values.append(as_json(wanted))
    if where.since is not None:
        conditions.append("moved_to_dead_letter_at >= ?")
        values.append(where.since.timestamp())
    if where.until is not None:
        conditions.append("moved_to_dead_letter_at < ?")
        values.append(where.until.timestamp())
    if where.replayed is not None:
        conditions.append("(resurrection_count > 0) = ?")
        values.append(where.replayed)
    found = mappings(db, "find_dead_letters", [*values, where.limit, where.offset], where=conditions)
    return [dead_letter_record(row) for row in found]


def _replay(tx: Transaction, job_id: JobId, new_id: JobId, changes: dict[str, Any]) -> JobId | None:
    found = tx.run("to_replay", (job_id,)).fetchone()
    if found is None:
        return None
    name, args, queue, priority, max_attempts = found
    taken_over = {"queue": queue, "priority": priority, "max_attempts": max_attempts}
    [(stored_id, _)] = store_jobs(tx, [NewJob(id=new_id, name=name, args_json=args, **taken_over | changes)])
    tx.run("count_replay", (tx.now, job_id))
    return stored_id
