"""What all parts of a worker know about the database being away."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.worker.bell import Bell

_SHORTEST_S = 0.05
_SHARE = 0.3


class Outage:
    """Whether the database answers, and when to try again if not.

    The pauses grow with the outage itself, from 50 ms to ``longest_s``, each shortened by up to a half at random so
    that a fleet does not come back in step. Whoever reaches the database ends the pauses of all others.

    Where outcomes cannot be written, only one that is written ends the outage: on a full disk, claims that find nothing
    to take succeed all the time.
    """

    def __init__(self, *, worker_id: str, on_change: Callable[[], None], longest_s: float = 1.0) -> None:
        self._worker_id = worker_id
        self._on_change = on_change
        self._longest_s = longest_s
        self._since: float | None = None
        self._of_writes = False
        self._bells: set[Bell] = set()

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def lost(self, error: BaseException, *, writing: bool = False) -> None:
        """Note that a call failed, ``writing`` if it writes in any case; the first of an outage is logged."""
        self._of_writes |= writing
        if self._since is None:
            self._since = time.monotonic()
            emit(
                catalogue.WORKER_DATABASE_LOST,
                worker_id=self._worker_id,
                error=redact(f"{type(error).__name__}: {error}"),
            )
            self._on_change()

    def back(self, *, writing: bool) -> None:
        """Note that a call succeeded."""
        if self._since is None:
            return
        if self._of_writes and not writing:
            self.retry_now()
            return
        emit(catalogue.WORKER_DATABASE_BACK, worker_id=self._worker_id, outage_s=time.monotonic() - self._since)
        self._since, self._of_writes = None, False
        self.retry_now()
        self._on_change()

    def retry_now(self) -> None:
        """End all pauses: there is reason to believe that the database is back, or no time left to wait."""
        for bell in self._bells:
            bell.ring()

    async def pause(self) -> None:
        """Wait before the next try."""
        if self._since is None:
            return
        bell = Bell()
        self._bells.add(bell)
        try:
            await bell.wait(self._pause_s(time.monotonic() - self._since))
        finally:
            self._bells.discard(bell)

    def _pause_s(self, outage_s: float) -> float:
        spread = 0.5 + random.random() / 2  # noqa: S311  spreads load only
        return max(_SHORTEST_S, min(self._longest_s, outage_s * _SHARE)) * spread
