"""Looking for jobs where nobody can tell of them: behind a pooler in transaction mode, where LISTEN hears nothing.

One look finds each queue that has claimable jobs, by one index probe each, and when the next job for later is due. It
is repeated within a tenth of a second while something changes, and ever more rarely, once a second in the end, while
nothing does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.wakebox import WakeBox
from soniqd.errors import DatabaseError

_MOST_QUEUES = 200
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


class Poller:
    """Fills a box with what it finds, until closed; ``tell_due`` passes on the due time of the next job for later."""

    def __init__(self, database: Database, box: WakeBox, *, tell_due: Callable[[str], None]) -> None:
        self._database = database
        self._box = box
        self._tell_due = tell_due
        self._seen: list[tuple[object, ...]] = []
        self._task = asyncio.create_task(self._look_for_ever(), name="soniqd-poll")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while True:
            try:
                changed = await self._look()
            except DatabaseError:  # whoever claims reports that
                changed = False
            pause_s = _SHORTEST_PAUSE_S if changed else min(_LONGEST_PAUSE_S, pause_s * 2)
            await asyncio.sleep(pause_s)

    async def _look(self) -> bool:
        """Tell what is claimable, and return whether that is something else than the last time."""
        seen = await self._database.fetch(SQL["poll"], {"most_queues": _MOST_QUEUES}, repeat=True)
        changed, self._seen = seen != self._seen, seen
        for queue, due, *_ in seen:
            if queue is not None:
                self._box.add(queue)
            if changed and due is not None:
                self._tell_due(due)
        return changed
