"""Reload: from the request to the end, whichever it is. The steps between are canaries.py's and rollback.py's."""

from __future__ import annotations

from dataclasses import replace

from soniqd.log import catalogue
from soniqd.model.child import Slot
from soniqd.policy.plan_diff import needs_replacement
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.canaries import next_waits_s, prove
from soniqd.policy.supervision.changes import Rollout, RolloutStage, Turns
from soniqd.policy.supervision.failure_jump import FAILED_IN, Comparison, Runs, has_jumped
from soniqd.policy.supervision.life import ChildLife
from soniqd.policy.supervision.rollback import Rollback
from soniqd.policy.supervision.roster import Child, ChildState, Place, Roster, positions
from soniqd.policy.supervision.scaling import lasting_scales, scaled_plan
from soniqd.policy.supervision.starts import Progress, Starts


class Rollouts:
    """The one rollout that may be on its way. The machine calls these at the fitting events."""

    def __init__(self, roster: Roster, life: ChildLife, starts: Starts, out: list[fx.Effect]) -> None:
        self._roster = roster
        self._life = life
        self._starts = starts
        self._out = out
        self._rollback = Rollback(roster, starts)

    def begin(self, event: ev.Reload, now_s: float) -> int:
        """Start a rollout; return the generation that has to boot for it. One under way ends here.

        Places that it has replaced stay as they are: the newer one replaces them, or takes them back.
        """
        roster = self._roster
        if roster.rollout is not None:
            self._supersede(roster.rollout, now_s)
        roster.newest_generation += 1
        roster.rollout = Rollout(
            roster.newest_generation,
            event.plan,
            lasting_scales(roster.scaled, before=roster.configured, after=event.plan, unscale=event.unscale),
            event.everything,
            event.probation_s,
            event.failure_jump,
        )
        return roster.newest_generation

    def booted(self, generation: int, now_s: float) -> None:
        """The new generation can fork: see what it affects, and begin with its canaries."""
        rollout = self._roster.rollout
        if rollout is None or rollout.generation != generation or rollout.stage is not RolloutStage.BOOTING:
            return
        for place in self._roster.places.values():
            self._starts.dismiss(place, now_s)  # of a recycling or a restart, which go on after the rollout
        rollout.stage = RolloutStage.PROVING
        rollout.plan = scaled_plan(rollout.configured, rollout.scaled)
        self._sort_places(rollout)
        rollout.down = self._groups_down()
        groups = {group.name for group in rollout.plan} | {group.name for group in self._roster.plan}
        rollout.runs = {group: Comparison(before=self._runs_of(group)) for group in groups}

    def step(self, now_s: float) -> None:
        """Take the next step, and end when there is none."""
        rollout = self._roster.rolling_out
        if rollout is None:
            return
        if rollout.stage is RolloutStage.PROVING:
            no_room_for = prove(rollout, self._roster, self._starts, self._out, now_s)
            if no_room_for is not None and not self._give_up_a_place(rollout, now_s):
                self.fail(rollout, self._starts.no_room_reason(no_room_for), now_s)
        if rollout.stage is RolloutStage.ROLLING:
            self._roll(rollout, now_s)
        if rollout.stage is RolloutStage.GOING_BACK and self._rollback.step(rollout, now_s):
            self._conclude(rollout, now_s)

    def generation_failed(self, generation: int, reason: str, now_s: float) -> bool:
        """The new generation cannot boot, or was lost; return whether that was this rollout's affair."""
        rollout = self._roster.rollout
        if rollout is None:
            return False
        if rollout.generation == generation:
            self.fail(rollout, reason, now_s)
            return True
        self._rollback.generation_failed(rollout, generation, reason)
        return False

    def child_failed(self, child: Child, reason: str, now_s: float) -> bool:
        """A child was lost that nobody had sent away; return whether the rollout has all such affairs to itself."""
        rollout = self._roster.rolling_out
        if rollout is None:
            return False
        if rollout.stage is RolloutStage.GOING_BACK:
            self._rollback.child_failed(rollout, child, now_s)
        elif child.trial and child.spec.generation == rollout.generation:
            if child.spec.group in rollout.down and self._others_are_up(rollout):
                self._leave_down(rollout, child.spec.group, reason, now_s)
            else:
                self.fail(rollout, reason, now_s)
        return True

    def measured(self, child: Child, *, done: int, failed: int, now_s: float) -> None:
        """So many more runs of a child have ended."""
        rollout = self._roster.rolling_out
        runs = rollout.runs.get(child.spec.group) if rollout else None
        if rollout is None or runs is None or rollout.stage is RolloutStage.GOING_BACK:
            return
        new = child.trial and child.spec.generation == rollout.generation
        (runs.new if new else runs.lately).add(done=done, failed=failed)
        if new and has_jumped(runs, rollout.failure_jump):
            failed_of = f"{runs.new.failed} of {runs.new.done + runs.new.failed}"
            self.fail(rollout, f"{failed_of} {FAILED_IN} {child.spec.group}", now_s)

    def scaled(self, group: str, processes: int) -> None:
        """Somebody has scaled a group: that is newer than what the settings say."""
        if self._roster.rollout is not None:
            self._roster.rollout.scaled[group] = processes

    def fail(self, rollout: Rollout, reason: str, now_s: float) -> None:
        """Go back: no successor is waited for any more, and the places that were replaced are taken back."""
        if rollout.stage is RolloutStage.GOING_BACK:
            return
        replaced = [place.slot for place in self._roster.places.values() if self._is_on_trial(place)]
        if rollout.stage is not RolloutStage.BOOTING or replaced:  # else no successor is in the way
            for place in self._roster.places.values():
                self._starts.dismiss(place, now_s)
        self._roster.settle_places()  # what was given up for room is wanted again, what is new is not
        rollout.untried, rollout.canaries = [], []
        rollout.replaced += rollout.turns.replaced
        rollout.error, rollout.stage, rollout.turns = reason, RolloutStage.GOING_BACK, Turns(replaced)

    def next_waits_s(self) -> list[float]:
        """List what the rollout waits for, if that is a time."""
        rollout = self._roster.rolling_out
        return [] if rollout is None else [rollout.retry_s, *next_waits_s(rollout, self._roster)]

    def abandon(self) -> None:
        """The daemon stops: what was begun is not finished."""
        if self._roster.rollout is not None:
            self._end(self._roster.rollout, "the daemon stops")

    def _supersede(self, rollout: Rollout, now_s: float) -> None:
        if rollout.stage is not RolloutStage.BOOTING:
            for place in self._roster.places.values():
                self._starts.dismiss(place, now_s)
        self._end(rollout, rollout.error or "a newer reload took its place")

    def _sort_places(self, rollout: Rollout) -> None:
        """Find the places that need another child, and in each group the one whose turn is first."""
        known = {group.name for group in self._roster.plan}
        for slot, group, index in positions(rollout.plan):
            place = self._roster.places.get(slot)
            if place is None:
                place = self._roster.places[slot] = Place(group, index, wanted=False)
                is_canary = group.name not in known
            elif self._is_affected(place, rollout, slot):
                is_canary = True
            else:
                rollout.kept += place.current is not None
                continue
            tried = {other.rpartition("/")[0] for other in rollout.untried}
            (rollout.untried if is_canary and group.name not in tried else rollout.turns.pending).append(slot)

    def _is_affected(self, place: Place, rollout: Rollout, slot: Slot) -> bool:
        child = self._roster.current_of(place)
        servers = self._roster.fork_servers
        server = servers.get(self._roster.generation)
        old = child.fingerprint if child else server.fingerprint if server else ""
        same_code = old == servers[rollout.generation].fingerprint != ""
        target = next(group for other, group, _ in positions(rollout.plan) if other == slot)
        return rollout.everything or not same_code or needs_replacement(child.plan if child else place.plan, target)

    def _groups_down(self) -> set[str]:
        """Find the groups of which nothing runs, though it should: what becomes of them proves nothing."""
        children = [self._roster.current_of(place) for place in self._roster.places.values() if place.wanted]
        running = {child.spec.group for child in children if child is not None and child.state is ChildState.RUNNING}
        return {group.name for group in self._roster.plan} - running

    def _others_are_up(self, rollout: Rollout) -> bool:
        return any(group.role == "worker" and group.name not in rollout.down for group in rollout.plan)

    def _leave_down(self, rollout: Rollout, group: str, reason: str, now_s: float) -> None:
        """Go on without a group that did not run before either: it must not keep the others from their new code."""
        self._out.append(fx.Report(catalogue.GROUP_STILL_DOWN, {"group": group, "reason": reason}))
        own = {place.slot for place in self._roster.places.values() if place.plan.name == group}
        for slot in own:
            self._starts.dismiss(self._roster.places[slot], now_s)
        rollout.untried = [slot for slot in rollout.untried if slot not in own]
        rollout.canaries = [slot for slot in rollout.canaries if slot not in own]
        rollout.turns.pending = [slot for slot in rollout.turns.pending if slot not in own]
        if rollout.turns.active in own:
            rollout.turns.active = None

    def _runs_of(self, group: str) -> Runs:
        children = [child for child in self._roster.children.values() if child.spec.group == group]
        return Runs(sum(child.done for child in children), sum(child.failed for child in children))

    def _is_on_trial(self, place: Place) -> bool:
        child = self._roster.current_of(place)
        return place.wanted and child is not None and child.trial

    def _roll(self, rollout: Rollout, now_s: float) -> None:
        turns = rollout.turns
        progress = self._starts.take_turns(turns, rollout.plan, rollout.generation, now_s, trial=True)
        if progress is Progress.DONE:
            rollout.replaced += turns.replaced
            self._conclude(rollout, now_s)
        elif progress is Progress.NO_ROOM and not self._give_up_a_place(rollout, now_s):
            self.fail(rollout, self._starts.no_room_reason(self._roster.places[turns.pending[0]].plan), now_s)

    def _give_up_a_place(self, rollout: Rollout, now_s: float) -> bool:
        """Make room by ending a child in a place that the new plan does not have; return whether there was one."""
        coming = {slot for slot, _, _ in positions(rollout.plan)}
        for slot, place in reversed(self._roster.places.items()):
            child = self._roster.current_of(place)
            if slot not in coming and child is not None:
                place.current, place.wanted = None, False
                self._life.drain(child, now_s)
                return True
        return False

    def _conclude(self, rollout: Rollout, now_s: float) -> None:
        """Settle which generation and which plan are in force."""
        roster = self._roster
        if rollout.error is None:
            roster.generation, roster.configured = rollout.generation, rollout.configured
            roster.scaled = rollout.scaled
        roster.plan = scaled_plan(roster.configured, roster.scaled)
        for child in roster.children.values():
            child.trial = False
        for place in roster.places.values():
            if place.current is None and rollout.error is None:
                place.misconfigured, place.failures, place.next_start_s = False, 0, now_s
        self._end(rollout, rollout.error)
        roster.settle_places()

    def _end(self, rollout: Rollout, error: str | None) -> None:
        """Tell how it ended, and retire the generation that lost."""
        roster = self._roster
        roster.rollout = None
        ended = fx.ReloadEnded(rollout.generation, roster.generation, rollout.replaced, error)
        self._out.append(replace(ended, kept=rollout.kept))
        for loser in [number for number in roster.fork_servers if number != roster.generation]:
            del roster.fork_servers[loser]
            self._out.append(fx.Retire(loser))
