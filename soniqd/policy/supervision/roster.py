"""The facts: places, children and fork servers, without any decision about them. All of it is plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from soniqd.model.child import ChildSpec, ExitCause, GroupPlan, Recycling, Slot
from soniqd.policy.supervision.changes import RollingRestart, Rollout, RolloutStage


class ChildState(StrEnum):
    """See the package's design note."""

    FORKING = "forking"
    STARTING = "starting"
    RUNNING = "running"
    LEAVING = "leaving"
    HUNG = "hung"


@dataclass(slots=True)
class Child:
    """One incarnation.

    ``deadline_s``: its present state has lasted too long then; ``ready_by_s``: a successor has to be ready by then;
    ``expected``: it was told to go; ``trial``: it comes from a generation that has not proven itself; ``limits``: its
    own spread limits of ``plan.recycling``; ``worn``: which of them it has reached, in words.
    """

    spec: ChildSpec
    plan: GroupPlan
    state: ChildState
    started_s: float
    deadline_s: float | None
    fingerprint: str = ""
    trial: bool = False
    pid: int | None = None
    ready_s: float | None = None
    ready_by_s: float | None = None
    expected: bool = False
    talks: bool = False
    tick: int = -1
    ticked_s: float = 0.0
    silent_s: float = 0.0
    done: int = 0
    failed: int = 0
    limits: Recycling = field(default_factory=Recycling)
    worn: str = ""
    recycle_after_s: float = 0.0

    @property
    def worker_id(self) -> str:
        """The incarnation's id."""
        return self.spec.worker_id

    @property
    def leaves(self) -> bool:
        """It is on its way out, so that what it holds becomes free without anybody's doing."""
        return self.expected or self.state is ChildState.HUNG


@dataclass(slots=True)
class Place:
    """A slot that the plan wants filled. ``wanted`` is False for one that only a rollout under way has."""

    plan: GroupPlan
    index: int
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
    fingerprint: str = ""
    retry_s: float | None = None
    losses: int = 0


@dataclass(slots=True)
class Roster:
    """All facts together.

    ``configured`` is the plan as the settings in force say it, ``plan`` the one in force: with ``scaled`` numbers.
    ``max_connections`` bounds what all children together may hold; ``starved``: a place waits for some of it.
    """

    plan: tuple[GroupPlan, ...]
    configured: tuple[GroupPlan, ...] = ()
    scaled: dict[str, int] = field(default_factory=dict)
    generation: int = 1
    newest_generation: int = 1
    places: dict[Slot, Place] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    fork_servers: dict[int, ForkServer] = field(default_factory=dict)
    paused_groups: set[str] = field(default_factory=set)
    max_connections: int | None = None
    starved: bool = False
    rollout: Rollout | None = None
    restarts: list[RollingRestart] = field(default_factory=list)

    @property
    def rolling_out(self) -> Rollout | None:
        """The rollout, once its generation has booted: from then on it has all successors to itself."""
        rollout = self.rollout
        return None if rollout is None or rollout.stage is RolloutStage.BOOTING else rollout

    @property
    def connections(self) -> int:
        """What the living children may hold together."""
        return sum(child.spec.connections for child in self.children.values())

    def current_of(self, place: Place) -> Child | None:
        """Return the child that fills a place."""
        return None if place.current is None else self.children[place.current]

    def successor_of(self, place: Place) -> Child | None:
        """Return the child that is to fill a place next."""
        return None if place.successor is None else self.children[place.successor]

    def place_of(self, child: Child) -> Place | None:
        """Return the place that a child fills or is about to fill; None for a retiring child."""
        place = self.places.get(child.spec.slot)
        return place if place and child.worker_id in (place.current, place.successor) else None

    def settle_places(self) -> None:
        """Make the wanted places be those of the plan in force."""
        slots = set()
        for slot, group, index in positions(self.plan):
            slots.add(slot)
            place = self.places.setdefault(slot, Place(group, index))
            place.plan, place.wanted = group, True
        for slot, place in self.places.items():
            place.wanted = slot in slots


def positions(plan: tuple[GroupPlan, ...]) -> Iterator[tuple[Slot, GroupPlan, int]]:
    """List what a plan wants, in its order."""
    for group in plan:
        for index in range(1, group.processes + 1):
            yield Slot(f"{group.name}/{index}"), group, index
