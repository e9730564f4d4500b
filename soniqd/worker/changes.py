"""Telling that something changed, in moderation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_PAUSE_S = 0.05


class Changes:
    """Tells about a change at once, and then about all that follow within a moment together.

    ``listener`` returns whom to tell, None: nobody.
    """

    def __init__(self, listener: Callable[[], Callable[[], None] | None]) -> None:
        self._listener = listener
        self._timer: asyncio.TimerHandle | None = None
        self._again = False

    def note(self) -> None:
        """Take a change; called for every job, so it does next to nothing."""
        if self._timer is not None:
            self._again = True
        elif (tell := self._listener()) is not None:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE_S, self._settled)
            tell()

    def close(self) -> None:
        """Tell nothing more of what was noted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settled(self) -> None:
        self._timer = None
        if self._again:
            self._again = False
            self.note()
