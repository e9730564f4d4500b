"""The master's side of the talk with its service manager: facts gathered, notes sent (soniqd.policy.service)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from typing import assert_never

from soniqd.log.notify import Notifier, watchdog_timeout_s
from soniqd.policy import service as talk
from soniqd.policy.supervision import Supervision
from soniqd.policy.supervision.changes import RolloutStage
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.reloading import Reloads

_STAGES = {
    RolloutStage.BOOTING: "importing generation {}",
    RolloutStage.PROVING: "generation {} on probation",
    RolloutStage.ROLLING: "replacing children by generation {}",
    RolloutStage.GOING_BACK: "taking generation {} back",
}


class Service:
    """Speaks whenever it is called and there is something new to say. ``facts`` describes this moment."""

    def __init__(
        self, notifier: Notifier, *, facts: Callable[[], talk.ServiceFacts], after_upgrade: bool = False
    ) -> None:
        self._notifier = notifier
        self._facts = facts
        self._talk = talk.ServiceTalk(watchdog_s=watchdog_timeout_s(os.environ), after_upgrade=after_upgrade)

    @property
    def tick_interval_s(self) -> float:
        """How often :meth:`look` has to be called with a proof."""
        return self._talk.tick_interval_s

    def look(self, *, proof: bool = False) -> None:
        """Say what has changed. ``proof``: the loop that supervises has gone round, with all that belongs to it."""
        if not self._notifier.enabled:
            return
        for note in self._talk.next_notes(self._facts(), time.monotonic(), proof=proof):
            self._send(note)

    def _send(self, note: talk.Note) -> None:
        match note:
            case talk.Ready():
                self._notifier.ready(main_pid=os.getpid())
            case talk.Reloading():
                self._notifier.reloading()
            case talk.Stopping():
                self._notifier.stopping()
            case talk.Extend():
                self._notifier.extend_timeout(note.seconds)
            case talk.Watchdog():
                self._notifier.watchdog()
            case talk.Status():
                self._notifier.status(note.text)
            case _:
                assert_never(note)


def service_facts(
    supervision: Supervision,
    reloads: Reloads,
    processes: Collection[ChildProcess],
    *,
    database_up: bool | None,
    upgrading: bool,
) -> talk.ServiceFacts:
    """Gather what there is to say."""
    phase, reloading = supervision.phase, supervision.reloading or reloads.under_way
    plan = supervision.roster.plan if phase == "running" else ()
    status = talk.status_line(
        doing="upgrading in place" if upgrading else _doing(supervision, reloading=reloading),
        children=sum(child.pid is not None for child in processes),
        wanted=sum(group.processes for group in plan),
        jobs=sum(child.state.in_flight for child in processes),
        database_up=database_up,
        reload_failed=reloads.last is not None and reloads.last.error is not None,
    )
    return talk.ServiceFacts(phase, reloading=reloading or upgrading, reloads=reloads.begun, status=status)


def _doing(supervision: Supervision, *, reloading: bool) -> str:
    rollout = supervision.roster.rollout
    match supervision.phase:
        case "booting":
            return "importing the jobs modules"
        case "stopping":
            return "draining"
        case "running" if rollout is not None:
            return "reloading, " + _STAGES[rollout.stage].format(rollout.generation)
        case "running" if reloading:
            return "reloading"
        case phase:
            return phase
