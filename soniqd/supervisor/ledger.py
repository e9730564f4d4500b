"""The master's duties towards the database, none of which may stop the master when the database is away.

*Heartbeats* for all ready workers in one statement; *releases* of the jobs of dead incarnations, remembered until they
are written; *leftovers* of other masters on this host, settled at the start and whenever one of their processes ends
(leftovers.py); the *sweep* for workers of lost hosts; *pruning*; *dead rows*, removed where many jobs end. Each duty
runs in its own turn, so that a slow one delays no release. A duty that finds the database away says so once, and all of
them go on when it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import random
from typing import Literal, Self

from soniqd.backends import StorageBackend
from soniqd.backends.vacuuming import Vacuuming
from soniqd.control.identity import current_identity
from soniqd.errors import DatabaseUnavailableError, SchemaError, SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import JobId, WorkerId
from soniqd.policy.pruning import PRUNE_BATCH, next_prune_s
from soniqd.policy.sweep import BeatRecord
from soniqd.policy.vacuuming import LOOK_EVERY_S
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.leftovers import ForeignWorkers

_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 2.0
_ERROR_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class LedgerTimes:
    """How often, in seconds; and how many crashes a job may cause."""

    heartbeat_interval_s: float
    heartbeat_timeout_s: float
    sweep_interval_s: float
    max_crashes: int

    @classmethod
    def of(cls, settings: DaemonSettings) -> Self:
        """Take them from the settings."""
        return cls(
            heartbeat_interval_s=settings.sweep.heartbeat_interval,
            heartbeat_timeout_s=settings.sweep.heartbeat_timeout,
            sweep_interval_s=settings.sweep.interval,
            max_crashes=settings.jobs.max_crashes,
        )


@dataclass(frozen=True, slots=True)
class PendingRelease:
    """A dead incarnation whose jobs are not given back yet. ``blamed`` are those that ran; None: nobody knows."""

    worker_id: WorkerId
    slot: str
    cause: Literal["crash", "interrupted"]
    reason: str
    blamed: frozenset[JobId] | None = None


@dataclass(frozen=True, slots=True)
class LedgerHandover:
    """What the next image of the master needs to go on; how steady the heartbeats were is found out anew."""

    releases: tuple[PendingRelease, ...]
    up: bool | None
    problem: str | None


class Ledger:
    """``living`` tells the ready workers; ``on_disowned`` hears of those that another host has declared lost.

    ``ended`` counts the jobs that have ended here.
    """

    def __init__(
        self,
        backend: StorageBackend,
        times: LedgerTimes,
        *,
        living: Callable[[], list[WorkerId]],
        on_disowned: Callable[[WorkerId], None],
        ended: Callable[[], int],
    ) -> None:
        self._backend = backend
        self._times = times
        self._beats = BeatRecord(times.heartbeat_interval_s)
        self._living = living
        self._on_disowned = on_disowned
        self._vacuuming = Vacuuming(backend, ended=ended)
        self._releases: dict[WorkerId, PendingRelease] = {}
        self._release_asked = asyncio.Event()
        self._all_released = asyncio.Event()
        self._leftovers_asked = asyncio.Event()
        self._prune_asked = asyncio.Event()
        self._foreign = ForeignWorkers(
            backend,
            current_identity(),
            mine=lambda: {*self._living(), *self._releases},
            on_ended=self._leftovers_asked.set,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._succeeded_s = 0.0
        self._has_schema = False
        self.up: bool | None = None
        self.problem: str | None = None
        self.error: str | None = None

    @property
    def times(self) -> LedgerTimes:
        """What the duties go by; a change counts from each one's next turn on."""
        return self._times

    @times.setter
    def times(self, times: LedgerTimes) -> None:
        self._times = times
        self._beats.interval_s = times.heartbeat_interval_s

    @property
    def database(self) -> str:
        """What people and programs are told: ``connecting`` until the first answer or refusal."""
        return "connecting" if self.up is None else "up" if self.up else "down"

    @property
    def pending_releases(self) -> int:
        """How many dead incarnations are still to be written down."""
        return len(self._releases)

    def hand_over(self) -> LedgerHandover:
        """Describe what is still to be done."""
        return LedgerHandover(tuple(self._releases.values()), self.up, self.problem)

    def resume(self, earlier: LedgerHandover) -> None:
        """Go on with what an earlier image of the master described; to be started after that."""
        self.up, self.problem = earlier.up, earlier.problem
        for release in earlier.releases:
            self.release(release)

    def start(self) -> None:
        """Begin every duty; also again, after they were ended."""
        duties: dict[str, tuple[Callable[[], Awaitable[float | None]], asyncio.Event | None]] = {
            "write heartbeats": (self._heartbeat, None),
            "release jobs": (self._release, self._release_asked),
            "settle leftovers": (self._settle_leftovers, self._leftovers_asked),
            "sweep": (self._sweep, None),
            "prune": (self._prune, self._prune_asked),
            "look at dead rows": (self._vacuum, None),
        }
        self._tasks = [asyncio.create_task(self._repeat(name, *duty)) for name, duty in duties.items()]

    def release(self, release: PendingRelease) -> None:
        """Give a dead incarnation's jobs back, now or as soon as the database is there."""
        self._releases[release.worker_id] = release
        self._all_released.clear()
        self._release_asked.set()

    async def finish(self, timeout_s: float) -> None:
        """Try for a last moment to write pending releases, then end every duty."""
        if self._releases and self.up is not False:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._all_released.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._foreign.close()

    async def _repeat(
        self, name: str, duty: Callable[[], Awaitable[float | None]], asked: asyncio.Event | None
    ) -> None:
        """Run a duty for ever; it answers when it wants to run again (None: when asked)."""
        retry_s = _RETRY_FIRST_S
        while True:
            if asked is not None:
                asked.clear()
            began_s = time.monotonic()
            try:
                pause_s = await duty()
                retry_s = _RETRY_FIRST_S
            except SoniqError as error:
                if self._is_away(error):
                    self._note_down(error, began_s)
                    pause_s = retry_s * (0.75 + random() / 2)  # noqa: S311  jitter
                    retry_s = min(retry_s * 2, _RETRY_MAX_S)
                else:
                    emit(catalogue.DUTY_FAILED, duty=name, error=redact(str(error)))
                    self._has_schema = False  # perhaps any more: the next turn finds out
                    pause_s = _ERROR_PAUSE_S
            except Exception as error:  # noqa: BLE001  a duty that ended for a defect would end unseen
                emit(catalogue.DUTY_FAILED, exc_info=error, duty=name, error=redact(f"{type(error).__name__}: {error}"))
                pause_s = _ERROR_PAUSE_S
            await _pause(pause_s, asked)

    async def _reach(self) -> None:
        """Connect; a database that this release cannot use, or not yet, counts as one that is away."""
        await self._backend.open()
        if not self._has_schema:
            await self._backend.check_schema()
            self._has_schema = True

    def _is_away(self, error: SoniqError) -> bool:
        """A schema that was found good and then refuses one statement is that statement's trouble alone."""
        return isinstance(error, DatabaseUnavailableError) or (isinstance(error, SchemaError) and not self._has_schema)

    def _note_up(self) -> None:
        self._succeeded_s = time.monotonic()
        self.problem = self.error = None
        if self.up is not True:
            self.up = True
            emit(catalogue.DATABASE_UP, location=self._backend.location)

    def _note_down(self, error: Exception, began_s: float) -> None:
        overtaken = began_s < self._succeeded_s  # another duty has met the database since this one began
        if overtaken:
            return
        unusable, was_unusable = isinstance(error, SchemaError), self.problem is not None
        if self.up is not False or (unusable and not was_unusable):
            emit(catalogue.DATABASE_UNUSABLE if unusable else catalogue.DATABASE_DOWN, error=redact(str(error)))
        self.up, self._has_schema, self.error = False, False, redact(str(error))
        if not (unusable and was_unusable):
            self.problem = redact(str(error)) if unusable else None

    async def _heartbeat(self) -> float:
        try:
            await self._beat()
        except BaseException:
            self._beats.missed()
            raise
        self._beats.beat(time.clock_gettime(time.CLOCK_BOOTTIME))
        self._note_up()
        return self.times.heartbeat_interval_s

    async def _beat(self) -> None:
        await self._reach()
        workers = self._living()
        if workers:
            alive = await self._backend.heartbeat(workers)
            for worker_id in workers:
                if worker_id not in alive:
                    self._on_disowned(worker_id)
        else:
            await self._backend.ping()

    async def _release(self) -> None:
        refused: SoniqError | None = None
        for release in list(self._releases.values()):
            try:
                await self._release_one(release)
            except DatabaseUnavailableError:
                raise
            except SoniqError as error:  # the others behind it must not wait for it
                refused = error
        if refused is not None:
            raise refused
        if not self._releases:
            self._all_released.set()

    async def _release_one(self, release: PendingRelease) -> None:
        await self._reach()
        report = await self._backend.release_workers(
            [release.worker_id],
            cause=release.cause,
            max_crashes=self.times.max_crashes,
            error=release.reason,
            blamed=release.blamed,
        )
        self._note_up()
        if self._releases.get(release.worker_id) is release:
            del self._releases[release.worker_id]
        if report.requeued or report.dead_lettered:
            emit(
                catalogue.JOBS_RELEASED,
                slot=release.slot,
                worker_id=release.worker_id,
                requeued=len(report.requeued),
                dead_lettered=len(report.dead_lettered),
                cause=release.cause,
            )

    async def _settle_leftovers(self) -> float:
        await self._reach()
        await self._foreign.settle(
            heartbeat_interval_s=self.times.heartbeat_interval_s, max_crashes=self.times.max_crashes
        )
        self._note_up()
        return self.times.sweep_interval_s

    async def _sweep(self) -> float:
        wait_s = self._beats.steady_in_s(time.clock_gettime(time.CLOCK_BOOTTIME))
        if wait_s > 0:
            return wait_s
        await self._reach()
        report = await self._backend.sweep(
            heartbeat_timeout_s=self.times.heartbeat_timeout_s, max_crashes=self.times.max_crashes
        )
        self._note_up()
        if report.workers:
            emit(
                catalogue.WORKERS_SWEPT,
                workers=len(report.workers),
                requeued=len(report.released.requeued),
                dead_lettered=len(report.released.dead_lettered),
            )
        if report.ran:
            self._prune_asked.set()
        return self.times.sweep_interval_s * (0.9 + random() / 5)  # noqa: S311  hosts must not sweep in step

    async def _prune(self) -> float | None:
        """Delete a batch of what nobody needs; all of it in turns, after each sweep of this host."""
        await self._reach()
        began_s = time.monotonic()
        report = await self._backend.prune(limit=PRUNE_BATCH)
        self._note_up()
        return next_prune_s(report.history, report.workers, report.ticks, took_s=time.monotonic() - began_s)

    async def _vacuum(self) -> float:
        if self._vacuuming.wants_look:
            await self._reach()
            await self._vacuuming.look()
            self._note_up()
        return LOOK_EVERY_S


async def _pause(pause_s: float | None, asked: asyncio.Event | None) -> None:
    if asked is None:
        assert pause_s is not None, "a duty that nobody asks for names its own pause"
        await asyncio.sleep(pause_s)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await asked.wait()
