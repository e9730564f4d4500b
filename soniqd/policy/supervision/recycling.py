"""Replacing healthy children that have run, lived or grown enough."""

from __future__ import annotations

from soniqd.log import catalogue
from soniqd.model.child import Slot
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision.events import Usage
from soniqd.policy.supervision.limits import reached_limit
from soniqd.policy.supervision.roster import Child, ChildState, Place, Roster
from soniqd.policy.supervision.starts import Start, Starts

RETRY_S = 60.0
"""When a child is tried to be replaced again after its replacement has failed: it works well enough meanwhile."""


class Recycler:
    """One child at a time in each group, replacement first; never during a rollout or a rolling restart."""

    def __init__(self, roster: Roster, starts: Starts, out: list[fx.Effect]) -> None:
        self._roster = roster
        self._starts = starts
        self._out = out

    def measured(self, child: Child, usage: Usage, now_s: float) -> None:
        """Hold what a child has done and holds against its limits; the first that it reaches is remembered."""
        child.worn = child.worn or reached_limit(child.limits, age_s=now_s - child.started_s, usage=usage)

    def next_waits_s(self) -> list[float]:
        """List the times at which a child's age counts, or at which one may be tried again."""
        children = self._roster.children.values()
        ages = [child.started_s + child.limits.max_age_s for child in children if child.limits.max_age_s]
        return ages + [child.recycle_after_s for child in children if child.worn]

    def step(self, now_s: float) -> None:
        """Let successors that are ready take over, and start the next ones."""
        for child in self._roster.children.values():
            child.worn = child.worn or reached_limit(child.limits, age_s=now_s - child.started_s, usage=None)
        if self._roster.rolling_out is not None:
            return
        for group in {place.plan.name: None for place in self._roster.places.values()}:
            self._step_group([place for place in self._roster.places.values() if place.plan.name == group], now_s)

    def successor_failed(self, slot: Slot, now_s: float) -> None:
        """Leave the old child alone for a while."""
        place = self._roster.places.get(slot)
        old = self._roster.current_of(place) if place else None
        if old is not None:
            old.recycle_after_s = now_s + RETRY_S

    def _step_group(self, places: list[Place], now_s: float) -> None:
        for place in places:
            if place.successor is not None:
                if self._starts.is_successor_running(place):
                    self._starts.take_over(place, now_s)
                return
        if self._roster.restarts:
            return
        for place in places:
            old = self._roster.current_of(place)
            if old is not None and _is_due(old, now_s) and not self._is_one_leaving(place.plan.name):
                self._replace(place, old, now_s)
                return

    def _replace(self, place: Place, old: Child, now_s: float) -> None:
        start = self._starts.start_successor(place, place.plan, self._roster.generation, now_s)
        if start is Start.STARTED:
            fields = {"slot": place.slot, "pid": old.pid, "reason": old.worn}
            self._out.append(fx.Report(catalogue.CHILD_RECYCLED, fields))

    def _is_one_leaving(self, group: str) -> bool:
        children = self._roster.children.values()
        return any(child.worn and child.leaves and child.spec.group == group for child in children)


def _is_due(child: Child, now_s: float) -> bool:
    return bool(child.worn) and child.state is ChildState.RUNNING and child.recycle_after_s <= now_s
