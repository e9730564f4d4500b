"""Who this process is, and whether a process that was written down somewhere still lives.

The master needs it to settle what a predecessor left behind, a child to register itself. All of it comes from /proc
(see proc_pid_stat(5), namespaces(7), machine-id(5)); nothing is cached, since a child asks after its fork.
"""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

from soniqd.model import ProcessIdentity

_GROUP_FIELD = 5
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


def identity_of(pid: int) -> ProcessIdentity | None:
    """Return the identity of another process of this pid namespace; None if there is none to be seen."""
    stat = _read_stat(pid)
    return replace(current_identity(), pid=pid, start_ticks=_start_ticks(stat)) if stat else None


def group_members(leader: ProcessIdentity) -> list[ProcessIdentity]:
    """Return the living processes of the process group that a dead process of *this* pid namespace led.

    While a group has members, its number is given to no other process (credentials(7)): if there is a process with
    the leader's pid, the group is not the one that is asked for.
    """
    if _is_running(_read_stat(leader.pid)):
        return []
    members = []
    for name in os.listdir("/proc"):  # noqa: PTH208  names are all that is needed of some hundred entries
        stat = _read_stat(int(name)) if name.isdigit() else []
        if _is_running(stat) and _group(stat) == leader.pid and _start_ticks(stat) >= leader.start_ticks:
            members.append(replace(leader, pid=int(name), start_ticks=_start_ticks(stat)))
    return members


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


def _is_running(stat: list[str]) -> bool:
    return bool(stat) and _state(stat) not in _DEAD_STATES


def _state(stat: list[str]) -> str:
    return stat[0]


def _group(stat: list[str]) -> int:
    return int(stat[_GROUP_FIELD - 3])


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
