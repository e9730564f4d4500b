"""The database's clock, read between two looks at it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from soniqd.backends.protocol import ScheduleStore

_FRESH_S = 15.0  # quartz clocks drift by less than 2 ms in that time


class DatabaseClock:
    """Follows the database's clock by the monotonic one; a step of the host's own clock does not matter."""

    def __init__(self, store: ScheduleStore) -> None:
        self._store = store
        self._seen: datetime | None = None
        self._seen_at = 0.0

    async def refresh(self) -> None:
        """Look at the database's clock unless that was done a moment ago."""
        started = time.monotonic()
        if self._seen is not None and started - self._seen_at < _FRESH_S:
            return
        seen = await self._store.now()
        ended = time.monotonic()
        self._seen, self._seen_at = seen, (started + ended) / 2

    def forget(self) -> None:
        """Look again next time: the database may be another server now."""
        self._seen = None

    def now(self) -> datetime:
        """Return the time; ``refresh`` must have been called."""
        assert self._seen is not None
        return self._seen + timedelta(seconds=time.monotonic() - self._seen_at)

    def until_s(self, instant: datetime) -> float:
        """Return the seconds until an instant, negative after it."""
        return (instant - self.now()).total_seconds()
