"""Jobs and queues, looked at and steered."""

from __future__ import annotations

from typing import Any, TypeVar, overload
from uuid import UUID

from soniqd.app.core import AppCore
from soniqd.backends import JobFilter, QueueRecord
from soniqd.errors import InvalidArgumentsError
from soniqd.model import JobRecord, JobStatus, QueueStats
from soniqd.queue import values
from soniqd.queue.ids import parse_job_id

T = TypeVar("T")


class Inspecting(AppCore):
    """Thin methods over the backend. An id that no job can have is like an id that no job has."""

    async def get_job(self, job_id: str | UUID) -> JobRecord | None:
        """Return all about a job, wherever it is by now, or None."""
        parsed = parse_job_id(job_id)
        return None if parsed is None else await (await self._lifecycle.open()).get_job(parsed)

    @overload
    async def get_result(self, job_id: str | UUID) -> Any: ...

    @overload
    async def get_result(self, job_id: str | UUID, *, result_model: type[T]) -> T | None: ...

    async def get_result(self, job_id: str | UUID, *, result_model: type[Any] | None = None) -> Any:
        """Return what a finished job's handler returned, None if it has not finished (or is not kept any more).

        ``result_model`` is any type that pydantic can validate; its ValidationError is raised where it cannot.
        """
        job = await self.get_job(job_id)
        if job is None or job["status"] != JobStatus.DONE or job["result"] is None:
            return None
        if result_model is None:
            return job["result"]
        from pydantic import TypeAdapter  # noqa: PLC0415  only those who ask for a model pay for building it

        return TypeAdapter(result_model).validate_python(job["result"])

    async def cancel_job(self, job_id: str | UUID) -> bool:
        """Cancel a queued job; False for one that is running, finished or unknown."""
        parsed = parse_job_id(job_id)
        return parsed is not None and await (await self._lifecycle.open()).cancel_job(parsed) == "cancelled"

    async def delete_job(self, job_id: str | UUID) -> bool:
        """Delete a job that is not running, its dead letter included; return whether there was one."""
        parsed = parse_job_id(job_id)
        return parsed is not None and await (await self._lifecycle.open()).delete_job(parsed)

    async def list_jobs(
        self,
        queue: str | None = None,
        status: str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        name: str | None = None,
    ) -> list[JobRecord]:
        """Return jobs, newest first; ``name`` is a task's."""
        try:
            where = JobFilter(
                queue=queue,
                status=None if status is None else _status(status),
                name=name,
                limit=values.count("limit", limit),
                offset=values.count("offset", offset),
            )
        except ValueError as error:
            raise InvalidArgumentsError(f"cannot list jobs: {error}") from error
        return await (await self._lifecycle.open()).list_jobs(where)

    async def get_queue_stats(self) -> list[QueueStats]:
        """Return the counts of each queue's jobs, sorted by queue; on PostgreSQL, above 100,000 they are estimates."""
        return await (await self._lifecycle.open()).queue_stats()

    async def list_queues(self) -> list[QueueRecord]:
        """Return each queue with its counts, whether it is paused, and the age of its oldest waiting job."""
        return await (await self._lifecycle.open()).list_queues()

    async def pause_queue(self, queue: str) -> bool:
        """Keep all workers from taking jobs out of a queue; return whether that changed anything."""
        return await self._set_paused(queue, paused=True)

    async def resume_queue(self, queue: str) -> bool:
        """End the pause of a queue; return whether that changed anything."""
        return await self._set_paused(queue, paused=False)

    async def _set_paused(self, queue: str, *, paused: bool) -> bool:
        try:
            values.queue_name(queue)
        except ValueError as error:
            raise InvalidArgumentsError(f"cannot {'pause' if paused else 'resume'} a queue: {error}") from error
        return await (await self._lifecycle.open()).set_queue_paused(queue, paused=paused)


def _status(value: Any) -> str:
    try:
        return JobStatus(value).value
    except ValueError:
        raise ValueError(f"status must be one of {', '.join(JobStatus)}, not {value!r}") from None
