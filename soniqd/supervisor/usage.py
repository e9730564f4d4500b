"""What the master's processes use of the machine, for ``soniqctl top``: counters, from which the caller makes rates.

Processor time is read at each question. Memory is what a process shares with nobody (see ``measuring``); the kernel
walks page tables for it, so it is read in a thread, one process after the other, and kept for ``MEMORY_KEPT_S``.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from soniqd.policy.supervision.roster import Child
from soniqd.supervisor.insight import in_flight_of, work_of
from soniqd.supervisor.master import Master
from soniqd.supervisor.measuring import private_bytes

MEMORY_KEPT_S = 2.0
PATIENCE_S = 0.5
"""How long an answer waits for memory: with very many or very big processes it shows the measurement before."""
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_UTIME = 11
"""Where the processor time stands behind the name: utime, then stime (proc_pid_stat(5), fields 14 and 15)."""


def cpu_s(pid: int) -> float | None:
    """Return the processor time that a process has used; None if it has ended or cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return (int(stat[_UTIME]) + int(stat[_UTIME + 1])) / _TICKS_A_SECOND
    except (OSError, ValueError, IndexError):
        return None


class Usage:
    """Answers ``top``."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._memory: dict[int, int | None] = {}
        self._memory_s = float("-inf")
        self._measuring: asyncio.Task[None] | None = None

    async def top(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ``soniqctl top``."""
        del params
        await self._measure()
        master = self._master
        supervision = master.supervision
        pids = {number: generation.pid for number, generation in master.generations.items()}
        return {
            "at_s": time.monotonic(),
            "state": "reloading" if supervision.reloading else supervision.phase,
            "database": master.ledger.database,
            "processes": [
                self._own("master", os.getpid()),
                *(self._own(f"fork server {number}", pid) for number, pid in sorted(pids.items()) if pid is not None),
            ],
            "children": sorted(
                (self._child(child) for child in supervision.roster.children.values() if child.pid is not None),
                key=lambda row: (row["role"] != "scheduler", row["group"], row["slot"], row["pid"]),
            ),
        }

    def _own(self, name: str, pid: int) -> dict[str, Any]:
        return {"name": name, "pid": pid, "cpu_s": cpu_s(pid), "memory_bytes": self._memory.get(pid)}

    def _child(self, child: Child) -> dict[str, Any]:
        process = self._master.processes.get(child.worker_id)
        assert child.pid is not None
        state = process.state if process else None
        return {
            "role": child.spec.role,
            "group": child.spec.group,
            "slot": child.spec.slot,
            "pid": child.pid,
            "state": state.phase if state else "starting",
            "uptime_s": round(time.monotonic() - child.started_s, 3),
            "cpu_s": cpu_s(child.pid),
            "memory_bytes": self._memory.get(child.pid),
            "in_flight": in_flight_of(process),
            "concurrency": child.spec.concurrency,
            "done": state.done if state else 0,
            "failed": state.failed if state else 0,
            **work_of(process),
        }

    async def _measure(self) -> None:
        """Measure memory anew if the last time is long ago; several who ask wait for one measurement."""
        if time.monotonic() - self._memory_s < MEMORY_KEPT_S:
            return
        if self._measuring is None or self._measuring.done():
            pids = {os.getpid(), *(child.pid for child in self._master.processes.values() if child.pid)}
            pids |= {generation.pid for generation in self._master.generations.values() if generation.pid}
            self._measuring = asyncio.create_task(self._measure_all(sorted(pids)), name="top: memory")
        await asyncio.wait({self._measuring}, timeout=PATIENCE_S)

    async def _measure_all(self, pids: list[int]) -> None:
        self._memory = {pid: await asyncio.to_thread(_private_bytes, pid) for pid in pids}
        self._memory_s = time.monotonic()


def _private_bytes(pid: int) -> int | None:
    try:
        return private_bytes(pid)
    except (OSError, ValueError):
        return None
