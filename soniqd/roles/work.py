"""What a child surrounds: the part of a worker and of a scheduler that its surroundings steer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from soniqd.control.link import State


class Work(Protocol):
    """Runs until it was drained. Steering methods return at once.

    It calls ``on_ready`` once it can work and ``on_change`` whenever ``state()`` may differ, a worker for every job.
    """

    on_ready: Callable[[], None] | None
    on_change: Callable[[], None] | None

    async def run(self) -> None: ...

    def state(self) -> State: ...

    def wake(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def drain(self, timeout_s: float) -> None:
        """Finish within ``timeout_s``, give back the rest, return from ``run``; a later call can only shorten."""
