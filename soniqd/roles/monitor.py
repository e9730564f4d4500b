"""A thread that looks after the event loop: it sees what blocks the loop, and tells all stacks when it is asked.

The loop ticks twice a second. A tick that is overdue means that one callback, a step of a job's coroutine most often,
has kept the loop all that time; the loop's thread stands in that code right now, so its stack says where. This is told
once per block, after ``warning_s``, long before the master acts at the hang timeout. The job that blocks is noted in
the shared memory, so that it alone is blamed should the master have to end the process.

A coroutine that awaits, for however long, does not block the loop, and is nobody's business here.

The master asks for stacks by the shared memory, too, and gets them in the black box. This thread needs the
interpreter's lock: C code that holds on to it silences this thread as well, and the master then has the stacks written
by a signal (see :mod:`soniqd.supervisor.stacks`).

A process that was stopped is late for the same reason as its loop: this thread notices by its own gap, and says
nothing. Code in C that held the interpreter's lock leaves the same gap, but has used the processor meanwhile, however
little of it there was to be had; it is told as soon as it has let go. (Time that a suspended machine sleeps is not
counted, see CLOCK_MONOTONIC in clock_gettime(2).)
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from soniqd.control.memory import ChildMemory, write_blackbox
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model.child import Slot
from soniqd.roles.stacks import Activity, describe_stacks, named, place_of
from soniqd.roles.tick import Tick
from soniqd.worker.board import InFlight

LOOK_INTERVAL_S = 0.2
_LEAST_INTERVAL_S = 0.02
_GAP_S = 1.0
_IDLE_SHARE = 0.02


class Monitor:
    """``observe`` tells the jobs of this process; it is called in this thread."""

    def __init__(
        self,
        *,
        slot: Slot,
        memory: ChildMemory,
        blackbox: int,
        tick: Tick,
        loop: asyncio.AbstractEventLoop,
        warning_s: float,
        observe: Callable[[], Activity],
    ) -> None:
        self._slot = slot
        self._memory = memory
        self._blackbox = blackbox
        self._tick = tick
        self._loop = loop
        self._warning_s = warning_s
        self._observe = observe
        self._loop_thread = 0
        self._blocked: str | None = None
        self._answered = memory.asked
        self._interval_s = min(LOOK_INTERVAL_S, max(_LEAST_INTERVAL_S, warning_s / 2)) if warning_s else LOOK_INTERVAL_S
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin; to be called by the thread that runs the loop."""
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._run, name="soniqd-monitor", daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()

    def _run(self) -> None:
        looked_s, used_s = time.monotonic(), time.process_time()
        while not self._stopped.wait(self._interval_s):
            before_s, used_before_s = looked_s, used_s
            looked_s, used_s = time.monotonic(), time.process_time()
            gap_s = looked_s - before_s - self._interval_s
            stood_still = gap_s > _GAP_S and used_s - used_before_s < gap_s * _IDLE_SHARE
            try:
                self._answer(looked_s)
                if self._warning_s and not stood_still:
                    self._look(looked_s)
            except Exception as error:  # noqa: BLE001  what it looks at changes under its eyes; it must look again
                emit(catalogue.MONITOR_FAILED, slot=self._slot, error=f"{type(error).__name__}: {error}")

    def _answer(self, now_s: float) -> None:
        asked = self._memory.asked
        if asked == self._answered:
            return
        self._answered = asked
        activity = self._observe()
        text = describe_stacks(
            self._loop,
            self._loop_thread,
            activity,
            headline=self._headline(activity, now_s),
            leave_out=threading.get_ident(),
        )
        write_blackbox(self._blackbox, redact(text))
        self._memory.answer(asked)

    def _headline(self, activity: Activity, now_s: float) -> str:
        late_s = self._tick.late_s(now_s)
        jobs = "1 job" if len(activity.jobs) == 1 else f"{len(activity.jobs)} jobs"
        head = f"{self._slot}, pid {os.getpid()}, {jobs} in flight"
        if late_s < max(self._warning_s, self._interval_s):
            return f"{head}: the event loop goes round"
        return f"{head}: the event loop has stood still for {late_s:.1f} s in {named(self._blocker(activity))}"

    def _look(self, now_s: float) -> None:
        late_s = self._tick.late_s(now_s)
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  documented, under this name
        if late_s < self._warning_s:
            self._end_block()
        elif self._blocked is None and frame is not None and not _is_idle(frame):
            self._begin_block(late_s, frame)

    def _begin_block(self, late_s: float, frame: FrameType) -> None:
        job = self._blocker(self._observe())
        self._blocked = named(job)
        self._memory.set_blocker(job.slot if job is not None else None)
        emit(
            catalogue.LOOP_BLOCKED,
            slot=self._slot,
            blocked_s=late_s,
            job_id=job.job_id if job is not None else None,
            job_name=job.name if job is not None else None,
            what=self._blocked,
            where=place_of(frame),
        )

    def _end_block(self) -> None:
        if self._blocked is not None:
            self._memory.set_blocker(None)
            emit(catalogue.LOOP_FREE, slot=self._slot, what=self._blocked)
            self._blocked = None

    def _blocker(self, activity: Activity) -> InFlight | None:
        return activity.job_of_task(asyncio.current_task(self._loop))


def _is_idle(frame: FrameType) -> bool:
    """The loop's thread runs no Python code but the one that runs the loop: it waits, or lacks processor time."""
    return frame.f_globals.get("__name__") == "soniqd.roles.child" and frame.f_code.co_name == "run_child"
