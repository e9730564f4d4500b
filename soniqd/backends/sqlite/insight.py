"""Questions of people, answered by the reader's thread at a bounded cost.

Queues, task names and priorities are found by one index probe each, up to a number, and what is counted is counted up
to a number, so that the cost does not grow with what is stored.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from soniqd.backends.records import from_epoch, read_defaults
from soniqd.backends.sqlite.inspection import SQLiteInspection, count_jobs, queue_stats, rows
from soniqd.backends.sqlite.leadership import FileLock
from soniqd.backends.sqlite.workers import SQLiteWorkers
from soniqd.backends.values import QueueRecord
from soniqd.model import Backlog, JobFacts, JobId, LeaderRecord, QueueBacklog, TaskDefaults, WorkerId
from soniqd.model.insight import COUNTED_TO, UNKNOWN_COUNTED_TO

_COUNTED = COUNTED_TO + 1
_MOST_QUEUES = 200
_MOST_NAMES = 1000
_MOST_UNKNOWN = 50
_MOST_PRIORITIES = 8
_MOST_FIRSTS = 16


class SQLiteInsight(SQLiteInspection, SQLiteWorkers):
    """The protocol's InsightStore."""

    async def backlog(self) -> Backlog:
        now = self._access.now()
        return await self._access.read(lambda db: _backlog(db, now))

    async def list_queues(self) -> list[QueueRecord]:
        now = self._access.now()
        return await self._access.read(lambda db: _list_queues(db, now))

    async def unclaimable_names(self, *, limit: int = 50) -> Mapping[str, int]:
        found = await self._access.read(lambda db: _unclaimable(db, _lanes(db, _queues(db)), _count_later(db)))
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit])

    async def job_facts(self, job_id: JobId) -> JobFacts | None:
        record = await self.get_job(job_id)
        if record is None:
            return None
        queue = record["queue"]
        paused, ahead, burial, knowers = await self._access.read(
            lambda db: (
                (queue,) in rows(db, "paused_queues"),
                _ahead(db, job_id),
                rows(db, "burial", (job_id,)),
                _knowers(db, record["job_name"]),
            )
        )
        now = from_epoch(self._access.now())
        assert now is not None
        reason, replayed = burial[0] if burial else (None, 0)
        return JobFacts(
            record=record,
            now=now,
            queue_paused=paused,
            ahead=ahead,
            workers=tuple(await self.list_workers()),
            knowers=frozenset(knowers),
            defaults=TaskDefaults.agreed(knowers.values()),
            dead_letter_reason=reason,
            replayed=replayed,
        )

    async def task_defaults(self, name: str, *, heard_within_s: float | None = None) -> TaskDefaults | None:
        since = 0.0 if heard_within_s is None else self._access.now() - heard_within_s
        knowers = await self._access.read(lambda db: _knowers(db, name, since))
        return TaskDefaults.agreed(knowers.values())

    async def known_tasks(self) -> frozenset[str]:
        return frozenset(await self._access.read(_known_tasks))

    async def leader(self, name: str) -> LeaderRecord | None:
        return await self._access.read(lambda _: FileLock(self._access.path, name).holder())


def _list_queues(db: sqlite3.Connection, now: float) -> list[QueueRecord]:
    counts = count_jobs(db)
    paused = {row[0] for row in rows(db, "paused_queues")}
    return [
        QueueRecord(
            name=queue,
            paused=queue in paused,
            stats=queue_stats(queue, counts.get(queue, Counter())),
            oldest_queued_s=_oldest_s(db, queue, now),
        )
        for queue in sorted({*counts, *paused})
    ]


def _oldest_s(db: sqlite3.Connection, queue: str, now: float) -> float | None:
    stored = [
        _one(db, "first_stored", queue, name, priority)
        for name in islice(_walk_names(db, queue), _MOST_NAMES)
        for priority in islice(_walk_priorities(db, queue, name), _MOST_PRIORITIES)
    ]
    return max(0.0, now - min(stored)) if stored else None


