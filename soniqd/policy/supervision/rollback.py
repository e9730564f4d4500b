"""Taking a failed rollout back: what it had replaced is replaced again, by children of the proven generation."""

from __future__ import annotations

from soniqd.policy.supervision.changes import Rollout, RolloutStage, Turns
from soniqd.policy.supervision.restarts import next_delay_s
from soniqd.policy.supervision.roster import Child, Roster
from soniqd.policy.supervision.starts import Progress, Starts

MAX_TRIES = 3
"""After so many failures to take a place back, its new child stays: it works, and nothing better can be had."""


class Rollback:
    """Takes places back one after the other. A place that lost its child meanwhile is an ordinary vacancy."""

    def __init__(self, roster: Roster, starts: Starts) -> None:
        self._roster = roster
        self._starts = starts

    def step(self, rollout: Rollout, now_s: float) -> bool:
        """Take the next step; return whether all is done that can be."""
        turns, roster = rollout.turns, self._roster
        turns.pending = [slot for slot in turns.pending if roster.places[slot].current is not None]
        if turns.active is None and now_s < rollout.retry_s:
            return not turns.pending
        progress = self._starts.take_turns(turns, roster.plan, roster.generation, now_s)
        while progress is Progress.NO_ROOM:
            turns.pending.pop(0)
            progress = self._starts.take_turns(turns, roster.plan, roster.generation, now_s)
        return progress is Progress.DONE

    def child_failed(self, rollout: Rollout, child: Child, now_s: float) -> None:
        """A successor from the old generation was lost: it is tried again, but not for ever."""
        slot = child.spec.slot
        if child.trial or rollout.turns.active != slot:
            return
        rollout.turns.active = None
        tries = rollout.tries[slot] = rollout.tries.get(slot, 0) + 1
        if tries < MAX_TRIES:
            rollout.turns.pending.append(slot)
            rollout.retry_s = now_s + next_delay_s(tries + 1, random=0.5)

    def generation_failed(self, rollout: Rollout, generation: int, reason: str) -> None:
        """The proven generation was lost and cannot boot again: what runs of the new one is all that there is."""
        if rollout.stage is not RolloutStage.GOING_BACK or generation != self._roster.generation:
            return
        rollout.boots_failed += 1
        if rollout.boots_failed >= MAX_TRIES:
            rollout.error = f"{rollout.error}; generation {generation} cannot boot any more either: {reason}"
            rollout.turns = Turns()
