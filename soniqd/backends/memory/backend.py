"""The memory backend as a whole: its lifecycle, wake-ups and leadership."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from soniqd.backends.memory.dead_letters import MemoryDeadLetters
from soniqd.backends.memory.insight import MemoryInsight
from soniqd.backends.memory.jobs import MemoryJobs
from soniqd.backends.memory.schedules import MemorySchedules
from soniqd.backends.memory.state import MemoryState
from soniqd.backends.memory.workers import MemoryWorkers
from soniqd.backends.protocol import Leadership, WakeUps
from soniqd.backends.values import Capabilities, MigrationStatus, WakeUp
from soniqd.backends.wakebox import WakeBox
from soniqd.errors import UnsupportedByBackendError

if TYPE_CHECKING:
    from soniqd.model.checkup import Checkup


class MemoryBackend(MemoryJobs, MemoryInsight, MemoryWorkers, MemoryDeadLetters, MemorySchedules):
    """Jobs that live as long as this object. ``clock`` gives seconds since the epoch."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._state = MemoryState(clock)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("memory", transactional_enqueue=False, multi_process=False, multi_host=False)

    @property
    def location(self) -> str:
        return "memory://"

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    async def check_schema(self) -> None: ...

    async def connection_limits(self) -> None: ...

    async def checkup(self) -> Checkup:
        from soniqd.model.checkup import Checkup  # noqa: PLC0415 (no worker needs it)

        return Checkup(self.location)

    async def setup(self) -> MigrationStatus:
        return MigrationStatus(applied=(), pending=())

    async def migration_status(self) -> MigrationStatus:
        return MigrationStatus(applied=(), pending=())

    async def subscribe(self) -> WakeUps:
        return _MemoryWakeUps(self._state)

    def leadership(self, name: str) -> Leadership:
        return _MemoryLeadership(self._state, name)

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        raise UnsupportedByBackendError("cannot lend a connection: the memory backend has none")

    async def reset(self) -> None:
        before = self._state
        self._state = MemoryState(before.clock, boxes=before.boxes, leaders=before.leaders)


class _MemoryWakeUps:
    """A box among the state's boxes, as long as it is not closed."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._box = WakeBox()
        state.boxes.add(self._box)

    @property
    def live(self) -> bool:
        return self._box in self._state.boxes

    def hand_to(self, hear: Callable[[WakeUp], None]) -> None:
        self._box.hand_to(hear)

    async def wait(self, timeout_s: float | None = None) -> tuple[WakeUp, ...]:
        return await self._box.wait(timeout_s)

    async def close(self) -> None:
        self._state.boxes.discard(self._box)
        self._box.interrupt()


class _MemoryLeadership:
    """First come, first served, until released."""

    def __init__(self, state: MemoryState, name: str) -> None:
        self._state = state
        self._name = name

    async def acquire(self) -> bool:
        return self._state.leaders.setdefault(self._name, self) is self

    async def held(self, *, max_age_s: float = 0.0) -> bool:  # noqa: ARG002  always known
        return self._state.leaders.get(self._name) is self

    async def release(self) -> None:
        if self._state.leaders.get(self._name) is self:
            del self._state.leaders[self._name]
