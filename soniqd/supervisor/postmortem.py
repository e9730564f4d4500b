"""What is found out about a child that has ended: why, which jobs it really ran, and what it did at the end.

A worker holds more jobs than it runs, and several run at once, so that its death alone blames nobody. The memory that
it shared with the master says which jobs had begun and not ended at that moment: those count a crash, the others go
back as if they had not been claimed. A worker that was ended because its event loop stood still names the one job that
blocked the loop, if it could: then the jobs beside it are no more to blame than those that had not begun.

The black box has what the signal handlers of a dying process wrote, and the stacks that a hung one was asked for. They
go to the log, and to the rows of the jobs that are blamed.
"""

from __future__ import annotations

import asyncio
import signal
import uuid
from dataclasses import dataclass

from soniqd.log import catalogue, emit
from soniqd.model import JobId, WorkerId
from soniqd.model.child import ExitCause
from soniqd.policy.supervision import effects as fx
from soniqd.supervisor.box import Remains
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.ledger import PendingRelease
from soniqd.supervisor.oom import MemoryKills

ANSWER_TIMEOUT_S = 0.6
"""How long a hung child gets to write its stacks before it is aborted; the monitor in it looks every 0.2 s."""
POLL_S = 0.02
MAX_STACKS_IN_ROW = 16_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one child."""

    remains: Remains
    hung: bool


class Postmortems:
    """Keeps findings from a child's exit until its jobs are released."""

    def __init__(self, memory_kills: MemoryKills | None = None) -> None:
        self.memory_kills = memory_kills or MemoryKills()
        self._findings: dict[str, Finding] = {}
        self._aborts: set[asyncio.Task[None]] = set()

    @property
    def aborting(self) -> bool:
        """A hung child is being asked for its stacks before it is aborted."""
        return bool(self._aborts)

    def abort(self, child: ChildProcess) -> None:
        """End a hung child: first it is asked for its stacks, then SIGABRT makes it dump those of its threads."""
        child.hung = True
        abort = asyncio.get_running_loop().create_task(_abort(child))
        self._aborts.add(abort)
        abort.add_done_callback(self._aborts.discard)

    def examine(self, child: ChildProcess, cause: ExitCause) -> ExitCause:
        """Take up what an ended child has left, log its last stacks, and return why it ended."""
        remains = child.remains
        if child.spec.role == "worker":
            self._findings[child.spec.worker_id] = Finding(remains, child.hung)
        if remains.stacks:
            emit(
                catalogue.CHILD_STACKS,
                slot=child.spec.slot,
                pid=child.pid,
                running=len(remains.running),
                traceback=remains.stacks,
            )
        return self.memory_kills.explain(cause)

    def release(self, effect: fx.Release) -> PendingRelease:
        """Add to a release whom it blames, and why."""
        finding = self._findings.pop(effect.worker_id, None)
        reason, blamed = effect.reason, None
        if finding is not None and effect.cause == "crash":
            blamed = blamed_jobs(finding)
            if finding.hung:
                reason = f"{reason}: it hung"
            if finding.remains.stacks:
                reason = f"{reason}\n\n{finding.remains.stacks[:MAX_STACKS_IN_ROW]}"
        return PendingRelease(WorkerId(effect.worker_id), effect.slot, effect.cause, reason, blamed)


def blamed_jobs(finding: Finding) -> frozenset[JobId]:
    """Return whose fault the end of a worker may be: those that the worker does not hold any more count nothing.

    A job can break its worker so that it dies just after the handler returned, before its end is written down.
    """
    remains = finding.remains
    if finding.hung and remains.blocker is not None:
        names: tuple[str, ...] = (remains.blocker.job_id,)
    else:
        names = (*(job.job_id for job in remains.running), *remains.ended)
    return frozenset(job_id for name in names if (job_id := _as_id(name)) is not None)


def _as_id(text: str) -> JobId | None:
    """A child can write what it likes into its memory; a statement wants an id."""
    try:
        return JobId(str(uuid.UUID(text)))
    except ValueError:
        return None


async def _abort(child: ChildProcess) -> None:
    await ask_for_stacks(child, ANSWER_TIMEOUT_S)
    child.signal(signal.SIGABRT)


async def ask_for_stacks(child: ChildProcess, timeout_s: float) -> bool:
    """Let a child write its stacks into the black box; return whether it did, in time and alive."""
    box, loop = child.box, asyncio.get_running_loop()
    asked = None if box.closed else box.memory.ask()
    deadline_s = loop.time() + timeout_s
    while not box.closed and loop.time() < deadline_s:
        if box.memory.answered == asked:
            return True
        await asyncio.sleep(POLL_S)
    return False
