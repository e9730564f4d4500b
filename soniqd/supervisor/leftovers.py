"""Workers of this host that are not this master's: those of earlier masters, and of other masters that run here.

What dead ones held is released, unless their master lives, which knows better; the end of living ones is waited for.
What the jobs of a dead worker have started may outlive it: a living master kills that with the worker's process group,
and here it is killed before the jobs are given back, so that nothing goes on with a job that runs again.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from soniqd.backends import StorageBackend
from soniqd.backends.values import ReleaseCause
from soniqd.control.identity import group_members, is_alive
from soniqd.log import catalogue, emit
from soniqd.model import ProcessIdentity, WorkerId, WorkerRecord
from soniqd.policy.leftovers import decide_leftovers

_KILL_ROUNDS = 10
"""A process that forks while its group is killed is found in the next round."""


class ForeignWorkers:
    """``on_ended`` is called when :meth:`settle` should run again, since a process that it waits for has ended."""

    def __init__(
        self,
        backend: StorageBackend,
        here: ProcessIdentity,
        *,
        mine: Callable[[], set[WorkerId]],
        on_ended: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._here = here
        self._mine = mine
        self._on_ended = on_ended
        self._pidfds: dict[int, int] = {}

    @property
    def awaited(self) -> frozenset[int]:
        """Process ids whose end is waited for."""
        return frozenset(self._pidfds)

    async def settle(self, *, heartbeat_interval_s: float, max_crashes: int) -> None:
        """Look at all of them once."""
        found = await self._backend.host_leftovers(self._here.machine_id, self._here.hostname)
        mine = self._mine()
        workers = [worker for worker in found.workers if worker.id not in mine]
        decision = decide_leftovers(workers, self._here, alive=is_alive, heartbeat_interval_s=heartbeat_interval_s)
        for process in decision.awaited:
            self._await_end(process)
        await self._release(decision.crashed, cause="crash", max_crashes=max_crashes)
        await self._release(decision.interrupted, cause="interrupted", max_crashes=max_crashes)

    def close(self) -> None:
        """Wait for nobody any more."""
        for pid in list(self._pidfds):
            self._forget(pid)

    async def _release(self, workers: Sequence[WorkerRecord], *, cause: ReleaseCause, max_crashes: int) -> None:
        if not workers:
            return
        await asyncio.to_thread(self._end_groups, workers)  # it reads all of /proc, for each of them
        report = await self._backend.release_workers(
            [worker.id for worker in workers],
            cause=cause,
            max_crashes=max_crashes,
            error="the worker ended without a master to see how",
        )
        emit(
            catalogue.LEFTOVERS_RELEASED,
            workers=len(workers),
            requeued=len(report.requeued),
            dead_lettered=len(report.dead_lettered),
        )

    def _end_groups(self, workers: Sequence[WorkerRecord]) -> None:
        for worker in workers:
            self._end_group(worker)

    def _end_group(self, worker: WorkerRecord) -> None:
        """Kill what its jobs have left running; a worker that held none has left on purpose what it left."""
        process, here = worker.process, self._here
        same_pids = (process.boot_id, process.pid_namespace) == (here.boot_id, here.pid_namespace)
        if not same_pids or not worker.jobs_processing:
            return
        killed: set[int] = set()
        for _ in range(_KILL_ROUNDS):
            members = group_members(process)
            if not members:
                break
            for member in members:
                _kill(member)
            killed.update(member.pid for member in members)
        if killed:
            emit(catalogue.REMAINS_KILLED, count=len(killed), slot=worker.slot, worker_id=worker.id)

    def _await_end(self, process: ProcessIdentity) -> None:
        """Notice its end at once, though it is no child of this master (pidfd_open(2))."""
        if process.pid in self._pidfds:
            return
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._on_ended()  # since it was looked at
            return
        except OSError:
            return
        self._pidfds[process.pid] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._ended, process.pid)

    def _ended(self, pid: int) -> None:
        self._forget(pid)
        self._on_ended()

    def _forget(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)


def _kill(process: ProcessIdentity) -> None:
    """Kill this very process: the descriptor is had first, then it is looked whether the pid still means it."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if is_alive(process):
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
