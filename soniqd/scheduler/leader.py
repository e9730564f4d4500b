"""Being the one scheduler that fires."""

from __future__ import annotations

import contextlib

from soniqd.backends import Leadership
from soniqd.errors import DatabaseError
from soniqd.log import catalogue, emit


class Leader:
    """Leadership with its changes logged once each."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._leads = False

    @property
    def leads(self) -> bool:
        """As far as known: ``confirm`` asks the database."""
        return self._leads

    async def seek(self) -> bool:
        """Try to become leader, or to stay it, without waiting."""
        try:
            self._set(await self._leadership.acquire())
        except DatabaseError:  # the connection that held it is gone
            self._set(False)
            raise
        return self._leads

    async def confirm(self, *, max_age_s: float = 0.0) -> bool:
        """Check that nobody else can have become leader; a check no older than this is good enough."""
        self._set(self._leads and await self._leadership.held(max_age_s=max_age_s))
        return self._leads

    async def release(self) -> None:
        """Let another one take over at once."""
        with contextlib.suppress(DatabaseError):  # a connection that is gone holds nothing
            await self._leadership.release()
        self._leads = False

    def _set(self, leads: bool) -> None:  # noqa: FBT001  a setter
        if leads != self._leads:
            self._leads = leads
            emit(catalogue.SCHEDULER_LEADS if leads else catalogue.SCHEDULER_FOLLOWS)
