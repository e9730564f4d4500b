"""Copies of a worker, which a handler makes with os.fork() and which come back from it instead of leaving.

Such a copy shares the event loop's descriptors, the connections to the database and the link to the master with the
worker. If it went on, it would take the worker's events, write the outcome of its jobs a second time, and tick for it.
"""

from __future__ import annotations

import os

from soniqd.log import catalogue, emit
from soniqd.log.context import job_id_var

EXIT_CODE = 70


class Original:
    """Knows the process that it was made in."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def insist(self) -> None:
        """End the process if it is a copy."""
        if os.getpid() != self._pid:
            try:
                emit(catalogue.JOB_FORKED, job_id=job_id_var.get())
            finally:
                os._exit(EXIT_CODE)
