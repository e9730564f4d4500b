"""Which job a log line belongs to."""

from __future__ import annotations

from contextvars import ContextVar

job_id_var: ContextVar[str | None] = ContextVar("soniqd_job_id", default=None)
"""The job that runs here. The worker sets it in each job's own context, so that tasks, ``asyncio.to_thread`` and
handler threads (which run in a copy of that context) carry it, and other jobs of the same loop do not see it."""