def _backlog(db: sqlite3.Connection, now: float) -> Backlog:
    paused = {row[0] for row in rows(db, "paused_queues")}
    held = Counter(dict(rows(db, "count_held")))
    walked = _queues(db)
    lanes = _lanes(db, walked)
    for_later = _count_later(db)
    unknown = _unclaimable(db, lanes, for_later)
    later: Counter[str] = Counter()
    for queue, _, count in for_later:
        later[queue] += count
    oldest: dict[str, float] = {}
    for queue, name in lanes:
        oldest[queue] = min(oldest.get(queue, now), _ready_since(db, queue, name, now))
    cut = later.total() > COUNTED_TO

    def one(queue: str) -> QueueBacklog:
        ready = _one(db, "count_ready", queue, _COUNTED) if queue in walked else 0
        return QueueBacklog(
            queue=queue,
            paused=queue in paused,
            ready=min(ready, COUNTED_TO),
            ready_more=ready > COUNTED_TO,
            later=min(later[queue], COUNTED_TO),
            later_more=cut,
            processing=held[queue],
            oldest_s=now - oldest[queue] if queue in oldest else None,
        )

    return Backlog(
        queues=tuple(one(queue) for queue in sorted({*walked, *later, *held, *paused})),
        unclaimable=dict(sorted(unknown.items())),
        complete=len(walked) < _MOST_QUEUES and len(lanes) < _MOST_NAMES and len(unknown) <= _MOST_UNKNOWN and not cut,
    )


def _queues(db: sqlite3.Connection) -> list[str]:
    return list(islice(_walk_queues(db), _MOST_QUEUES))


def _lanes(db: sqlite3.Connection, queues: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of queue and task name that have claimable jobs."""
    return [(queue, name) for queue in queues for name in islice(_walk_names(db, queue), _MOST_NAMES)][:_MOST_NAMES]


def _count_later(db: sqlite3.Connection) -> list[tuple[str, str, int]]:
    """Count the first jobs for later by queue and task name."""
    return rows(db, "count_later", (_COUNTED,))


def _unclaimable(
    db: sqlite3.Connection, lanes: list[tuple[str, str]], later: list[tuple[str, str, int]]
) -> dict[str, int]:
    """Count the jobs of task names that no live worker knows, as far as that is to be known."""
    known = _known_tasks(db)
    found: Counter[str] = Counter()
    for _, name, count in later:
        found[name] += 0 if name in known else count
    for queue, name in [lane for lane in lanes if lane[1] not in known][: _MOST_UNKNOWN + 1]:
        found[name] += _one(db, "count_lane", queue, name, UNKNOWN_COUNTED_TO)
    return {name: min(count, UNKNOWN_COUNTED_TO) for name, count in found.items() if count}


def _walk_queues(db: sqlite3.Connection) -> Iterator[str]:
    queue = _one(db, "first_queue")
    while queue is not None:
        yield queue
        queue = _one(db, "next_queue", queue)


def _walk_names(db: sqlite3.Connection, queue: str) -> Iterator[str]:
    name = _one(db, "first_name", queue)
    while name is not None:
        yield name
        name = _one(db, "next_name", queue, name)


def _walk_priorities(db: sqlite3.Connection, queue: str, name: str) -> Iterator[int]:
    priority = _one(db, "next_priority", queue, name, -(2**63))
    while priority is not None:
        yield priority
        priority = _one(db, "next_priority", queue, name, priority)


def _ready_since(db: sqlite3.Connection, queue: str, name: str, now: float) -> float:
    priorities = islice(_walk_priorities(db, queue, name), _MOST_PRIORITIES)
    since = (_one(db, "ready_since", queue, name, priority, _MOST_FIRSTS) for priority in priorities)
    return min((moment for moment in since if moment is not None), default=now)


def _ahead(db: sqlite3.Connection, job_id: str) -> int | None:
    """Count what is claimed first; of tasks that somebody knows: the others are in nobody's way."""
    found = rows(db, "position", (job_id,))
    if not found:
        return None
    queue, name, priority, seq = found[0]
    known = _known_tasks(db) | {name}
    ahead = 0
    for other in islice(_walk_names(db, queue), _MOST_NAMES):
        if other in known and ahead < _COUNTED:
            parameters = {"queue": queue, "job_name": other, "priority": priority, "seq": seq, "counted": _COUNTED}
            ahead += rows(db, "count_before", parameters)[0][0]
    return min(ahead, _COUNTED)


def _knowers(db: sqlite3.Connection, name: str, since: float = 0.0) -> dict[WorkerId, TaskDefaults | None]:
    return {WorkerId(worker_id): read_defaults(text) for worker_id, text in rows(db, "knowers", (name, since))}


def _known_tasks(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in rows(db, "known_names")}


def _one(db: sqlite3.Connection, name: str, *parameters: object) -> Any:
    """Return the only value that a statement answers."""
    return rows(db, name, parameters)[0][0]
