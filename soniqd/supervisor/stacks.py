"""The stacks of a living child, whatever it does just now.

Three ways, the next one where the one before is not answered:

*   its monitor thread tells threads and asyncio tasks with their jobs, also while the event loop is blocked;
*   C code that holds the interpreter's lock silences that thread; then SIGURG has faulthandler, which needs no lock,
    write the stacks of the threads (no tasks, no jobs);
*   a process that is stopped or stuck in the kernel answers neither: its state is told instead. To one that is
    stopped the signal is not sent: it would find the process going on, in all of its threads, and faulthandler reads
    the stack of a thread that runs at its own risk (it has ended a worker with SIGSEGV).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soniqd.errors import ControlError
from soniqd.settings.problems import did_you_mean
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.postmortem import POLL_S, ask_for_stacks

_MONITOR_TIMEOUT_S = 0.8
_SIGNAL_TIMEOUT_S = 1.5
_LEAST_PREFIX = 6
_STOPPED = ("T", "t")  # of proc_pid_status(5): by a signal, by a debugger
_MAX_CHARACTERS = 150_000  # of a message of the control socket, whose JSON may take six bytes for one
_WITHOUT_TASKS = (
    "The interpreter's lock is held, by code in C most likely, so that only the stacks of threads can be told, "
    "the innermost call first:"
)


def find_child(processes: Mapping[str, ChildProcess], name: str) -> ChildProcess:
    """Return the child with this slot, pid or worker id, or the start of one; raises ControlError."""
    children = [child for child in processes.values() if child.pid is not None]
    found = [child for child in children if name in (child.spec.slot, str(child.pid), child.spec.worker_id)]
    if not found and len(name) >= _LEAST_PREFIX:
        found = [child for child in children if child.spec.worker_id.startswith(name)]
    if not found:
        slots = sorted(child.spec.slot for child in children)
        raise ControlError(
            f"cannot show the stacks of {name}: there is no such process; there are {', '.join(slots) or 'none'}"
            f"{did_you_mean(name, slots)}"
        )
    return max(found, key=lambda child: child.requested_s)


async def stacks_of(child: ChildProcess) -> dict[str, Any]:
    """Return the stacks as text with where they come from; raises ControlError if the process cannot tell any."""
    async with child.box.asking:
        return await _ask(child)


async def _ask(child: ChildProcess) -> dict[str, Any]:
    child.box.take_stacks()  # what nobody fetched in time belongs to an earlier question
    if await ask_for_stacks(child, _MONITOR_TIMEOUT_S):
        return _answer(child, "monitor", child.box.take_stacks())
    state = _state(child.pid)
    text = ""
    if not state.startswith(_STOPPED):
        child.signal(signal.SIGURG)
        text = await _dumped(child)
        state = _state(child.pid)
    if not text:
        condition = f"does not react, its state is {state}" if state else "has ended"
        raise ControlError(f"cannot show the stacks of {child.spec.slot}: pid {child.pid} {condition}")
    return _answer(child, "signal", f"{_WITHOUT_TASKS}\n\n{text}")


async def _dumped(child: ChildProcess) -> str:
    """Wait until a dump has begun and nothing was added to it for a moment."""
    before = 0
    for _ in range(int(_SIGNAL_TIMEOUT_S / POLL_S)):
        await asyncio.sleep(POLL_S)
        written = child.box.written
        if written and written == before:
            break
        before = written
    return child.box.take_stacks()


def _answer(child: ChildProcess, source: str, text: str) -> dict[str, Any]:
    return {
        "slot": child.spec.slot,
        "pid": child.pid,
        "worker_id": child.spec.worker_id,
        "source": source,
        "stacks": text[:_MAX_CHARACTERS],
    }


def _state(pid: int | None) -> str:
    """Return what the kernel says of a process: "T (stopped)"; empty if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in status.splitlines() if line.startswith("State:")), "?")
