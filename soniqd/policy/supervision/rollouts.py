"""Reload, place by place: successor first, old child after it, and back again if a successor fails."""

from __future__ import annotations

from collections.abc import Callable

from soniqd.model.child import GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision.roster import Child, Place, Rollout, Roster

StartChild = Callable[[Place, int, float], str]


class Rollouts:
    """The one rollout that may be on its way. The machine calls these at the fitting events."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.current: Rollout | None = None

    def begin(self, plan: tuple[GroupPlan, ...]) -> int:
        """Start a rollout of ``plan``; return the generation that has to boot for it."""
        roster = self._roster
        roster.newest_generation += 1
        self.current = Rollout(roster.newest_generation, roster.generation, roster.settled_plan, plan)
        return roster.newest_generation

    def supersede(self, out: list[fx.Effect]) -> Child | None:
        """A newer reload takes over from here; returns the child that was about to take a place, to be sent away.

        Places that this rollout has replaced stay as they are: the newer one replaces them, or takes them back.
        """
        rollout = self.current
        if rollout is None:
            return None
        self._end(rollout, rollout.error or "a newer reload took its place", out)
        place = self._roster.places.get(rollout.active) if rollout.active else None
        if place is None or place.successor is None:
            return None
        successor, place.successor = place.successor, None
        return self._roster.children.get(successor)

    def booted(self, generation: int) -> None:
        """The new generation can fork: from here on the new plan holds."""
        rollout = self.current
        if rollout is None or rollout.generation != generation or rollout.booted:
            return
        rollout.booted = True
        rollout.pending = self._roster.apply_plan(rollout.plan, generation)

    def generation_failed(self, generation: int, reason: str) -> bool:
        """The new generation cannot boot, or was lost; return whether that was this rollout's affair."""
        rollout = self.current
        if rollout is None or rollout.generation != generation:
            return False
        self._fail(rollout, reason)
        return True

    def successor_ready(self, child: Child) -> Child | None:
        """A child got ready; if it was the awaited successor it takes the place, and the old child is returned."""
        rollout, place = self.current, self._roster.places.get(child.spec.slot)
        if rollout is None or place is None or place.successor != child.worker_id:
            return None
        old = self._roster.children.get(place.current) if place.current else None
        place.current, place.successor = child.worker_id, None
        place.generation, place.misconfigured, place.failures = child.spec.generation, False, 0
        rollout.active = None
        if not rollout.rolling_back:
            rollout.replaced += 1
        elif child.spec.generation != rollout.target:
            rollout.pending.append(place.slot)
        return old

    def successor_failed(self, child: Child, reason: str) -> None:
        """The awaited successor ended: go back; when already going back, leave the place to ordinary restarts."""
        rollout = self.current
        if rollout is None:
            return
        rollout.active = None
        if rollout.rolling_back:
            self._roster.places[child.spec.slot].generation = rollout.target
        else:
            self._fail(rollout, reason)

    def _fail(self, rollout: Rollout, reason: str) -> None:
        if rollout.rolling_back:
            return
        rollout.error = reason
        self._roster.apply_plan(rollout.previous_plan, rollout.previous_generation)
        replaced = (p for p in self._roster.places.values() if p.generation != rollout.previous_generation)
        rollout.pending = [place.slot for place in replaced if place.wanted]  # also by a rollout that was superseded

    def holds(self, place: Place) -> bool:
        """Tell whether a vacant place is the rollout's to fill: its successor is on its way, or it is a new place."""
        rollout = self.current
        if rollout is None or not rollout.booted:
            return False
        new = place.slot in rollout.pending and place.generation == rollout.generation
        return new or place.slot == rollout.active

    def step(self, start_child: StartChild, now_s: float) -> None:
        """Start the next successor if none is on its way."""
        rollout = self.current
        if rollout is None or rollout.active is not None:
            return
        rollout.pending = [slot for slot in rollout.pending if not self._is_done(rollout, self._roster.places[slot])]
        if not rollout.pending:
            return
        server = self._roster.fork_servers.get(rollout.target)
        if server is None or not server.booted:
            return
        rollout.active = rollout.pending.pop(0)
        place = self._roster.places[rollout.active]
        place.successor = start_child(place, rollout.target, now_s)

    def _is_done(self, rollout: Rollout, place: Place) -> bool:
        return rollout.rolling_back and place.generation == rollout.target and place.current is not None

    def conclude(self, out: list[fx.Effect]) -> None:
        """End the rollout when nothing of it is left to do, and retire the generation that lost."""
        rollout = self.current
        if rollout is None or rollout.active is not None or rollout.pending:
            return
        if not rollout.booted and rollout.error is None:
            return
        if not rollout.rolling_back:
            self._roster.generation, self._roster.settled_plan = rollout.generation, rollout.plan
        for loser in [number for number in self._roster.fork_servers if number != self._roster.generation]:
            del self._roster.fork_servers[loser]
            out.append(fx.Retire(loser))
        self._end(rollout, rollout.error, out)

    def abandon(self, out: list[fx.Effect]) -> None:
        """The daemon stops: what was begun is not finished."""
        if self.current is not None:
            self._end(self.current, "the daemon stops", out)

    def _end(self, rollout: Rollout, error: str | None, out: list[fx.Effect]) -> None:
        self.current = None
        out.append(fx.ReloadEnded(rollout.generation, self._roster.generation, rollout.replaced, error))
