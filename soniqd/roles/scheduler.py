"""The scheduler role."""

from __future__ import annotations

from soniqd.backends import StorageBackend
from soniqd.roles.jobs import LoadedJobs
from soniqd.scheduler.scheduler import Scheduler


def make_scheduler(jobs: LoadedJobs, backend: StorageBackend) -> Scheduler:
    """Make the scheduler of this process, with what the applications declare."""
    return Scheduler(backend=backend, specs=jobs.schedules)
