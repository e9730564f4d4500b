"""Where a worker notes what it does, for those who watch it, and for those who want to know after its death."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from soniqd.model import JobId


class Board(Protocol):
    """``begin`` comes before the first step of a job's own code, ``end`` after the last one, from the worker's loop."""

    def look(self) -> None:
        """Note that a claim was answered."""

    def begin(self, job_id: str) -> int | None:
        """Note a job; returns the place to name in ``end``."""

    def end(self, slot: int | None) -> None:
        """Clear the note."""


class NoBoard:
    """For workers that nobody watches."""

    def look(self) -> None:
        """Note nothing."""

    def begin(self, job_id: str) -> int | None:
        """Note nothing."""
        del job_id
        return None

    def end(self, slot: int | None) -> None:
        """Clear nothing."""


class InFlight(NamedTuple):
    """A job that has a slot of its worker, its task, and its place on the board once its code runs."""

    job_id: JobId
    name: str
    task: asyncio.Task[None] | None
    slot: int | None
