"""The facts: places, children and fork servers, without any decision about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from soniqd.model.child import ChildSpec, ExitCause, GroupPlan, Slot


class ChildState(StrEnum):
    """See the package's design note."""

    FORKING = "forking"
    STARTING = "starting"
    RUNNING = "running"
    LEAVING = "leaving"
    HUNG = "hung"


@dataclass(slots=True)
class Child:
    """One incarnation. ``deadline_s``: its present state has lasted too long then; ``expected``: it was told to go."""

    spec: ChildSpec
    plan: GroupPlan
    state: ChildState
    started_s: float
    deadline_s: float | None
    pid: int | None = None
    ready_s: float | None = None
    expected: bool = False
    talks: bool = False
    tick: int = -1
    ticked_s: float = 0.0

    @property
    def worker_id(self) -> str:
        """The incarnation's id."""
        return self.spec.worker_id


@dataclass(slots=True)
class Place:
    """A slot that the plan wants filled. ``generation`` is the one that its next child comes from."""

    plan: GroupPlan
    index: int
    generation: int
    current: str | None = None
    successor: str | None = None
    next_start_s: float = 0.0
    failures: int = 0
    restarts: int = 0
    misconfigured: bool = False
    wanted: bool = True
    last_exit: ExitCause | None = None

    @property
    def slot(self) -> Slot:
        """The place's name."""
        return Slot(f"{self.plan.name}/{self.index}")


@dataclass(slots=True)
class ForkServer:
    """A generation's fork server. ``retry_s`` is when to boot it again after it was lost; None while it runs."""

    generation: int
    booted: bool = False
    booted_s: float = 0.0
    retry_s: float | None = None
    losses: int = 0


@dataclass(slots=True)
class Rollout:
    """A reload on its way: the places still to be replaced, and what to go back to."""

    generation: int
    previous_generation: int
    previous_plan: tuple[GroupPlan, ...]
    plan: tuple[GroupPlan, ...]
    booted: bool = False
    pending: list[Slot] = field(default_factory=list)
    active: Slot | None = None
    replaced: int = 0
    error: str | None = None

    @property
    def rolling_back(self) -> bool:
        """It failed, and the places it had replaced go back to the previous generation."""
        return self.error is not None

    @property
    def target(self) -> int:
        """The generation that successors come from."""
        return self.previous_generation if self.rolling_back else self.generation


@dataclass(slots=True)
class Roster:
    """All facts together."""

    plan: tuple[GroupPlan, ...]
    settled_plan: tuple[GroupPlan, ...] = ()
    """The plan that ``generation`` was rolled out with: what a failed reload goes back to."""
    generation: int = 1
    newest_generation: int = 1
    places: dict[Slot, Place] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    fork_servers: dict[int, ForkServer] = field(default_factory=dict)
    paused_groups: set[str] = field(default_factory=set)

    def place_of(self, child: Child) -> Place | None:
        """Return the place that a child fills or is about to fill; None for a retiring child."""
        place = self.places.get(child.spec.slot)
        return place if place and child.worker_id in (place.current, place.successor) else None

    def apply_plan(self, plan: tuple[GroupPlan, ...], generation: int) -> list[Slot]:
        """Make the places be those of ``plan``; new ones start from ``generation``. Returns all slots, in order."""
        self.plan = plan
        slots = []
        for group, index in _positions(plan):
            slot = Slot(f"{group.name}/{index}")
            slots.append(slot)
            place = self.places.get(slot)
            if place is None:
                self.places[slot] = Place(group, index, generation)
            else:
                place.plan, place.wanted = group, True
        for slot, place in self.places.items():
            place.wanted = slot in slots
        return slots


def _positions(plan: tuple[GroupPlan, ...]) -> Iterator[tuple[GroupPlan, int]]:
    for group in plan:
        for index in range(1, group.processes + 1):
            yield group, index
