"""Which children the duties towards the database are about: those that heartbeat, those that could claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from soniqd.model import WorkerId
from soniqd.policy.supervision.roster import ChildState, Roster
from soniqd.policy.waking import Sleeper
from soniqd.supervisor.child import ChildProcess

_RUNNING = (ChildState.RUNNING,)
_LIVING = (ChildState.RUNNING, ChildState.LEAVING, ChildState.HUNG)


def living_workers(roster: Roster, processes: Mapping[str, ChildProcess]) -> list[WorkerId]:
    """List the workers that have registered and not ended."""
    ready = _workers_in(roster, processes, _LIVING)
    return [WorkerId(child.spec.worker_id) for child in ready if child.state.phase != "starting"]


def sleepers(roster: Roster, processes: Mapping[str, ChildProcess]) -> list[Sleeper]:
    """List the workers that may be woken, with what they have room for."""
    return [
        Sleeper(child.spec.worker_id, child.spec.queues, child.state.free, child.state.in_flight)
        for child in _workers_in(roster, processes, _RUNNING)
    ]


def looks_at_rest(processes: Mapping[str, ChildProcess], worker_id: str) -> int | None:
    """Tell how often a worker has looked for jobs, as its memory has it; None while it runs any."""
    process = processes.get(worker_id)
    return process.box.memory.looks_at_rest() if process is not None else None


def jobs_ended(processes: Mapping[str, ChildProcess]) -> int:
    """Count what the children have run; less when one is gone."""
    return sum(child.state.done + child.state.failed for child in processes.values())


def _workers_in(
    roster: Roster, processes: Mapping[str, ChildProcess], states: tuple[ChildState, ...]
) -> Iterator[ChildProcess]:
    for child in roster.children.values():
        if child.state in states and child.spec.role == "worker":
            process = processes.get(child.spec.worker_id)
            if process is not None:
                yield process
