"""What the machine is told. Children are named by their ``worker_id``, fork servers by their generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from soniqd.model.child import ExitCause, GroupPlan


@dataclass(frozen=True, slots=True)
class Booted:
    """A generation's jobs modules are imported."""

    generation: int


@dataclass(frozen=True, slots=True)
class BootFailed:
    """A generation cannot be used. ``fixable``: the modules or the configuration are wrong, trying again is no use."""

    generation: int
    reason: str
    fixable: bool


@dataclass(frozen=True, slots=True)
class ForkServerLost:
    """A booted fork server has died."""

    generation: int
    cause: ExitCause


@dataclass(frozen=True, slots=True)
class Forked:
    """A child exists."""

    worker_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """A child could not be made."""

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A child talks, so it has started; it may still wait for its database."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A child can work."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A child is gone. ``announced``: it said goodbye before; job code that ends the process does not."""

    worker_id: str
    cause: ExitCause
    announced: bool = True


@dataclass(frozen=True, slots=True)
class Disowned:
    """Another host has declared a living worker lost: its jobs run elsewhere, so it has to go."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Ticks:
    """The tick counters of all children with tick memory, read at one instant."""

    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave; ``now`` without letting jobs finish."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Reload:
    """Replace every child by one of a new generation, under a possibly changed plan; ends a reload under way."""

    plan: tuple[GroupPlan, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Claim nothing in a group, or anywhere."""

    group: str | None


@dataclass(frozen=True, slots=True)
class Resume:
    """Claim again."""

    group: str | None


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time has passed; nothing else happened."""


Event = (
    Booted
    | BootFailed
    | ForkServerLost
    | Forked
    | ForkFailed
    | Reported
    | Ready
    | Exited
    | Disowned
    | Ticks
    | Stop
    | Reload
    | Pause
    | Resume
    | Elapsed
)
