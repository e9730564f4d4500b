"""Starting children, and letting one take over from another, within the budget of database connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum, auto

from soniqd.model.child import ChildSpec, GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision.changes import Turns
from soniqd.policy.supervision.life import ChildLife
from soniqd.policy.supervision.limits import spread_limits
from soniqd.policy.supervision.roster import Child, ChildState, Place, Roster

FORK_TIMEOUT_S = 330.0
"""Behind the fork server's own deadlines, which are shorter: a fork request that nobody answers is forgotten."""

_NOT_READY = frozenset({ChildState.FORKING, ChildState.STARTING})
MOST_STARTING = 16
"""Children of one group that start at once: hundreds would only take the processors from each other, and from the
master. By group, so that one whose children never become ready holds up no other."""


class Start(Enum):
    """What became of the wish to start a child."""

    STARTED = auto()
    NO_SERVER = auto()
    NO_ROOM = auto()


class Progress(Enum):
    """How far a row of replacements has come."""

    WAITING = auto()
    NO_ROOM = auto()
    DONE = auto()


class Starts:
    """Makes children and successors, and has successors take over."""

    def __init__(
        self,
        roster: Roster,
        life: ChildLife,
        out: list[fx.Effect],
        *,
        new_id: Callable[[], str],
        random: Callable[[], float],
    ) -> None:
        self._roster = roster
        self._life = life
        self._out = out
        self._new_id = new_id
        self._random = random

    def is_booted(self, generation: int) -> bool:
        """Tell whether there is a fork server to ask."""
        server = self._roster.fork_servers.get(generation)
        return server is not None and server.booted

    def has_room(self, plan: GroupPlan) -> bool:
        """Tell whether one child more of this group stays within the budget."""
        bound = self._roster.max_connections
        return bound is None or not plan.connections or self._roster.connections + plan.connections <= bound

    def count_starting(self) -> Counter[str]:
        """Count each group's children that are not ready yet."""
        return Counter(child.spec.group for child in self._roster.children.values() if child.state in _NOT_READY)

    def is_room_coming(self) -> bool:
        """Tell whether a child is on its way out, or will be once its successor is ready."""
        leaving = any(child.leaves for child in self._roster.children.values())
        return leaving or any(place.successor for place in self._roster.places.values())

    def no_room_reason(self, plan: GroupPlan) -> str:
        """Say in numbers why a child does not fit beside the others."""
        roster = self._roster
        return (
            f"a new child of {plan.name} needs {plan.connections} database connections beside the {roster.connections} "
            f"in use, of {roster.max_connections} that there may be"
        )

    def start_child(self, place: Place, plan: GroupPlan, generation: int, now_s: float) -> Child:
        """Have a child made, whatever there is room for."""
        spec = ChildSpec(
            role=plan.role,
            group=plan.name,
            index=place.index,
            generation=generation,
            worker_id=self._new_id(),
            concurrency=plan.concurrency,
            queues=plan.queues,
            drain_timeout_s=plan.drain_timeout_s,
            block_warning_s=plan.block_warning_s,
            stop_signal_timeout_s=plan.stop_signal_timeout_s,
            connections=plan.connections,
            attributes=plan.attributes,
        )
        child = Child(
            spec,
            plan,
            ChildState.FORKING,
            started_s=now_s,
            deadline_s=now_s + FORK_TIMEOUT_S,
            fingerprint=self._roster.fork_servers[generation].fingerprint,
            limits=spread_limits(plan.recycling, random=self._random()),
        )
        self._roster.children[spec.worker_id] = child
        self._out.append(fx.Fork(spec))
        return child

    def start_successor(
        self, place: Place, plan: GroupPlan, generation: int, now_s: float, *, trial: bool = False
    ) -> Start:
        """Have a child made beside the one that fills the place, if that can be."""
        if not self.is_booted(generation):
            return Start.NO_SERVER
        if not self.has_room(plan):
            return Start.NO_ROOM
        child = self.start_child(place, plan, generation, now_s)
        child.trial = trial
        place.successor = child.worker_id
        return Start.STARTED

    def is_successor_running(self, place: Place) -> bool:
        """Tell whether a place's successor could take over."""
        successor = self._roster.successor_of(place)
        return successor is not None and successor.state is ChildState.RUNNING

    def take_over(self, place: Place, now_s: float) -> None:
        """Make the successor the child that fills the place, and send the old one away."""
        old = self._roster.current_of(place)
        place.current, place.successor = place.successor, None
        place.failures, place.misconfigured = 0, False
        if old is not None:
            self._life.drain(old, now_s)

    def dismiss(self, place: Place, now_s: float) -> None:
        """Send the successor away, if there is one."""
        successor = self._roster.successor_of(place)
        if successor is not None:
            place.successor = None
            self._life.drain(successor, now_s)

    def take_turns(
        self, turns: Turns, plan: tuple[GroupPlan, ...], generation: int, now_s: float, *, trial: bool = False
    ) -> Progress:
        """Let a ready successor take over, and start the next one."""
        self.take_back_dismissed(turns)
        if turns.active is not None and not self._end_turn(turns, now_s):
            return Progress.WAITING
        groups = {group.name: group for group in plan}
        while turns.pending:
            place = self._roster.places.get(turns.pending[0])
            group = groups.get(place.plan.name) if place else None
            if place is None or group is None:
                turns.pending.pop(0)
                continue
            self.dismiss(place, now_s)  # of a recycling, which this comes before
            start = self.start_successor(place, group, generation, now_s, trial=trial)
            if start is Start.NO_ROOM and not self.is_room_coming():
                return Progress.NO_ROOM
            if start is Start.STARTED:
                turns.active = turns.pending.pop(0)
            return Progress.WAITING
        return Progress.DONE

    def take_back_dismissed(self, turns: Turns) -> None:
        """Give a place its turn again whose successor was sent away for what was not its fault."""
        place = None if turns.active is None else self._roster.places.get(turns.active)
        if turns.active is not None and place is not None and place.successor is None:
            turns.pending.insert(0, turns.active)
            turns.active = None

    def _end_turn(self, turns: Turns, now_s: float) -> bool:
        place = None if turns.active is None else self._roster.places.get(turns.active)
        if place is not None:  # a place that is gone took its successor with it
            if not self.is_successor_running(place):
                return False
            self.take_over(place, now_s)
            turns.replaced += 1
        turns.active = None
        return True
