"""Rolling restarts as people see them: asked for, and ended with a result."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from soniqd.log import catalogue, emit
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev


@dataclass(frozen=True, slots=True)
class RestartResult:
    """How a rolling restart ended; ``error`` None means that every child concerned was replaced."""

    replaced: int
    error: str | None


class Restarts:
    """Numbers restarts and knows who waits for them. ``tell`` hands events to the supervision machine."""

    def __init__(self, tell: Callable[[ev.Event], None]) -> None:
        self._tell = tell
        self._requests = itertools.count(1)
        self._waiting: dict[int, tuple[tuple[str, ...], asyncio.Future[RestartResult]]] = {}

    async def begin(self, groups: tuple[str, ...], reason: str) -> RestartResult:
        """Replace the children of these groups, and wait until that is done; raises nothing, the result tells."""
        request = next(self._requests)
        emit(catalogue.RESTART_STARTED, groups=", ".join(groups), reason=reason)
        result: asyncio.Future[RestartResult] = asyncio.get_running_loop().create_future()
        self._waiting[request] = (groups, result)
        self._tell(ev.Restart(request, groups))
        return await result

    def ended(self, effect: fx.RestartEnded) -> None:
        """The machine says how a restart ended."""
        groups, result = self._waiting.pop(effect.request, ((), None))
        names = ", ".join(groups)
        if effect.error is None:
            emit(catalogue.RESTART_DONE, groups=names, replaced=effect.replaced)
        else:
            emit(catalogue.RESTART_FAILED, groups=names, replaced=effect.replaced, error=effect.error)
        if result is not None and not result.done():
            result.set_result(RestartResult(effect.replaced, effect.error))
