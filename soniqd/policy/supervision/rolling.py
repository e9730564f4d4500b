"""Rolling restarts: fresh children of the same code, place by place, replacement first."""

from __future__ import annotations

from soniqd.model.child import Slot
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.changes import RollingRestart, Turns
from soniqd.policy.supervision.roster import Child, Place, Roster
from soniqd.policy.supervision.starts import Progress, Starts


class RollingRestarts:
    """Carries restarts out one after the other, each only while no rollout has booted."""

    def __init__(self, roster: Roster, starts: Starts, out: list[fx.Effect]) -> None:
        self._roster = roster
        self._starts = starts
        self._out = out

    def begin(self, event: ev.Restart, now_s: float) -> None:
        """Queue a restart. It concerns the children that there are now, and none that is younger."""
        known = {group.name for group in self._roster.plan}
        unknown = [group for group in event.groups if group not in known]
        restart = RollingRestart(event.request, event.groups, asked_s=now_s)
        if unknown:
            self._end(restart, f"there is no group {', '.join(unknown)}")
        else:
            self._roster.restarts.append(restart)

    def step(self, now_s: float) -> None:
        """Take the next step of the first restart."""
        if self._roster.rolling_out is not None or not self._roster.restarts:
            return
        restart = self._roster.restarts[0]
        turns = restart.turns = restart.turns or Turns(self._slots(restart))
        self._starts.take_back_dismissed(turns)
        turns.pending = [slot for slot in turns.pending if self._is_older(slot, restart.asked_s)]
        progress = self._starts.take_turns(turns, self._roster.plan, self._roster.generation, now_s)
        if progress is Progress.DONE:
            self._finish(None)
        elif progress is Progress.NO_ROOM:
            self._finish(self._starts.no_room_reason(self._roster.places[turns.pending[0]].plan))

    def child_failed(self, child: Child, reason: str) -> bool:
        """A successor was lost; return whether it was a restart's."""
        turns = self._roster.restarts[0].turns if self._roster.restarts else None
        if turns is None or turns.active != child.spec.slot:
            return False
        self._finish(reason)
        return True

    def generation_failed(self, reason: str) -> None:
        """Nothing can be started any more."""
        while self._roster.restarts and self._roster.rolling_out is None:
            self._finish(reason)

    def abandon(self) -> None:
        """The daemon stops."""
        while self._roster.restarts:
            self._finish("the daemon stops")

    def _slots(self, restart: RollingRestart) -> list[Slot]:
        return [slot for slot, place in self._roster.places.items() if place.plan.name in restart.groups]

    def _is_older(self, slot: Slot, asked_s: float) -> bool:
        place: Place | None = self._roster.places.get(slot)
        child = self._roster.current_of(place) if place else None
        return child is None or child.started_s <= asked_s

    def _finish(self, error: str | None) -> None:
        self._end(self._roster.restarts.pop(0), error)

    def _end(self, restart: RollingRestart, error: str | None) -> None:
        self._out.append(fx.RestartEnded(restart.request, restart.turns.replaced if restart.turns else 0, error))
