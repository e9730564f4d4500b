"""Who this process is, and whether a process that was written down somewhere still lives.

The master needs it to settle what a predecessor left behind, a child to register itself. All of it comes from /proc
(see proc_pid_stat(5), namespaces(7), machine-id(5)); nothing is cached, since a child asks after its fork.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from soniqd.model import ProcessIdentity

_START_TICKS_FIELD = 22
_DEAD_STATES = frozenset("ZXx")


def current_identity() -> ProcessIdentity:
    """Return this process's identity."""
    pid = os.getpid()
    stat = _read_stat(pid)
    return ProcessIdentity(
        machine_id=machine_id(),
        hostname=socket.gethostname(),
        boot_id=_read_text("/proc/sys/kernel/random/boot_id"),
        pid_namespace=_pid_namespace(),
        pid=pid,
        start_ticks=_start_ticks(stat) if stat else 0,
    )


def machine_id() -> str:
    """Return the id of this installation of the operating system, or the host name where there is none."""
    return _read_text("/etc/machine-id") or _read_text("/var/lib/dbus/machine-id") or socket.gethostname()


def is_alive(process: ProcessIdentity) -> bool:
    """Whether a process of *this* pid namespace lives, a zombie not counted; what cannot be told counts as alive.

    Comparing the start time makes it safe against a pid that was given out again.
    """
    if process.pid <= 0:
        return False
    stat = _read_stat(process.pid)
    if not stat:
        return _exists_unseen(process.pid)
    if _state(stat) in _DEAD_STATES:
        return False
    return process.start_ticks in (0, _start_ticks(stat))


def _exists_unseen(pid: int) -> bool:
    """Tell a missing process from one that a /proc mounted with hidepid does not show."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _read_stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third (the state) on: the second may hold spaces and parentheses."""
    return _read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _state(stat: list[str]) -> str:
    return stat[0]


def _start_ticks(stat: list[str]) -> int:
    return int(stat[_START_TICKS_FIELD - 3])


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
