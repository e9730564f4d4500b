"""Which children the duties towards the database are about: those that heartbeat, those that could claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from soniqd.model import WorkerId
from soniqd.policy.supervision.roster import ChildState, Roster
from soniqd.policy.waking import Sleeper
from soniqd.supervisor.child import ChildProcess

_LIVING = (ChildState.RUNNING, ChildState.LEAVING, ChildState.HUNG)


class Workforce:
    """The workers of a host, by what the roster decides and what they tell."""

    def __init__(self, roster: Callable[[], Roster], processes: Mapping[str, ChildProcess]) -> None:
        self._roster = roster
        self._processes = processes

    def living(self) -> list[WorkerId]:
        """List the workers that have registered and not ended."""
        return [WorkerId(one.spec.worker_id) for one in self._in_states(_LIVING) if one.state.phase != "starting"]

    def ended(self) -> int:
        """Count what the children have run; less when one is gone."""
        return sum(child.state.done + child.state.failed for child in self._processes.values())

    def sleepers(self) -> list[Sleeper]:
        """List the workers that may be woken, with what they have room for."""
        return [_sleeper(process) for process in self._in_states((ChildState.RUNNING,))]

    def sleeper(self, worker_id: str) -> Sleeper | None:
        """Return one of those."""
        child, process = self._roster().children.get(worker_id), self._processes.get(worker_id)
        return _sleeper(process) if child and process and child.state is ChildState.RUNNING else None

    def _in_states(self, states: tuple[ChildState, ...]) -> Iterator[ChildProcess]:
        for child in self._roster().children.values():
            if child.state in states and child.spec.role == "worker":
                process = self._processes.get(child.spec.worker_id)
                if process is not None:
                    yield process


def _sleeper(process: ChildProcess) -> Sleeper:
    """Describe a worker: what it runs by its memory, since it tells of that a moment later, or never, if it hangs."""
    memory = process.box.memory
    return Sleeper(
        process.spec.worker_id,
        process.spec.queues,
        process.state.free,
        memory.in_flight,
        memory.begun,
        memory.looks,
    )
