"""The first children of a new generation: each has to last a probation beside the old ones."""

from __future__ import annotations

from soniqd.log import catalogue
from soniqd.model.child import GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision.changes import Rollout, RolloutStage
from soniqd.policy.supervision.roster import ChildState, Place, Roster
from soniqd.policy.supervision.starts import Start, Starts

SILENT_S = 1.5
"""A canary whose loop has stood still for so long when its probation ends has not passed yet. It ticks each 0.5 s."""


def prove(rollout: Rollout, roster: Roster, starts: Starts, out: list[fx.Effect], now_s: float) -> GroupPlan | None:
    """Start the canaries, and let them take over when all have passed; return a group that there is no room for.

    Where there is no room for all at once, those that have passed make room for the others.
    """
    _take_back_dismissed(rollout, roster)
    no_room_for = _start_canaries(rollout, roster, starts, now_s)
    places = [roster.places[slot] for slot in rollout.canaries]
    if not all(has_passed(rollout, roster, place, now_s) for place in places):
        return None
    if not places and rollout.untried:
        return None if starts.is_room_coming() else no_room_for
    for place in places:
        starts.take_over(place, now_s)
        rollout.replaced += 1
    rollout.canaries.clear()
    if not rollout.untried:
        rollout.stage = RolloutStage.ROLLING
        if rollout.probation_s and rollout.replaced:
            fields = {"generation": rollout.generation, "probation_s": rollout.probation_s}
            out.append(fx.Report(catalogue.CANARIES_PASSED, fields))
    return None


def next_waits_s(rollout: Rollout, roster: Roster) -> list[float]:
    """List when the probations under way end."""
    canaries = [roster.successor_of(roster.places[slot]) for slot in rollout.canaries]
    return [canary.ready_s + rollout.probation_s for canary in canaries if canary and canary.ready_s is not None]


def has_passed(rollout: Rollout, roster: Roster, place: Place, now_s: float) -> bool:
    """Tell whether a canary was ready, has lasted its probation, and is known to be at work at its end.

    One that stands still then passes with its next tick, or fails as hung; where nothing counts as hung, it passes.
    """
    canary = roster.successor_of(place)
    if canary is None or canary.state is not ChildState.RUNNING or canary.ready_s is None:
        return False
    stands_still = canary.plan.hang_timeout_s > 0 and canary.silent_s > SILENT_S
    return canary.ready_s + rollout.probation_s <= now_s and not stands_still


def _take_back_dismissed(rollout: Rollout, roster: Roster) -> None:
    """A canary that was sent away for what was not its fault is started again."""
    for slot in [slot for slot in rollout.canaries if roster.places[slot].successor is None]:
        rollout.canaries.remove(slot)
        rollout.untried.append(slot)


def _start_canaries(rollout: Rollout, roster: Roster, starts: Starts, now_s: float) -> GroupPlan | None:
    groups = {group.name: group for group in rollout.plan}
    no_room_for = None
    for slot in list(rollout.untried):
        place = roster.places[slot]
        group = groups[place.plan.name]
        start = starts.start_successor(place, group, rollout.generation, now_s, trial=True)
        if start is Start.STARTED:
            rollout.untried.remove(slot)
            rollout.canaries.append(slot)
        elif start is Start.NO_ROOM:
            no_room_for = group
    return no_room_for
