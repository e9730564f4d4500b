"""Dead letters in memory."""

from __future__ import annotations

from typing import Any

from soniqd.backends.memory.state import MemoryState, StoredJob
from soniqd.backends.records import dead_letter_record
from soniqd.backends.values import DeadLetterFilter
from soniqd.model import JobId, NewJob


class MemoryDeadLetters:
    """The protocol's DeadLetterStore over a :class:`MemoryState`."""

    _state: MemoryState

    async def list_dead_letters(self, where: DeadLetterFilter) -> list[dict[str, Any]]:
        found = [job for job in self._state.dead.values() if _matches(job, where)]
        found.sort(key=lambda job: (job.finished_at or 0.0, job.seq), reverse=True)
        return [_record(job) for job in found[where.offset : where.offset + where.limit]]

    async def get_dead_letter(self, job_id: JobId) -> dict[str, Any] | None:
        job = self._state.dead.get(job_id)
        return None if job is None else _record(job)

    async def replay_dead_letter(
        self,
        job_id: JobId,
        new_id: JobId,
        *,
        max_attempts: int | None = None,
        priority: int | None = None,
        queue: str | None = None,
    ) -> JobId | None:
        dead = self._state.dead.get(job_id)
        if dead is None:
            return None
        dead.resurrection_count += 1
        dead.last_resurrection_at = self._state.clock()
        fresh = NewJob(
            id=new_id,
            name=dead.job_name,
            args_json=dead.args,
            queue=dead.queue if queue is None else queue,
            priority=dead.priority if priority is None else priority,
            max_attempts=dead.max_attempts if max_attempts is None else max_attempts,
        )
        return self._state.store(fresh)[0]

    async def delete_dead_letter(self, job_id: JobId) -> bool:
        return self._state.dead.pop(job_id, None) is not None


def _matches(job: StoredJob, where: DeadLetterFilter) -> bool:
    moved_at = job.finished_at or 0.0
    return (
        (not where.job_names or job.job_name in where.job_names)
        and (not where.queues or job.queue in where.queues)
        and (not where.reasons or job.dead_letter_reason in where.reasons)
        and (where.since is None or moved_at >= where.since.timestamp())
        and (where.until is None or moved_at < where.until.timestamp())
        and (where.replayed is None or (job.resurrection_count > 0) == where.replayed)
    )


def _record(job: StoredJob) -> dict[str, Any]:
    row = job.row()
    return dead_letter_record(
        row
        | {
            "original_created_at": job.created_at,
            "moved_to_dead_letter_at": job.finished_at,
            "created_at": job.finished_at,
            "tags": None,
        }
    )
