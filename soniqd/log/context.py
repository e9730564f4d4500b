"""Which job a log line belongs to."""

from __future__ import annotations

from contextvars import ContextVar

job_id_var: ContextVar[str | None] = ContextVar("soniqd_job_id", default=None)
"""The job that runs here. The worker sets it in each job's own context, so that tasks, ``asyncio.to_thread`` and
handler threads (which run in a copy of that context) carry it, and other jobs of the same loop do not see it."""

started_by_var: ContextVar[str | None] = ContextVar("soniqd_started_by", default=None)
"""The job that started this thread (see :mod:`soniqd.log.threads`). It may have ended: threads that a library keeps
for itself outlive the job that happened to be the first to need them."""

_running: set[str] = set()


def begin_job(job_id: str) -> None:
    """Let what is logged in this context, and in threads that it starts, belong to a job."""
    job_id_var.set(job_id)
    _running.add(job_id)


def end_job(job_id: str) -> None:
    """Let threads that a job started, and left running, be nobody's."""
    _running.discard(job_id)


def current_job_id() -> str | None:
    """Return the job to which what is logged now belongs."""
    job_id = job_id_var.get()
    if job_id is None and (starter := started_by_var.get()) in _running:
        return starter
    return job_id
