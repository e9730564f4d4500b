"""Names that exist, for those who mistyped one: asked for only where something was not found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from soniqd.backends import DeadLetterFilter, JobFilter, StorageBackend
from soniqd.cli.session import Session
from soniqd.errors import SoniqError
from soniqd.model import JobId
from soniqd.settings.problems import did_you_mean

_LOOKED_AT = 500
"""The newest so many jobs, and dead letters."""
_HINTED = 5
"""For so many ids that are not there at most, those that may be meant are looked for."""
_SAME_ID = 0.94
"""Two ids alike by so much differ in two places at most; those of jobs that were stored together are less alike."""
_DAEMON_PATIENCE_S = 1.0


async def similar_job(backend: StorageBackend, job_id: JobId) -> str:
    """Return "; did you mean ...?" for the id of a job that does not exist, or nothing."""
    return (await similar_jobs(backend, [job_id]))[job_id]


async def similar_jobs(backend: StorageBackend, job_ids: Sequence[JobId]) -> dict[JobId, str]:
    """As :func:`similar_job`, for several; beyond the first few there is nothing."""
    return _similar(job_ids, await backend.list_jobs(JobFilter(limit=_LOOKED_AT)))


async def similar_dead_letters(backend: StorageBackend, job_ids: Sequence[JobId]) -> dict[JobId, str]:
    """As :func:`similar_jobs`, among the dead letters."""
    return _similar(job_ids, await backend.list_dead_letters(DeadLetterFilter(limit=_LOOKED_AT)))


def _similar(job_ids: Sequence[JobId], rows: Iterable[Mapping[str, Any]]) -> dict[JobId, str]:
    there = [str(row["id"]) for row in rows]
    hints = {job_id: did_you_mean(job_id, there, likeness=_SAME_ID) for job_id in job_ids[:_HINTED]}
    return {job_id: hints.get(job_id, "") for job_id in job_ids}


async def mistyped_filters(backend: StorageBackend, where: DeadLetterFilter) -> list[str]:
    """Say which names of a filter that found nothing are perhaps those of dead letters that there are."""
    letters = await backend.list_dead_letters(DeadLetterFilter(limit=_LOOKED_AT))
    asked = (("job_name", where.job_names), ("queue", where.queues), ("dead_letter_reason", where.reasons))
    there = {column: {str(letter[column]) for letter in letters} for column, _ in asked}
    hints = ((name, did_you_mean(name, there[column] - {name})) for column, names in asked for name in names)
    return [f"there is no dead letter of {name}{hint}" for name, hint in hints if hint]


async def similar_schedule(backend: StorageBackend, name: str) -> str:
    """Return "; did you mean ...?" for a schedule that does not exist, or nothing."""
    return did_you_mean(name, [record.spec.name for record in await backend.list_schedules()])


async def queues_known(backend: StorageBackend) -> set[str]:
    """Return the queues that hold something, are paused, are served by name, or that a recurring job goes to."""
    served = chain.from_iterable(worker.queues for worker in await backend.list_workers())
    scheduled = (record.spec.queue for record in await backend.list_schedules())
    return {"default", *(record.name for record in await backend.list_queues()), *served, *scheduled}


async def similar_task(backend: StorageBackend, name: str, daemons: Iterable[str]) -> str:
    """Return "; did you mean ...?" for a task that nobody knows: one of the daemon's, or that workers know."""
    known = {*daemons, *await backend.known_tasks()}
    return "" if name in known else did_you_mean(name, known)


def daemons_tasks(session: Session) -> tuple[str, ...]:
    """Return the tasks that the daemon here has imported; none if there is no daemon to be asked."""
    if session.config_path is None and not session.socket_named:
        return ()
    try:
        return tuple(map(str, session.daemon().call("tasks", timeout_s=_DAEMON_PATIENCE_S).get("tasks", ())))
    except SoniqError:
        return ()
