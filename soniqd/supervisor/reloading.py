"""Reloads as people and service managers see them: begun with a reason, ended with a result; or only rehearsed."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soniqd.control import fork as wire
from soniqd.errors import ConfigurationError, ControlError
from soniqd.log import catalogue, emit
from soniqd.log.setup import change_logging
from soniqd.model.child import ExitCause, GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.roster import Roster
from soniqd.policy.supervision.scaling import lasting_scales, scaled_plan
from soniqd.settings import load_daemon_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.host import this_host
from soniqd.supervisor.budget import Budget
from soniqd.supervisor.changes import compare_settings
from soniqd.supervisor.plan import make_plan
from soniqd.supervisor.preview import Preview, changed_parts, fingerprint_of, preview
from soniqd.supervisor.reaper import Reaper
from soniqd.supervisor.trial import boot_on_trial

_PLACE = re.compile(r"(\S+/\d+) ended with (?:signal|exit code) ")


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How a reload ended; ``generation`` is in force now, ``error`` None means well.

    ``kept`` counts children that nothing concerned; ``changes`` says what differed (see Preview.as_json).
    """

    generation: int
    replaced: int
    duration_s: float
    error: str | None
    kept: int = 0
    changes: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a reload would do now: refused for ``problems`` and ``restart`` keys, else as ``changes`` says."""

    problems: tuple[str, ...]
    restart: tuple[str, ...] = ()
    changes: Preview | None = None

    @property
    def refused(self) -> bool:
        """The reload would not begin, or would be taken back before it touched a child."""
        return bool(self.problems or self.restart)

    def as_json(self) -> dict[str, Any]:
        """What soniqctl is answered."""
        return {
            "refused": self.refused,
            "problems": list(self.problems),
            "needs_restart": list(self.restart),
            "changes": None if self.changes is None else self.changes.as_json(),
        }


@dataclass(slots=True)
class _Attempt:
    settings: DaemonSettings
    everything: bool
    began_s: float
    result: asyncio.Future[ReloadResult]
    code: dict[str, str] = field(default_factory=dict)
    changes: Preview | None = None
    last_words: dict[str, str] = field(default_factory=dict)


class Reloads:
    """Knows which settings and which code each generation has. ``tell`` hands events to the supervision machine.

    ``on_change`` hears of each beginning and each end; :attr:`under_way` is true from the one to the other.
    """

    def __init__(
        self,
        settings: DaemonSettings,
        config: Path | None,
        *,
        tell: Callable[[ev.Event], None],
        on_change: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.config = config
        self.code: dict[str, str] = {}
        self.last: ReloadResult | None = None
        self.beginning = 0
        self.begun = 0
        self._on_change = on_change
        self._tell = tell
        self._attempts: dict[int, _Attempt] = {}
        self._rehearsals: set[asyncio.Task[Rehearsal]] = set()

    @property
    def under_way(self) -> bool:
        """Some reload has begun and not ended."""
        return self.beginning > 0 or bool(self._attempts)

    def settings_of(self, generation: int) -> DaemonSettings:
        """Return what a generation is booted with."""
        attempt = self._attempts.get(generation)
        return self.settings if attempt is None else attempt.settings

    async def begin(self, reason: str, roster: Roster, budget: Budget, *, everything: bool = False) -> ReloadResult:
        """Read the configuration again and replace what that affects; raises nothing, the result tells.

        With ``everything`` all children are replaced, and scaled groups get the configured number again. A newer reload
        ends one that is under way.
        """
        began_s = time.monotonic()
        emit(catalogue.RELOAD_STARTED, reason=reason)
        self.begun += 1
        self.beginning += 1  # the supervision machine hears of it only after the next step
        self._on_change()
        try:
            await budget.refresh()
        finally:
            self.beginning -= 1
        try:
            settings = self._read_settings_again()
            plan = make_plan(settings)
            coming = _with_scales(plan, roster, unscale=everything)
            _refuse(budget.refusal(settings, coming))
        except ConfigurationError as error:
            problems = "; ".join(error.problems) or str(error)
            return self._conclude(ReloadResult(roster.generation, 0, time.monotonic() - began_s, problems))
        result: asyncio.Future[ReloadResult] = asyncio.get_running_loop().create_future()
        self._attempts[roster.newest_generation + 1] = _Attempt(settings, everything, began_s, result)
        budget.widen(settings, coming)
        table = settings.soniqd
        self._tell(
            ev.Reload(
                plan,
                everything=everything,
                probation_s=table.probation,
                failure_jump=table.failure_jump,
                unscale=everything,
            )
        )
        return await result

    async def rehearse(self, roster: Roster, budget: Budget, reaper: Reaper, *, everything: bool = False) -> Rehearsal:
        """Find out what a reload would do now: a generation is booted and ended again, and nothing else happens.

        Raises ControlError when the daemon stops meanwhile.
        """
        rehearsal = asyncio.create_task(self._rehearse(roster, budget, reaper, everything=everything))
        self._rehearsals.add(rehearsal)
        rehearsal.add_done_callback(self._rehearsals.discard)
        await asyncio.wait({rehearsal})
        if rehearsal.cancelled():
            raise ControlError("cannot rehearse a reload: the daemon stops")
        return rehearsal.result()

    async def close(self) -> None:
        """End rehearsals, with their fork servers: to be called while somebody still reaps those."""
        for rehearsal in self._rehearsals:
            rehearsal.cancel()
        await asyncio.gather(*self._rehearsals, return_exceptions=True)

    async def _rehearse(self, roster: Roster, budget: Budget, reaper: Reaper, *, everything: bool) -> Rehearsal:
        await budget.refresh()
        try:
            settings = load_daemon_settings(self.config, environ=os.environ, host=this_host())
        except ConfigurationError as error:
            return Rehearsal(error.problems or (str(error),))
        trial = await boot_on_trial(settings, number=roster.newest_generation + 1, reaper=reaper)
        coming = _with_scales(make_plan(settings), roster, unscale=everything)
        problems = [*trial.problems, *([refusal] if (refusal := budget.refusal(settings, coming)) else [])]
        restart = tuple(change.key for change in compare_settings(self.settings, settings).restart)
        code = None if trial.booted is None else trial.booted.code
        changes = None if code is None else self._preview(settings, code, roster, everything=everything)
        return Rehearsal(tuple(problems), restart, changes)

    def booted(self, generation: int, booted: wire.Booted, roster: Roster) -> str:
        """Take down a generation's code, and return its fingerprint."""
        attempt = self._attempts.get(generation)
        if attempt is not None:
            attempt.code = booted.code
            attempt.changes = self._preview(attempt.settings, booted.code, roster, everything=attempt.everything)
        else:
            if self.code and self.code != booted.code:
                parts = ", ".join(changed_parts(self.code, booted.code))
                emit(catalogue.CODE_CHANGED_UNASKED, generation=generation, parts=parts)
            self.code = booted.code
        return fingerprint_of(booted.code, self.settings_of(generation))

    def boot_failed(self, generation: int) -> None:
        """A generation left a traceback in the log."""
        attempt = self._attempts.get(generation)
        if attempt is not None:
            attempt.last_words[""] = (
                f'the whole traceback is in soniqd\'s log, below "why generation {generation} cannot boot"'
            )

    def child_left(self, generation: int, slot: str, cause: ExitCause, reason: str) -> None:
        """A child of a generation has ended, after it gave a reason or without one."""
        attempt = self._attempts.get(generation)
        if attempt is None or cause.clean:
            return
        where = f"more is in soniqd's log, of {slot} in generation {generation}"
        attempt.last_words[slot] = f"{reason}; {where}" if reason else where

    def ended(self, effect: fx.ReloadEnded) -> None:
        """The machine says how a reload ended."""
        attempt = self._attempts.pop(effect.attempted)
        error = effect.error
        if error is None:
            self._apply(attempt)
        else:
            error = _explained(error, attempt.last_words)
        result = ReloadResult(
            effect.generation,
            effect.replaced,
            time.monotonic() - attempt.began_s,
            error,
            effect.kept,
            None if attempt.changes is None else attempt.changes.as_json(),
        )
        self._conclude(result)
        if not attempt.result.done():
            attempt.result.set_result(result)

    def _apply(self, attempt: _Attempt) -> None:
        self.settings, self.code = attempt.settings, attempt.code
        change_logging(attempt.settings.soniqd.log_level, attempt.settings.soniqd.log_format)

    def _conclude(self, result: ReloadResult) -> ReloadResult:
        if result.error is not None:
            emit(catalogue.RELOAD_FAILED, generation=result.generation, error=result.error)
        else:
            if result.changes and is_idle(result.changes):
                emit(catalogue.RELOAD_CHANGED_NOTHING, generation=result.generation)
            emit(catalogue.RELOAD_DONE, generation=result.generation, replaced=result.replaced, kept=result.kept)
        self.last = result
        self._on_change()
        return result

    def _preview(self, settings: DaemonSettings, code: dict[str, str], roster: Roster, *, everything: bool) -> Preview:
        children = [roster.current_of(place) for place in roster.places.values()]
        server = roster.fork_servers.get(roster.generation)
        return preview(
            self.settings,
            settings,
            old_code=self.code,
            new_code=code,
            fingerprints={each.fingerprint for each in (server, *children) if each is not None},
            running=roster.plan,
            everything=everything,
        )

    def _read_settings_again(self) -> DaemonSettings:
        settings = load_daemon_settings(self.config, environ=os.environ, host=this_host())
        frozen = compare_settings(self.settings, settings).restart
        if frozen:
            keys = ", ".join(change.key for change in frozen)
            raise ConfigurationError(f"{keys} changed; restart soniqd to apply that")
        return settings


def is_idle(changes: dict[str, Any]) -> bool:
    """Tell whether a reload had nothing to do."""
    return not changes["settings"] and all(group["action"] == "stay" for group in changes["groups"])


def _with_scales(plan: tuple[GroupPlan, ...], roster: Roster, *, unscale: bool) -> tuple[GroupPlan, ...]:
    """Return what a plan means with the scaled groups whose number stays."""
    return scaled_plan(plan, lasting_scales(roster.scaled, before=roster.configured, after=plan, unscale=unscale))


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ConfigurationError(problem)


def _explained(error: str, last_words: dict[str, str]) -> str:
    """Add what the one that failed has said, and where there is more."""
    place = _PLACE.match(error)
    words = last_words.get(place[1] if place else "")
    return f"{error}; {words}" if words else error
