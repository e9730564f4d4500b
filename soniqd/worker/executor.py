"""Slots for running jobs, and the few claimed ones that wait for a slot."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from soniqd.log import catalogue, emit
from soniqd.model import ClaimedJob, Outcome
from soniqd.policy.outcome import Ending, Interrupted, Unstarted, decide_outcome
from soniqd.queue.registry import TaskRegistry
from soniqd.worker.bell import Bell
from soniqd.worker.board import Board
from soniqd.worker.options import WorkerOptions
from soniqd.worker.pipeline import Pipeline
from soniqd.worker.run import Plan, Run
from soniqd.worker.starting import EAGER, Starter

_BURST_S = 0.0003
"""How long jobs are started in one go where they may end in it: whoever claims or writes must get to their turn."""
_LONGEST_WAIT_S = 3600.0  # event loops refuse timers without an end
Submit = Callable[[Outcome, Run | None], None]


class Executor:
    """Starts jobs in the order in which they were claimed, at most ``concurrency`` at once.

    A job for a thread waits aside while all threads are busy, so that those behind it can start. What is given to it
    while it is closed goes straight back.

    A *suspect* is a job that ran when a worker of it died. It runs alone: everything that waits goes back, what runs
    may end, and only when ``unwritten()`` says that the database knows of all that does the suspect start. Thus a job
    that kills its workers costs each neighbour one crash at most, and if it does so again it alone is blamed.
    """

    def __init__(
        self,
        *,
        tasks: TaskRegistry,
        pipeline: Pipeline,
        options: WorkerOptions,
        submit: Submit,
        board: Board,
        unwritten: Callable[[], int],
        on_room: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._pipeline = pipeline
        self._options = options
        self._submit = submit
        self._board = board
        self._unwritten = unwritten
        self._on_room = on_room
        self._on_change = on_change
        self._plans: dict[str, Plan] = {}
        self._ready: deque[ClaimedJob] = deque()
        self._parked: deque[tuple[ClaimedJob, float]] = deque()
        self._running: dict[Run, None] = {}
        self._starter = Starter()
        self._filling = self._goes_on = False
        self._suspect: ClaimedJob | None = None
        self._alone = False
        self._threads_busy = 0
        self._left = Bell()
        self._open = True
        self._offered_at = 0.0
        self.ended = 0
        """Runs that have ended, ever: what the claimer measures the rate by."""
        self.low_water = -1
        """``on_room`` is called when no more than so many jobs wait for a slot; -1: never."""

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def isolating(self) -> bool:
        """A suspect runs, or waits until nothing else does: nothing is to be claimed."""
        return self._alone or self._suspect is not None

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not (self._running or self._ready or self._parked or self._alone or self._suspect)

    @property
    def free(self) -> int:
        return 0 if self.isolating else max(0, self._options.concurrency - len(self._running) - len(self._ready))

    @property
    def waiting(self) -> int:
        """Jobs that hold no slot yet, a suspect not counted."""
        return len(self._ready) + len(self._parked)

    @property
    def ready(self) -> int:
        """Jobs that wait for a slot, those for a thread that is busy not counted."""
        return len(self._ready)

    @property
    def parked(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._parked)

    @property
    def waiting_since(self) -> float | None:
        """Since when a job has waited for a thread, or jobs for a slot while no more were taken; None if none waits."""
        since = [self._parked[0][1]] if self._parked else []
        return min(since + [self._offered_at] * bool(self._ready), default=None)

    @property
    def threads_free(self) -> int:
        return self._options.sync_threads - self._threads_busy

    def running(self) -> Iterator[Run]:
        """Runs in flight, oldest first."""
        return iter(tuple(self._running))

    def jobs(self) -> set[tuple[str, int]]:
        """Name every claim that is held here: (job id, claim number)."""
        fences = [run.job.fence for run in self._running]
        fences += [job.fence for job in (*self._ready, *(job for job, _ in self._parked))]
        fences += [self._suspect.fence] if self._suspect is not None else []
        return {(fence.job_id, fence.claim_no) for fence in fences}

    def offer(self, jobs: Sequence[ClaimedJob]) -> None:
        """Take claimed jobs and start what has a slot."""
        self._offered_at = time.monotonic()
        self._ready.extend(jobs)
        if self._open:
            self._set_suspect_apart()
            ended = self.ended
            self._fill()
            if self.ended > ended:
                self._tell_room()
            else:
                self._on_change()
        else:
            self.give_back()

    def start_suspect(self) -> None:
        """Start a suspect if nothing is in its way any more."""
        if self._suspect is None or not self._open or self._running or self._unwritten():
            return
        job, self._suspect = self._suspect, None
        emit(catalogue.SUSPECT_STARTED, job_id=job.fence.job_id, job_name=job.name, crashes=job.crashes)
        self._alone = True  # before the start, in which it may end
        if not self._start(job):
            self._alone = False
        self._on_change()

    def set_open(self, *, is_open: bool) -> None:
        """Closed, it starts nothing more and gives back what has not started."""
        self._open = is_open
        if not is_open:
            if self._suspect is not None:
                self._ready.append(self._suspect)
                self._suspect = None
            self.give_back()

    def give_back(self) -> int:
        """Release all jobs that have not started; return how many."""
        count = self.waiting
        while self._ready or self._parked:
            job = self._ready.popleft() if self._ready else self._parked.popleft()[0]
            self._submit(decide_outcome(job, Unstarted(), result_ttl_s=0), None)
        if count:
            self._on_change()
        return count

    def forget_waiting(self) -> None:
        """Drop what has not started without a word: it has been taken away already."""
        self._ready.clear()
        self._parked.clear()
        self._suspect = None

    def interrupt(self) -> None:
        """Cut all runs short."""
        for run in self.running():
            run.interrupt()

    def abandon(self, *, give_back: bool) -> int:
        """Leave runs that do not end behind; return how many of their jobs stay held.

        Nothing but the end of the process ends code in a thread. So without ``give_back`` the jobs stay with this
        worker, for whoever sees that end: given back before it, they would begin again elsewhere while they still run.
        """
        held = 0
        for run in self.running():
            run.abandoned = True
            emit(catalogue.JOB_LEFT_BEHIND, job_id=run.job.fence.job_id, job_name=run.job.name)
            if run.ending is not None or give_back:
                self._settle(run, run.ending or Interrupted())
            else:
                held += 1
                del self._running[run]
            if run.handle is not None:
                run.handle.cancel()
        return held

    async def wait_ended(self, left_s: Callable[[], float], *, threads_too: bool = True) -> None:
        """Wait until nothing runs, with or without what runs in threads, or ``left_s()`` is used up."""
        while any(threads_too or not run.in_thread for run in self._running) and (left := left_s()) > 0:
            await self._left.wait(min(left, _LONGEST_WAIT_S))

    def poke(self) -> None:
        """Let ``wait_ended`` look at the time again."""
        self._left.ring()

    def _set_suspect_apart(self) -> None:
        suspect = next((job for job in self._ready if job.crashes), None)
        if suspect is not None and not self.isolating:
            self._ready.remove(suspect)
            self._suspect = suspect
        if self.isolating:
            self.give_back()
            self.start_suspect()

    def _fill(self) -> None:
        """Give slots to what waits. Jobs that end while they are started make room for the next ones in here."""
        if self._filling or not self._open:
            return
        self._filling = True
        until = time.monotonic() + _BURST_S
        try:
            while self._start_next():
                if EAGER and time.monotonic() >= until:
                    self._go_on_soon()
                    return
        finally:
            self._filling = False

    def _go_on_soon(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self._fill()
        self._tell_room()

    def _start_next(self) -> bool:
        """Start the first job that can; return whether there may be another one."""
        if len(self._running) >= self._options.concurrency:
            return False
        if self._parked and self._threads_busy < self._options.sync_threads:
            self._start(self._parked.popleft()[0])
        elif self._ready:
            self._start(self._ready.popleft())
        else:
            return False
        return True

    def _start(self, job: ClaimedJob) -> bool:
        plan = self._plans.get(job.name) or self._plan(job)
        if plan is None:
            return False
        if not plan.is_async:
            if self._threads_busy >= self._options.sync_threads:
                self._parked.append((job, time.monotonic()))
                return False
            self._threads_busy += 1
        run = Run(job, plan)
        self._running[run] = None
        run.handle = self._starter.start(self._execute(run))
        return True

    def _plan(self, job: ClaimedJob) -> Plan | None:
        task = self._tasks.get(job.name)
        if task is None:  # claims ask for registered names only; a job of any other goes back as it was
            self._submit(decide_outcome(job, Unstarted(), result_ttl_s=0), None)
            return None
        plan = self._plans[job.name] = Plan.of(task, default_timeout_s=self._options.job_timeout_s)
        return plan

    async def _execute(self, run: Run) -> None:
        if run.handle is None:
            run.handle = asyncio.current_task()
        run.slot = self._board.begin(run.job.fence.job_id)
        ending = await self._pipeline.take(run)
        if run.abandoned:
            emit(catalogue.JOB_ENDED_TOO_LATE, job_id=run.job.fence.job_id, job_name=run.job.name)
            return
        was_alone, self._alone = self._alone, False
        self._settle(run, ending)
        if self._filling and not was_alone:
            return  # who fills goes on, and tells
        if self._ready or self._parked:
            self._fill()
        self._tell_room(anyhow=was_alone)

    def _tell_room(self, *, anyhow: bool = False) -> None:
        if len(self._ready) <= self.low_water or anyhow:
            self._on_room()
        self._on_change()

    def _settle(self, run: Run, ending: Ending) -> None:
        del self._running[run]
        self._board.end(run.slot)
        run.ended_at = time.monotonic()
        self.ended += 1
        if not run.plan.is_async:
            self._threads_busy -= 1
        self._submit(decide_outcome(run.job, ending, result_ttl_s=self._options.result_ttl_s), run)
        if not self._open:
            self._left.ring()
