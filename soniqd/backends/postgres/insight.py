"""Questions of people, each answered at a bounded cost (see sql/insight.sql)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.inspect import PostgresInspect
from soniqd.backends.postgres.leadership import advisory_key, read_leader_name
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.postgres.workers import PostgresWorkers
from soniqd.backends.records import read_defaults
from soniqd.model import Backlog, JobFacts, JobId, LeaderRecord, QueueBacklog, TaskDefaults, WorkerId
from soniqd.model.insight import COUNTED_TO, UNKNOWN_COUNTED_TO

_BOUNDS: Mapping[str, Any] = {
    "counted": COUNTED_TO + 1,
    "most_queues": 200,
    "most_lanes": 1000,
    "most_priorities": 8,
    "most_firsts": 16,
}
_MOST_UNKNOWN = 50
"""How many pairs of a queue and a task that nobody knows are counted."""


class PostgresInsight(PostgresInspect, PostgresWorkers):
    """The protocol's InsightStore."""

    _database: Database

    async def backlog(self) -> Backlog:
        ready = Counter(dict(await self._ask("count_ready")))
        heads = await self._ask("look_at_heads")
        later = await self._ask("count_later")
        held = Counter(dict(await self._ask("count_held")))
        paused = {row[0] for row in await self._database.fetch(SQL["paused_queues"], {}, repeat=True)}
        unknown = [(queue, name) for queue, name, known, _ in heads if not known]
        later_of = _sums((queue, count) for queue, _, _, count in later)
        cut = later_of.total() > COUNTED_TO
        oldest = _oldest(heads)
        queues = sorted({*ready, *later_of, *held, *paused})
        return Backlog(
            queues=tuple(
                QueueBacklog(
                    queue=queue,
                    paused=queue in paused,
                    ready=min(ready[queue], COUNTED_TO),
                    ready_more=ready[queue] > COUNTED_TO,
                    later=min(later_of[queue], COUNTED_TO),
                    later_more=cut,
                    processing=held[queue],
                    oldest_s=oldest.get(queue),
                )
                for queue in queues
            ),
            unclaimable=await self._unclaimable(unknown, later),
            complete=(
                len(ready) < _BOUNDS["most_queues"]
                and len(heads) < _BOUNDS["most_lanes"]
                and len(unknown) <= _MOST_UNKNOWN
                and not cut
            ),
        )

    async def unclaimable_names(self, *, limit: int = 50) -> Mapping[str, int]:
        heads, later = await self._ask("look_at_heads"), await self._ask("count_later")
        found = await self._unclaimable([(queue, name) for queue, name, known, _ in heads if not known], later)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:limit])

    async def job_facts(self, job_id: JobId) -> JobFacts | None:
        record = await self.get_job(job_id)
        if record is None:
            return None
        parameters = {"id": job_id, "queue": record["queue"]}
        [seen] = await self._database.fetch(SQL["circumstances"], parameters, rows="dict", repeat=True)
        ahead = await self._database.fetch(SQL["count_ahead"], {"id": job_id, **_BOUNDS}, repeat=True)
        knowers = await self._knowers(record["job_name"])
        return JobFacts(
            record=record,
            now=seen["now"],
            queue_paused=seen["queue_paused"],
            ahead=ahead[0][0] if ahead else None,
            workers=tuple(await self.list_workers()),
            knowers=frozenset(knowers),
            defaults=TaskDefaults.agreed(knowers.values()),
            dead_letter_reason=seen["dead_letter_reason"],
            replayed=seen["resurrection_count"] or 0,
        )

    async def task_defaults(self, name: str, *, heard_within_s: float | None = None) -> TaskDefaults | None:
        return TaskDefaults.agreed((await self._knowers(name, heard_within_s)).values())

    async def known_tasks(self) -> frozenset[str]:
        return frozenset(name for (name,) in await self._database.fetch(SQL["known_tasks"], {}, repeat=True))

    async def leader(self, name: str) -> LeaderRecord | None:
        rows = await self._database.fetch(SQL["leader"], {"key": advisory_key(f"leadership:{name}")}, repeat=True)
        return read_leader_name(*rows[0]) if rows else None

    async def _ask(self, name: str) -> list[Any]:
        return await self._database.fetch(SQL[name], _BOUNDS, repeat=True)

    async def _knowers(self, name: str, heard_within_s: float | None = None) -> dict[WorkerId, TaskDefaults | None]:
        """Return who knows a task, the newest first, with what they say about it."""
        parameters = {"name": name, "heard_within_s": heard_within_s}
        rows = await self._database.fetch(SQL["knowers"], parameters, repeat=True)
        return {WorkerId(worker_id): read_defaults(text) for worker_id, text in rows}

    async def _unclaimable(self, lanes: list[tuple[str, str]], later: list[Any]) -> dict[str, int]:
        found = _sums((name, count) for _, name, known, count in later if not known)
        lanes = lanes[:_MOST_UNKNOWN]
        if lanes:
            parameters = {"queues": [queue for queue, _ in lanes], "names": [name for _, name in lanes]}
            bound = {"counted": UNKNOWN_COUNTED_TO}
            found += _sums(await self._database.fetch(SQL["count_lanes"], {**parameters, **bound}, repeat=True))
        return {name: min(found[name], UNKNOWN_COUNTED_TO) for name in sorted(found)}


def _sums(pairs: Iterable[tuple[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for key, count in pairs:
        sums[key] += count
    return sums


def _oldest(heads: Iterable[tuple[str, str, bool, float | None]]) -> dict[str, float]:
    oldest: dict[str, float] = {}
    for queue, _, _, age_s in heads:
        oldest[queue] = max(oldest.get(queue, 0.0), age_s or 0.0)
    return oldest
