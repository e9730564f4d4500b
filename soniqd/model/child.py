"""What the master wants to run, and one child of it."""

from __future__ import annotations

from dataclasses import dataclass
from signal import Signals
from typing import Literal, NewType

Slot = NewType("Slot", str)
"""Name of a place for a child, as people see it: ``default/2``, ``scheduler/1``."""

_SIGNAL_NAMES = {int(number): number.name for number in Signals}

Role = Literal["worker", "scheduler"]


@dataclass(frozen=True, slots=True)
class ProcessAttributes:
    """What the kernel is told about a child before any of its work begins; None and empty leave things as they are.

    ``rlimits`` has names as in resource(3) without RLIMIT_ (``nofile``), -1 for no limit; ``user`` and ``group`` need a
    master that is root.
    """

    env: tuple[tuple[str, str], ...] = ()
    nice: int | None = None
    cpu_affinity: tuple[int, ...] = ()
    rlimits: tuple[tuple[str, int], ...] = ()
    user: str | None = None
    group: str | None = None
    umask: int | None = None


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a healthy child is replaced; 0 is never. ``max_memory_bytes`` counts what is private to the process."""

    max_jobs: int = 0
    max_age_s: float = 0.0
    max_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group of equal children.

    ``hang_timeout_s`` 0 switches the hang watchdog off; ``block_warning_s`` is after how long a blocked loop is
    reported, 0 is never; ``stop_signal_timeout_s`` is what a child gets beyond its drain timeout before it is killed;
    ``connections`` is the most database connections that one child of it opens.
    """

    role: Role
    name: str
    processes: int
    concurrency: int = 1
    queues: tuple[str, ...] = ()
    drain_timeout_s: float = 30.0
    hang_timeout_s: float = 0.0
    block_warning_s: float = 1.0
    stop_signal_timeout_s: float = 5.0
    connections: int = 0
    recycling: Recycling = Recycling()
    attributes: ProcessAttributes = ProcessAttributes()


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a child is to be. ``worker_id`` is the incarnation, chosen by the master before the child exists."""

    role: Role
    group: str
    index: int
    generation: int
    worker_id: str
    concurrency: int = 1
    queues: tuple[str, ...] = ()
    drain_timeout_s: float = 30.0
    block_warning_s: float = 1.0
    stop_signal_timeout_s: float = 5.0
    connections: int = 0
    attributes: ProcessAttributes = ProcessAttributes()

    @property
    def slot(self) -> Slot:
        """The place's name."""
        return Slot(f"{self.group}/{self.index}")


@dataclass(frozen=True, slots=True)
class ExitCause:
    """How a process ended: exactly one of an exit code and a signal number; both None if nobody knows.

    ``out_of_memory``: the kernel counted a process that it killed for want of memory when this one was killed.
    ``not_started``: why there never was a process.
    """

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    not_started: str = ""

    @property
    def clean(self) -> bool:
        """It left by itself and had nothing to complain about."""
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is not None:
            name = _SIGNAL_NAMES.get(self.signal)
            words = f"signal {self.signal} ({name})" if name else f"signal {self.signal}"
            return f"{words}, out of memory" if self.out_of_memory else words
        if self.not_started:
            return f"not started: {self.not_started}"
        return "unknown" if self.code is None else f"exit code {self.code}"
