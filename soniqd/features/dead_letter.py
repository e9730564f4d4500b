"""Jobs that failed for good: look at them, run them again, delete them. This is ``app.dead_letter``.

A replay stores a fresh job made from the dead letter, under a new id and with all its attempts before it. The dead
letter stays, with one more in ``resurrection_count``; delete it when it is of no more use. Nothing here needs the
task to be declared in this process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from soniqd.backends import DeadLetterFilter, StorageBackend
from soniqd.errors import InvalidArgumentsError
from soniqd.queue import values
from soniqd.queue.ids import new_job_id, parse_job_id

OpenBackend = Callable[[], Awaitable[StorageBackend]]

Rows = list[dict[str, Any]]

_PAGE = 1000


class Where(TypedDict, total=False):
    """Narrows dead letters. ``since`` and ``until`` bound the time at which they became one."""

    job_name: str | None
    queue: str | None
    reason: str | None
    since: datetime | None
    until: datetime | None
    replayed: bool | None


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay of several did: ``matched`` ids, ``replayed`` from old to new id, and ids that do not exist."""

    matched: tuple[str, ...]
    replayed: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


class DeadLetters:
    """The dead letters of one application's database."""

    def __init__(self, backend: OpenBackend) -> None:
        self._open = backend

    async def list(self, *, limit: int = 100, offset: int = 0, **where: Unpack[Where]) -> Rows:
        """Return dead letters, newest first."""
        narrowed = _filter(where, limit=limit, offset=offset)
        return await (await self._open()).list_dead_letters(narrowed)

    list_jobs = list  # noqa: A003  the class's own method of that name, not the builtin

    async def get(self, job_id: str | UUID) -> dict[str, Any] | None:
        """Return one dead letter, or None."""
        parsed = parse_job_id(job_id)
        return None if parsed is None else await (await self._open()).get_dead_letter(parsed)

    async def replay(
        self,
        job_id: str | UUID,
        *,
        max_attempts: int | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> str | None:
        """Run one again, otherwise than before where told so; return the new job's id, None if there is no such one."""
        parsed = parse_job_id(job_id)
        overrides = _overrides(max_attempts, priority, queue)
        if parsed is None:
            return None
        return await (await self._open()).replay_dead_letter(parsed, new_job_id(), **overrides)

    async def replay_many(
        self,
        job_ids: Iterable[str | UUID],
        *,
        dry_run: bool = False,
        max_attempts: int | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> ReplayReport:
        """Run several again; a dry run only tells which of them exist."""
        overrides = _overrides(max_attempts, priority, queue)
        backend = await self._open()
        report = _Tally()
        for job_id in dict.fromkeys(str(job_id) for job_id in job_ids):
            parsed = parse_job_id(job_id)
            if parsed is None:
                report.missing.append(job_id)
            elif dry_run:
                (report.matched if await backend.get_dead_letter(parsed) else report.missing).append(job_id)
            else:
                report.count(job_id, await backend.replay_dead_letter(parsed, new_job_id(), **overrides))
        return ReplayReport(tuple(report.matched), report.replayed, tuple(report.missing))

    async def replay_all(self, *, dry_run: bool = False, **where: Unpack[Where]) -> ReplayReport:
        """Run all that match again, oldest first; with ``replayed=False`` only those that never were."""
        return await self.replay_many(await self._matching(where), dry_run=dry_run)

    async def delete(self, job_id: str | UUID) -> bool:
        """Delete one; return whether there was one."""
        parsed = parse_job_id(job_id)
        return parsed is not None and await (await self._open()).delete_dead_letter(parsed)

    async def _matching(self, where: Where) -> Iterable[str]:
        """Collect all ids before anything is replayed, since that changes what matches."""
        backend = await self._open()
        ids: dict[str, None] = {}
        offset = 0
        while True:
            page = await backend.list_dead_letters(_filter(where, limit=_PAGE, offset=offset))
            ids.update((str(row["id"]), None) for row in page)
            if len(page) < _PAGE:
                return reversed(ids)
            offset += _PAGE


@dataclass(slots=True)
class _Tally:
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    replayed: dict[str, str] = field(default_factory=dict)

    def count(self, job_id: str, new_id: str | None) -> None:
        if new_id is None:
            self.missing.append(job_id)
        else:
            self.matched.append(job_id)
            self.replayed[job_id] = new_id


def _filter(where: Where, *, limit: int, offset: int) -> DeadLetterFilter:
    unknown = where.keys() - Where.__annotations__.keys()
    if unknown:
        raise InvalidArgumentsError(f"cannot list dead letters by {', '.join(sorted(unknown))}")
    job_name, queue, reason = where.get("job_name"), where.get("queue"), where.get("reason")
    try:
        return DeadLetterFilter(
            job_names=() if job_name is None else (job_name,),
            queues=() if queue is None else (queue,),
            reasons=() if reason is None else (reason,),
            since=values.instant("since", where.get("since")),
            until=values.instant("until", where.get("until")),
            replayed=where.get("replayed"),
            limit=values.count("limit", limit),
            offset=values.count("offset", offset),
        )
    except ValueError as error:
        raise InvalidArgumentsError(f"cannot list dead letters: {error}") from error


def _overrides(max_attempts: int | None, priority: int | None, queue: str | None) -> dict[str, Any]:
    try:
        return {
            "max_attempts": None if max_attempts is None else values.count("max_attempts", max_attempts, least=1),
            "priority": None if priority is None else values.priority(priority),
            "queue": None if queue is None else values.queue_name(queue),
        }
    except ValueError as error:
        raise InvalidArgumentsError(f"cannot replay: {error}") from error
