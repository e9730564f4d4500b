"""Copies of a worker, which a handler makes with os.fork() and which come back from it instead of leaving.

Such a copy shares the event loop's descriptors, the connections to the database and the link to the master with the
worker. If it went on, it would take the worker's events, write the outcome of its jobs a second time, and tick for it.

Forks are counted rather than process ids compared, which would ask the kernel for each job.
"""

from __future__ import annotations

import os

from soniqd.log import catalogue, emit
from soniqd.log.context import job_id_var

EXIT_CODE = 70

_forks = 0
"""How many forks this process is away from the one that imported this module."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603  a fact about the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Original:
    """Knows the process that it was made in."""

    def __init__(self) -> None:
        self._forks = _forks

    def insist(self) -> None:
        """End the process if it is a copy."""
        if _forks != self._forks:
            try:
                emit(catalogue.JOB_FORKED, job_id=job_id_var.get())
            finally:
                os._exit(EXIT_CODE)
