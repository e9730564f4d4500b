"""Reloads as people and service managers see them: begun with a reason, ended with a result."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soniqd.errors import ConfigurationError
from soniqd.log import catalogue, emit
from soniqd.log.notify import Notifier
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.settings import load_daemon_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.host import this_host
from soniqd.supervisor.changes import compare_settings
from soniqd.supervisor.plan import make_plan


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How a reload ended; ``generation`` is in force now, ``error`` None means well."""

    generation: int
    replaced: int
    duration_s: float
    error: str | None


@dataclass(frozen=True, slots=True)
class _Attempt:
    settings: DaemonSettings
    began_s: float
    result: asyncio.Future[ReloadResult]


class Reloads:
    """Knows which settings each generation has. ``tell`` hands events to the supervision machine."""

    def __init__(
        self, settings: DaemonSettings, config: Path | None, *, notifier: Notifier, tell: Callable[[ev.Event], None]
    ) -> None:
        self.settings = settings
        self.config = config
        self.last: ReloadResult | None = None
        self._notifier = notifier
        self._tell = tell
        self._attempts: dict[int, _Attempt] = {}

    def settings_of(self, generation: int) -> DaemonSettings:
        """Return what a generation is booted with."""
        attempt = self._attempts.get(generation)
        return self.settings if attempt is None else attempt.settings

    async def begin(self, reason: str, *, attempt: int, current: int) -> ReloadResult:
        """Read the configuration again and replace every child; raises nothing, the result tells.

        ``attempt`` is the generation that this makes, ``current`` the one in force. A newer reload ends this one.
        """
        began_s = time.monotonic()
        emit(catalogue.RELOAD_STARTED, reason=reason)
        self._notifier.reloading()
        try:
            settings = self._read_settings_again()
        except ConfigurationError as error:
            problems = "; ".join(error.problems) or str(error)
            return self._conclude(ReloadResult(current, 0, time.monotonic() - began_s, problems))
        result: asyncio.Future[ReloadResult] = asyncio.get_running_loop().create_future()
        self._attempts[attempt] = _Attempt(settings, began_s, result)
        self._tell(ev.Reload(make_plan(settings)))
        return await result

    def ended(self, effect: fx.ReloadEnded) -> None:
        """The machine says how a reload ended."""
        attempt = self._attempts.pop(effect.attempted)
        if effect.error is None:
            self.settings = attempt.settings
        duration_s = time.monotonic() - attempt.began_s
        result = self._conclude(ReloadResult(effect.generation, effect.replaced, duration_s, effect.error))
        if not attempt.result.done():
            attempt.result.set_result(result)

    def _conclude(self, result: ReloadResult) -> ReloadResult:
        if result.error is None:
            emit(catalogue.RELOAD_DONE, generation=result.generation, replaced=result.replaced)
        else:
            emit(catalogue.RELOAD_FAILED, generation=result.generation, error=result.error)
        self.last = result
        if not self._attempts:
            self._notifier.ready()
        return result

    def _read_settings_again(self) -> DaemonSettings:
        settings = load_daemon_settings(self.config, environ=os.environ, host=this_host())
        frozen = compare_settings(self.settings, settings).restart
        if frozen:
            keys = ", ".join(change.key for change in frozen)
            raise ConfigurationError(f"{keys} changed; restart soniqd to apply that")
        return settings
