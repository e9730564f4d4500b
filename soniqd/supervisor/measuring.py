"""What children have done and what memory they hold, told to the supervision machine every moment.

Counts are what the children themselves report, and cost nothing. Memory is what the kernel says of a process's own,
unshared pages: what the fork server's children share with it would be counted once for each in RSS, and their share of
it would change in PSS with every sibling that comes and goes. The kernel walks the page tables for it, which took 8 ms
of processor time for a child of 350 MB, so it is asked only for groups that set ``max_memory``, every few seconds, one
process after the other, and in a thread: the loop must not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from soniqd.log import catalogue, emit
from soniqd.policy.supervision import events as ev
from soniqd.supervisor.child import ChildProcess

INTERVAL_S = 1.0
MEMORY_EVERY = 5
"""Memory is measured in every so many rounds: a worker that grows by 100 MB/s is found 500 MB late at most."""

_PRIVATE = frozenset({"Private_Clean", "Private_Dirty", "Private_Hugetlb", "SwapPss"})
"""Swapped pages count: who is over its limit must not get below it by being swapped out."""


def private_bytes(pid: int) -> int:
    """Return how much memory a process would give back with its end (proc_pid_smaps(5)); raises OSError."""
    total_kb = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in _PRIVATE:
            total_kb += int(value.split()[0])
    return 1024 * total_kb


class Measuring:
    """Measures for as long as it is started. ``watches_memory`` tells whether a child has a limit of memory."""

    def __init__(
        self,
        processes: Mapping[str, ChildProcess],
        *,
        watches_memory: Callable[[str], bool],
        tell: Callable[[ev.Event], None],
    ) -> None:
        self._processes = processes
        self._watches_memory = watches_memory
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._refused = False

    def start(self) -> None:
        """Begin to measure; needs the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep_measuring())

    async def close(self) -> None:
        """Measure no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_measuring(self) -> None:
        round_ = 0
        while True:
            await asyncio.sleep(INTERVAL_S)
            round_ += 1
            try:
                memory = await self._memory() if round_ % MEMORY_EVERY == 0 else {}
                self._tell(ev.Measured(self._usage(memory)))
            except Exception as error:  # noqa: BLE001  a duty that ended for a defect would end unseen
                emit(catalogue.DUTY_FAILED, exc_info=error, duty="measure children", error=str(error))

    def _usage(self, memory: Mapping[str, int]) -> dict[str, ev.Usage]:
        return {
            worker_id: ev.Usage(child.state.done, child.state.failed, memory.get(worker_id))
            for worker_id, child in self._processes.items()
            if child.pid is not None
        }

    async def _memory(self) -> dict[str, int]:
        watched = {id_: child.pid for id_, child in self._processes.items() if child.pid and self._watches_memory(id_)}
        measured = {}
        for worker_id, pid in watched.items():
            try:
                measured[worker_id] = await asyncio.to_thread(private_bytes, pid)
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
            except OSError as error:
                self._complain(error)
        return measured

    def _complain(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            emit(catalogue.MEMORY_UNREADABLE, error=error.strerror or str(error))
