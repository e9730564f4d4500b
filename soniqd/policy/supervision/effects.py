"""What the machine asks for. The master carries effects out in order and reports what came of them as events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from soniqd.log.event import Event as LogEvent
from soniqd.model.child import ChildSpec, Slot


@dataclass(frozen=True, slots=True)
class Boot:
    """Start a fork server for this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """End a generation's fork server; its children are not touched."""

    generation: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a child."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell a child to finish what runs and leave."""

    worker_id: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class SetPaused:
    """Tell a child to claim nothing, or to claim again."""

    worker_id: str
    paused: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """Signal a child (``group``: with every process that it started)."""

    worker_id: str
    signal: Literal["QUIT", "ABRT", "KILL"]
    group: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop a child whose fork was lost: should it exist after all, the end of its link makes it leave."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """Give the jobs of a worker incarnation that is gone back to their queues."""

    worker_id: str
    slot: Slot
    cause: Literal["crash", "interrupted"]
    reason: str


@dataclass(frozen=True, slots=True)
class ReloadEnded:
    """The reload to ``attempted`` has ended; ``generation`` is in force, and ``error`` says why if that is another.

    ``kept`` counts children that were not affected and stayed.
    """

    attempted: int
    generation: int
    replaced: int
    error: str | None
    kept: int = 0


@dataclass(frozen=True, slots=True)
class RestartEnded:
    """The rolling restart ``request`` has ended; ``error`` says why if not everything was replaced."""

    request: int
    replaced: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """Log an event."""

    event: LogEvent
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to supervise: leave with this exit code."""

    exit_code: int


Effect = (
    Boot | Retire | Fork | Drain | SetPaused | Kill | Forget | Release | ReloadEnded | RestartEnded | Report | Finish
)
