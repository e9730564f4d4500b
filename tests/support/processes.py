"""What runs on this host, read from /proc (proc_pid_stat(5))."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was when it was looked at; ``start_ticks`` tells it from a later one with the same pid."""

    pid: int
    parent: int
    session: int
    state: str
    start_ticks: int
    command: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        now = find_process(self.pid)
        return now is not None and now.start_ticks == self.start_ticks and now.state not in "ZX"

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Signal it unless it is gone; another process that got its pid since is left alone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


def find_process(pid: int) -> Process | None:
    """Read one process; None if there is none."""
    folder = Path("/proc") / str(pid)
    try:
        head, _, tail = (folder / "stat").read_text(errors="replace").rpartition(")")
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    fields = tail.split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        state=fields[0],
        start_ticks=int(fields[19]),
        command=command or head.partition("(")[2],
    )


def all_processes() -> Iterator[Process]:
    """Every process that can be seen from here."""
    for name in os.listdir("/proc"):  # noqa: PTH208  names are all that is needed of some hundred entries
        if name.isdigit() and (process := find_process(int(name))):
            yield process


def descendants(pid: int) -> list[Process]:
    """Children, their children and so on, parents first; zombies are left out."""
    processes = [process for process in all_processes() if process.state not in "ZX"]
    found: list[Process] = []
    parents = {pid}
    while parents:
        generation = [process for process in processes if process.parent in parents]
        found += generation
        parents = {process.pid for process in generation}
    return found


def runs_in(process: Process, folder: Path) -> bool:
    """Whether the process has the folder as its working directory."""
    try:
        return (Path("/proc") / str(process.pid) / "cwd").samefile(folder)
    except OSError:
        return False
