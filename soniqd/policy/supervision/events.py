"""What the machine is told. Children are named by their ``worker_id``, fork servers by their generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from soniqd.model.child import ExitCause, GroupPlan


@dataclass(frozen=True, slots=True)
class Booted:
    """A generation's jobs modules are imported. Equal ``fingerprint``s mean equal code; "" equals nothing."""

    generation: int
    fingerprint: str = ""


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
    """Roll a new generation out, under a possibly changed plan; ends a reload under way.

    Only what is affected is replaced: groups whose plan changed, and every group if the code did (fingerprints differ)
    or with ``everything`` (somebody asked for it, or settings changed that every child depends on).
    First one child of each affected group has to last ``probation_s`` beside the old ones. A new generation fails when
    its share of failed runs is ``failure_jump`` above the old one's (1: never for that). Scaled groups keep their
    number while the plan's own stays the same, unless ``unscale``.
    """

    plan: tuple[GroupPlan, ...]
    everything: bool = False
    probation_s: float = 0.0
    failure_jump: float = 1.0
    unscale: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Replace the children of these groups, place by place and replacement first, by fresh ones of the same code."""

    request: int
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """Run so many children in a group, until a reload says otherwise; one that has booted is waited for."""

    group: str
    processes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one child has done and holds; ``memory_bytes`` None if it was not measured this time."""

    done: int
    failed: int
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the children have done and hold, by ``worker_id``; told every few seconds."""

    values: Mapping[str, Usage]


@dataclass(frozen=True, slots=True)
class Budgeted:
    """The most database connections that all children together may hold from now on; None: no bound."""

    max_connections: int | None


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
    | Restart
    | Scale
    | Measured
    | Budgeted
    | Pause
    | Resume
    | Elapsed
)
