"""The duty to remove dead rows, for a master and for a worker that has none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from soniqd.backends.protocol import StorageBackend
from soniqd.errors import DatabaseUnavailableError, SoniqError
from soniqd.log import Event, catalogue, emit
from soniqd.log.redact import redact
from soniqd.model.wear import TableWear
from soniqd.policy.vacuuming import VacuumWatch


class Vacuuming:
    """``ended`` counts the jobs that have ended on this host, ever."""

    def __init__(self, backend: StorageBackend, *, ended: Callable[[], int]) -> None:
        self._backend = backend
        self._ended = ended
        self._watch = VacuumWatch()
        self._concerned = True
        self._complaint: Event | None = None

    @property
    def wants_look(self) -> bool:
        """Whether something may have to be done; asked for nothing, of nobody."""
        return self._concerned and self._watch.wants_look(ended=self._ended(), now_s=time.monotonic())

    async def look(self) -> None:
        """Look at the dead rows, and remove them if that is worth it.

        Raises what the look raises, and DatabaseUnavailableError; any other failure to remove them is told here.
        """
        wear = await self._backend.wear()
        if wear is None:
            self._concerned = False
        elif self._watch.looked(wear, ended=self._ended(), now_s=time.monotonic()):
            await self._vacuum(wear)

    async def _vacuum(self, before: TableWear) -> None:
        if not before.may_vacuum:
            self._watch.not_permitted(now_s=time.monotonic())
            self._complain(catalogue.VACUUM_NOT_PERMITTED, dead_rows=before.dead_rows)
            return
        began_s = time.monotonic()
        try:
            done = await self._backend.vacuum()
            took_s = time.monotonic() - began_s
            after = await self._backend.wear()
        except SoniqError as error:
            self._watch.failed(now_s=time.monotonic())
            if isinstance(error, DatabaseUnavailableError):
                raise
            self._complain(catalogue.VACUUM_FAILED, error=redact(str(error)))  # jobs run all the same
            return
        self._complaint = None
        if not done or after is None:
            self._watch.was_busy(now_s=time.monotonic())
            return
        self._watch.vacuumed(before, after, took_s=took_s, now_s=time.monotonic())
        removed = max(0, before.dead_rows - after.dead_rows)
        emit(catalogue.VACUUMED, removed=removed, left=after.dead_rows, took_s=took_s)

    def _complain(self, event: Event, **fields: Any) -> None:
        """Say it once, until a vacuum has gone well or there is something else to say."""
        if event is not self._complaint:
            self._complaint = event
            emit(event, **fields)
