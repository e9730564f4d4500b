"""The facts of changes under way: a rollout, a rolling restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from soniqd.model.child import GroupPlan, Slot
from soniqd.policy.supervision.failure_jump import Comparison


@dataclass(slots=True)
class Turns:
    """Places whose children are replaced one after the other; ``active`` has a successor on its way."""

    pending: list[Slot] = field(default_factory=list)
    active: Slot | None = None
    replaced: int = 0


class RolloutStage(StrEnum):
    """See the package's design note."""

    BOOTING = "booting"
    PROVING = "proving"
    ROLLING = "rolling"
    GOING_BACK = "going_back"


@dataclass(slots=True)
class Rollout:
    """A reload on its way.

    ``configured`` is what the new settings say, ``plan`` what that means with the ``scaled`` numbers that stay.
    ``untried`` are the places whose canary is still to be started, ``canaries`` those whose canary is on probation;
    ``turns`` are the others, or, going back, those to be taken back. ``down`` are groups of which nothing ran before.
    """

    generation: int
    configured: tuple[GroupPlan, ...]
    scaled: dict[str, int]
    everything: bool
    probation_s: float
    failure_jump: float
    stage: RolloutStage = RolloutStage.BOOTING
    plan: tuple[GroupPlan, ...] = ()
    untried: list[Slot] = field(default_factory=list)
    canaries: list[Slot] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)
    down: set[str] = field(default_factory=set)
    runs: dict[str, Comparison] = field(default_factory=dict)
    replaced: int = 0
    kept: int = 0
    tries: dict[Slot, int] = field(default_factory=dict)
    retry_s: float = 0.0
    boots_failed: int = 0
    error: str | None = None


@dataclass(slots=True)
class RollingRestart:
    """Children of ``groups`` from before ``asked_s`` are being replaced; ``turns`` None: its time is to come."""

    request: int
    groups: tuple[str, ...]
    asked_s: float
    turns: Turns | None = None
