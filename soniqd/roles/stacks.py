"""What this process is doing, as text for people: its event loop, its threads, its asyncio tasks and their jobs.

Any thread may ask: nothing here waits for the event loop, and nothing here changes it. What it looks at goes on
meanwhile, so that a stack may be a moment older than the next one.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import soniqd
from soniqd.log.context import job_id_var
from soniqd.worker.board import InFlight

MAX_CHARACTERS = 120_000
_MAX_TASKS = 300
_MAX_FRAMES = 50
_LIBRARIES = tuple(
    {
        str(Path(soniqd.__file__).parent),
        "<frozen",
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


@dataclass(frozen=True, slots=True)
class Activity:
    """The jobs of a process, and which of them threads work for, by the threads' identifiers."""

    jobs: Sequence[InFlight] = ()
    threads: Mapping[int, str] | None = None

    def job_of_task(self, task: asyncio.Task[Any] | None) -> InFlight | None:
        """Return the job that a task works for, be it the job's own task or one that the job started."""
        if task is None:
            return None
        for job in self.jobs:
            if job.task is task:
                return job
        return self._by_id(_job_id_of(task))

    def job_of_thread(self, ident: int | None) -> InFlight | None:
        """Return the job whose handler runs in a thread."""
        return self._by_id((self.threads or {}).get(ident or 0))

    def _by_id(self, job_id: str | None) -> InFlight | None:
        return next((job for job in self.jobs if job.job_id == job_id), None)


def named(job: InFlight | None) -> str:
    """Name a job in a sentence."""
    return f"job {job.job_id} ({job.name})" if job is not None else "code of no known job"


def place_of(frame: FrameType) -> str:
    """Say where a thread is: the innermost line of the application's code, and the innermost of all."""
    innermost = _location(frame)
    for outer, _ in traceback.walk_stack(frame):
        if not outer.f_code.co_filename.startswith(_LIBRARIES):
            return innermost if outer is frame else f"{_location(outer)}, in {innermost}"
    return innermost


def describe_stacks(
    loop: asyncio.AbstractEventLoop, loop_thread: int, activity: Activity, *, headline: str, leave_out: int
) -> str:
    """Word everything, cut to ``MAX_CHARACTERS``; the thread ``leave_out`` is the one that asks."""
    parts = [headline]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    current = asyncio.current_task(loop)
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  documented, under this name
        if ident != leave_out:
            job = activity.job_of_task(current) if ident == loop_thread else activity.job_of_thread(ident)
            role = ", which runs the event loop" if ident == loop_thread else ""
            works_for = f", for {named(job)}" if job is not None else ""
            parts.append(f"Thread {names.get(ident, ident)}{role}{works_for}:\n{_stack_of_thread(frame)}")
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: (len(task.get_name()), task.get_name()))
    for task in tasks[:_MAX_TASKS]:
        job = activity.job_of_task(task)
        works_for = f", for {named(job)}" if job is not None else ""
        state = ", running now" if task is current else ""
        parts.append(f"Task {task.get_name()}{works_for}{state}:\n{_stack_of_task(task)}")
    if len(tasks) > _MAX_TASKS:
        parts.append(f"... and {len(tasks) - _MAX_TASKS} tasks more")
    text = "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}\n... cut\n"


def _location(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"


def _stack_of_thread(frame: FrameType) -> str:
    frames = list(traceback.walk_stack(frame))[:_MAX_FRAMES]
    return _worded(reversed(frames))


def _stack_of_task(task: asyncio.Task[Any]) -> str:
    """Follow what a task awaits: get_stack() of a suspended task knows its outermost frame only."""
    frames: list[tuple[FrameType, int]] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(frames) < _MAX_FRAMES:
        frame = _attribute(awaited, "frame")
        if frame is None:
            break
        frames.append((frame, frame.f_lineno or 0))
        awaited = _attribute(awaited, "await") or getattr(awaited, "gi_yieldfrom", None)
    waits_for = getattr(task, "_fut_waiter", None)
    return _worded(iter(frames)) + (f"  waits for {waits_for!r:.200}\n" if waits_for is not None else "")


def _attribute(awaitable: Any, name: str) -> Any:
    """Coroutines, generators and asynchronous generators name the same things cr_, gi_ and ag_."""
    return next((found for kind in ("cr_", "gi_", "ag_") if (found := getattr(awaitable, kind + name, None))), None)


def _worded(frames: Iterator[tuple[FrameType, int]]) -> str:
    return "".join(traceback.StackSummary.extract(frames).format()) or "  (no Python frame)\n"


def _job_id_of(task: asyncio.Task[Any]) -> str | None:
    if sys.version_info >= (3, 12):
        return task.get_context().get(job_id_var)
    # Python 3.11 keeps the context of a task to itself; the garbage collector knows what the task refers to.
    contexts = (found for found in gc.get_referents(task) if isinstance(found, Context))
    context = next(contexts, None)
    return None if context is None else context.get(job_id_var)
