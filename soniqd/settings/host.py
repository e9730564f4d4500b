"""What this host, and the user that soniqd runs as, allow of what the configuration asks for.

Only the daemon itself is asked this: ``soniqctl`` reads the same file, perhaps as somebody else.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from soniqd.settings.checks import Finding
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.problems import Loc, quoted
from soniqd.settings.process import RLIMITS, UNLIMITED

_CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SYS_NICE, _CAP_SYS_RESOURCE = 5, 6, 7, 23, 24  # linux/capability.h
_LOWEST_NICE = -20


@dataclass(frozen=True, slots=True)
class Host:
    """The facts. ``most`` has the limits that cannot be exceeded, by their names; what is not in it is free."""

    user: str
    group: str
    may_change_user: bool
    least_nice: int
    cpus: frozenset[int]
    most: Mapping[str, int]
    has_user: Callable[[str], bool]
    has_group: Callable[[str], bool]


def this_host() -> Host:
    """Look at this process and its host."""
    capabilities = _capabilities()
    return Host(
        user=_name_of(os.geteuid(), lambda uid: pwd.getpwuid(uid).pw_name),
        group=_name_of(os.getegid(), lambda gid: grp.getgrgid(gid).gr_name),
        may_change_user={_CAP_KILL, _CAP_SETGID, _CAP_SETUID} <= capabilities,  # it has to signal them, too
        least_nice=_LOWEST_NICE if _CAP_SYS_NICE in capabilities else _least_nice(),
        cpus=frozenset(os.sched_getaffinity(0)),
        most=_most(raising=_CAP_SYS_RESOURCE in capabilities),
        has_user=lambda name: _exists(pwd.getpwnam, name),
        has_group=lambda name: _exists(grp.getgrnam, name),
    )


def find_host_problems(settings: DaemonSettings, host: Host) -> Iterator[Finding]:
    """Yield what of the settings cannot be done here."""
    for index, group in enumerate(settings.workers):
        yield from _identity(index, group, host)
        yield from _scheduling(index, group, host)
        yield from _limits(index, group, host)


def _identity(index: int, group: WorkerGroup, host: Host) -> Iterator[Finding]:
    for key, name, own, exists in (
        ("user", group.user, host.user, host.has_user),
        ("group", group.group, host.group, host.has_group),
    ):
        loc: Loc = ("workers", index, key)
        if name is None or name == own:
            continue
        if not exists(name):
            yield Finding(loc, f"expected a {key} of this host, got {quoted(name)}", (loc,))
        elif not host.may_change_user:
            yield Finding(loc, f"only a soniqd that runs as root can run jobs as {quoted(name)}", (loc,))


def _scheduling(index: int, group: WorkerGroup, host: Host) -> Iterator[Finding]:
    loc: Loc = ("workers", index, "nice")
    if group.nice is not None and group.nice < host.least_nice:
        yield Finding(
            loc,
            f"expected {host.least_nice} or more, got {group.nice}: only root may go below its own priority",
            (loc,),
        )
    loc = ("workers", index, "cpu_affinity")
    if missing := sorted(set(group.cpu_affinity) - host.cpus):
        numbers = ", ".join(str(cpu) for cpu in missing)
        yield Finding(loc, f"expected CPUs that soniqd may use ({_ranges(host.cpus)}), got {numbers}", (loc,))


def _limits(index: int, group: WorkerGroup, host: Host) -> Iterator[Finding]:
    for name, value in group.rlimits.items():
        most = host.most.get(name)
        if most is not None and (value == UNLIMITED or value > most):
            loc: Loc = ("workers", index, "rlimits", name)
            written = '"unlimited"' if value == UNLIMITED else str(value)
            yield Finding(loc, f"expected {most} or less, which is soniqd's own hard limit, got {written}", (loc,))


def _capabilities() -> frozenset[int]:
    """This process's effective capabilities (proc_pid_status(5))."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            mask = int(value, 16)
            return frozenset(bit for bit in range(64) if mask >> bit & 1)
    return frozenset()


def _least_nice() -> int:
    """Without privileges: what RLIMIT_NICE leaves, or the present value (setpriority(2))."""
    soft, _ = resource.getrlimit(RLIMITS["nice"])
    by_limit = _LOWEST_NICE if soft == resource.RLIM_INFINITY else max(_LOWEST_NICE, 20 - soft)
    return min(by_limit, os.getpriority(os.PRIO_PROCESS, 0))


def _most(*, raising: bool) -> dict[str, int]:
    most: dict[str, int] = {}
    if not raising:
        hard = {name: resource.getrlimit(number)[1] for name, number in RLIMITS.items()}
        most = {name: limit for name, limit in hard.items() if limit != resource.RLIM_INFINITY}
    # Nobody may open more files than this, whatever the limit says (proc_sys_fs(5)).
    highest = int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii"))
    return {**most, "nofile": min(highest, most.get("nofile", highest))}


def _exists(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return False
    return True


def _name_of(number: int, find: Callable[[int], str]) -> str:
    try:
        return find(number)
    except KeyError:
        return str(number)


def _ranges(cpus: frozenset[int]) -> str:
    """Write CPUs as cpuset(7) does: ``0-3,6``."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1] = [parts[-1][0], cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(str(cpu) for cpu in part) for part in parts)
