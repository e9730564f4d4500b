"""Asks for jobs: one statement for as many as there is room for.

It asks when something was announced, when the last answer was as full as it could be (more may be there), when a time
has come at which something is due, and at the poll interval behind all that. A wake-up is used up *before* the claim
that answers it, so that one which comes while the claim is under way asks again.

How much there is room for is another part's business (asking.py). Jobs that find no slot for ``prefetch_ttl_s`` go
back.

Under a master, which hears of every job for later and makes it claimable when it is due, the worker is only the second
to look: a second after its own retries are due, and, in half of a group's workers, at each
``_FALLBACK_POLLS``-th poll.

Failure model: while the database is away it tries again ever more slowly (see Outage). A claim whose answer was lost
may have taken jobs: ``claims_of`` finds them, at once and again after ``_LATE_COMMIT_S``.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable

from soniqd.backends import StorageBackend
from soniqd.errors import DatabaseError
from soniqd.log import catalogue, emit
from soniqd.model import WorkerId
from soniqd.policy.polls import until_next_poll_s
from soniqd.queue.registry import TaskRegistry
from soniqd.worker.asking import ALWAYS, NEVER, Ask, Asking
from soniqd.worker.bell import Bell
from soniqd.worker.board import Board
from soniqd.worker.completer import Completer
from soniqd.worker.executor import Executor
from soniqd.worker.options import WorkerOptions
from soniqd.worker.outage import Outage

_PROMOTE_LIMIT = 1000
_LATE_COMMIT_S = 35.0  # beyond the deadline of a statement whose client has given up on it
_LOOK_STEP_S = 1.0
_FALLBACK_S = 1.0
_FALLBACK_POLLS = 6


class Claimer:
    """Keeps the executor supplied, until stopped."""

    def __init__(
        self,
        *,
        backend: StorageBackend,
        worker_id: WorkerId,
        tasks: TaskRegistry,
        options: WorkerOptions,
        executor: Executor,
        completer: Completer,
        board: Board,
        outage: Outage,
        supervised: bool = False,
        until_empty: bool = False,
        on_more: Callable[[], None] | None = None,
        on_looked: Callable[[], None] | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.looked_at: float | None = None
        """When a claim was last answered, so that nothing was overlooked; to the second, so that it costs nothing."""
        self._on_looked = on_looked
        self._backend = backend
        self._tasks = tasks
        self._options = options
        self._queues = options.queues or None
        self._executor = executor
        self._completer = completer
        self._board = board
        self._asking = Asking(tasks=tasks, options=options, executor=executor, completer=completer)
        self._outage = outage
        self._supervised = supervised
        self._until_empty = until_empty
        self._bell = Bell()
        self._on_more = on_more
        self._woken = False
        self._news = True
        self._more = False
        self._paused = False
        self._stopped = False
        self._answered = False
        self._due_at = 0.0
        self._poll_at = 0.0
        self._polls = 0
        self._polled = False
        self._recheck_at: list[float] = []

    def wake(self, *, due_in_s: float | None = None) -> None:
        """Ask soon; with ``due_in_s``, ask when that time has come."""
        if due_in_s is None:
            self._news = self._woken = True
            if self._outage.is_on:
                self._outage.retry_now()
        else:
            due_at = time.monotonic() + due_in_s + (_FALLBACK_S if self._supervised else 0.0)
            if due_at >= self._due_at:
                return
            self._due_at = due_at
        self._bell.ring()

    def room(self) -> None:
        """Look again: a slot, a thread or the completer has become free."""
        self._bell.ring()

    def set_paused(self, *, paused: bool) -> None:
        self._paused = paused
        self._news = True
        self._bell.ring()

    def stop(self) -> None:
        self._stopped = True
        self._outage.retry_now()
        self._bell.ring()

    async def run(self) -> None:
        """Claim until stopped, or, with ``until_empty``, until nothing is left that could run now."""
        while not self._stopped:
            try:
                asked = await self._turn()
            except DatabaseError as error:
                self._outage.lost(error)
                await self._outage.pause()
                continue
            if self._answered:  # a whole turn: a look for due jobs says nothing about the claim behind it
                self._outage.back(writing=False)
            if self._until_empty and self._is_done():
                return
            if asked and self._wants and self._has_room():
                await asyncio.sleep(0)
            else:
                await self._bell.wait(self._idle_s())

    @property
    def free(self) -> int:
        """How many jobs more it would claim."""
        return self._asking.free

    @property
    def _wants(self) -> bool:
        return self._news or self._more

    async def _turn(self) -> bool:
        """Do what is to be done now; return whether that was a claim."""
        self._answered = False
        now = time.monotonic()
        self._give_back_stale(now)
        if self._paused or self._stopped:
            return False
        if not len(self._tasks):
            self._news = self._more = False  # no job can be for this worker
            self._due_at, self._poll_at = math.inf, now + self._options.poll_interval_s
            self._note_look()
            return False
        if now >= self._poll_at or now >= self._due_at:
            await self._promote(now)
        if self._recheck_at and now >= self._recheck_at[0]:
            await self._find_lost_claims()
        if self._asking.skipped_threads and self._executor.threads_free > 0:
            self._news = True
        if not self._wants:
            self._executor.low_water = ALWAYS if self._until_empty or self._asking.skipped_threads else NEVER
            return False
        asks = self._asking.asks(now)
        if not asks:
            return False
        self._news = self._more = False
        for ask in asks:
            await self._claim(ask)
        self._poll_at = time.monotonic() + self._until_poll_s()
        return True

    def _until_poll_s(self) -> float:
        options, polled = self._options, self._polled
        self._polled = False
        return until_next_poll_s(
            options.poll_interval_s,
            turn=options.poll_turn,
            turns=options.poll_turns,
            polled=polled,
            random=random.random(),  # noqa: S311  keeps a fleet's polls apart, no more
        )

    async def _claim(self, ask: Ask) -> None:
        try:
            jobs = await self._backend.claim(self.worker_id, names=ask.names, queues=self._queues, limit=ask.limit)
        except DatabaseError:
            self._news = True
            self._recheck_at = [0.0, time.monotonic() + _LATE_COMMIT_S]
            raise
        self._answered = True
        self._board.look()
        full = len(jobs) >= ask.limit
        self._more |= full or (self._until_empty and bool(jobs))  # only a claim that finds nothing has seen everything
        if jobs:
            self._executor.offer(jobs)  # before anything is told: they wait
            self._news |= self._executor.isolating  # ask again after the suspect: what came with it went back
        self._note_look()
        if full and self._woken and self._on_more is not None:
            self._woken = False
            self._on_more()

    def _note_look(self) -> None:
        now = time.monotonic()
        if self.looked_at is None or now - self.looked_at >= _LOOK_STEP_S:
            self.looked_at = now
            if self._on_looked is not None:
                self._on_looked()

    async def _promote(self, now: float) -> None:
        """Make due jobs claimable; a poll that finds none claims all the same."""
        polling = now >= self._poll_at
        if polling:
            self._news = self._polled = True
            self._poll_at = now + self._options.poll_interval_s
            self._polls += 1
            polling = not self._supervised or (self._options.poll_turn == 1 and self._polls % _FALLBACK_POLLS == 1)
        if not polling and now < self._due_at:
            return
        self._due_at = math.inf  # before the call: what is announced while it is under way counts
        try:
            report = await self._backend.promote_due(limit=_PROMOTE_LIMIT)
        except DatabaseError:
            self._due_at = 0.0
            raise
        self._answered = True
        if report.promoted:
            self._news = True
        if report.promoted >= _PROMOTE_LIMIT:
            self.wake(due_in_s=0.0)
        elif report.next_due_s is not None and not self._supervised:
            self.wake(due_in_s=max(0.0, report.next_due_s))

    async def _find_lost_claims(self) -> None:
        """Take the jobs that a claim has taken whose answer never came."""
        held = self._executor.jobs() | self._completer.jobs()
        claims = await self._backend.claims_of(self.worker_id)
        self._recheck_at.pop(0)
        lost = [job for job in claims if (job.fence.job_id, job.fence.claim_no) not in held]
        if lost:
            emit(catalogue.LOST_CLAIMS_FOUND, count=len(lost), worker_id=self.worker_id)
            self._executor.offer(lost)

    def _give_back_stale(self, now: float) -> None:
        """Let other workers have what has found no slot here for too long."""
        since = self._executor.waiting_since
        if since is None or now - since < self._options.prefetch_ttl_s:
            return
        self._asking.waited_in_vain(now)
        self._more = True
        count = self._executor.give_back()
        emit(catalogue.PREFETCHED_GIVEN_BACK, count=count, worker_id=self.worker_id)

    def _idle_s(self) -> float | None:
        """Return how long nothing has to be done unless the bell rings."""
        until = []
        if (since := self._executor.waiting_since) is not None:
            until.append(since + self._options.prefetch_ttl_s)
        if not self._paused:
            until += [self._due_at, self._poll_at, *self._recheck_at[:1]]
        return max(0.001, min(until) - time.monotonic()) if until else None

    def _has_room(self) -> bool:
        return not self._completer.is_full and self._executor.free > 0

    def _is_done(self) -> bool:
        busy = self._executor.in_flight or self._executor.waiting or self._executor.isolating or self._completer.backlog
        return not busy and not self._wants and self._due_at > time.monotonic()
