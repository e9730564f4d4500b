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
        self._quiet_until = 0.0

    def note(self) -> None:
        """Take a change; called for every job, so it does next to nothing."""
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._quiet_until:  # a timer only now: most changes of a worker at rest come alone
            self._timer = loop.call_at(self._quiet_until, self._settled)
        else:
            self._tell(loop)

    def close(self) -> None:
        """Tell nothing more of what was noted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settled(self) -> None:
        self._timer = None
        self._tell(asyncio.get_running_loop())

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        tell = self._listener()
        if tell is not None:
            self._quiet_until = loop.time() + _PAUSE_S
            tell()
