"""Whether a daemon is alive and ready, judged from what its processes show: not from there being a PID.

*Alive*: each group that is wanted has a process that works or waits for its database, and whose event loop goes round.
To be restarted is then no remedy, so a database that is away, a drain and a group on pause do not count against it.

*Ready*: alive, the database is there, each group is neither drained nor scaled to nothing, and has a worker that has
claimed something or found nothing to claim lately, or has no room for more; and the scheduler takes part. A paused
queue does not count against it, on any host: that is a choice about the work, not about who could do it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

UNWATCHED_STILL_S = 60.0
"""How long an event loop may stand still where no hang_timeout says it."""
STILL_GRACE_S = 5.0
"""What the watchdog gets to end a process whose loop has stood still for too long."""
LOOKED_POLLS = 3
LOOKED_LEAST_S = 15.0

_WORKING = frozenset({"leading", "following"})


@dataclass(frozen=True, slots=True)
class ChildHealth:
    """One process of a group. ``up``: it has said something and is not on its way out."""

    slot: str
    up: bool
    phase: str
    still_s: float = 0.0
    free: int = 0
    in_flight: int = 0
    looked_ago_s: float | None = None


@dataclass(frozen=True, slots=True)
class GroupHealth:
    """A group with its processes; ``last_exit`` is what the last one that ended ended with.

    ``wanted`` is how many there shall be now, ``configured`` how many the settings say.
    """

    name: str
    role: str
    wanted: int
    configured: int = 0
    hang_timeout_s: float = 0.0
    paused: bool = False
    children: tuple[ChildHealth, ...] = ()
    last_exit: str | None = None


@dataclass(frozen=True, slots=True)
class DaemonHealth:
    """Everything that a verdict needs. ``phase`` is the supervision's, ``database_error`` without a password."""

    phase: str
    database_up: bool
    poll_interval_s: float
    groups: tuple[GroupHealth, ...]
    database_error: str | None = None


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why not. ``code`` is for programs, ``group`` None concerns the daemon as a whole."""

    code: str
    text: str
    group: str | None = None


def why_not_alive(daemon: DaemonHealth) -> tuple[Complaint, ...]:
    """Return what speaks against being alive; nothing while the daemon is leaving, which it does by itself."""
    if daemon.phase in ("stopping", "leaving"):
        return ()
    if daemon.phase == "booting":
        return (Complaint("booting", "the jobs modules are being imported for the first time"),)
    return tuple(complaint for group in _wanted(daemon) if (complaint := _not_alive(group)) is not None)


def why_not_ready(daemon: DaemonHealth) -> tuple[Complaint, ...]:
    """Return what speaks against being ready, with what speaks against being alive."""
    if daemon.phase in ("stopping", "leaving"):
        return (Complaint("stopping", "the daemon is stopping"),)
    return (*why_not_alive(daemon), *_unready(daemon))


def _unready(daemon: DaemonHealth) -> Iterator[Complaint]:
    if daemon.phase == "booting":
        return
    if not daemon.database_up:
        because = f": {daemon.database_error}" if daemon.database_error else ""
        yield Complaint("database_down", f"the database is down{because}")
        return
    limit_s = max(LOOKED_POLLS * daemon.poll_interval_s, LOOKED_LEAST_S)
    for group in daemon.groups:
        if group.wanted == 0:
            yield from _scaled_to_nothing(group)
        elif group.paused:
            text = f"workers of {group.name} claim nothing more (drained): soniqctl resume {group.name}"
            yield Complaint("group_drained", text, group.name)
        elif _not_alive(group) is not None:
            continue
        elif group.role == "worker":
            if not any(_serves(child, limit_s) for child in group.children):
                yield _idle(group, limit_s)
        elif not any(child.phase in _WORKING for child in _up(group)):
            phases = ", ".join(sorted({child.phase.replace("_", " ") for child in _up(group)}))
            yield Complaint("scheduler_out", f"the scheduler neither leads nor follows: {phases}", group.name)


def _scaled_to_nothing(group: GroupHealth) -> Iterator[Complaint]:
    """Complain of a group that the settings want; one that they leave empty is meant to be."""
    if group.configured:
        text = f"{group.name} has no processes (scaled to 0): soniqctl scale {group.name} {group.configured}"
        yield Complaint("group_scaled_to_0", text, group.name)


def _wanted(daemon: DaemonHealth) -> list[GroupHealth]:
    return [group for group in daemon.groups if group.wanted > 0]


def _not_alive(group: GroupHealth) -> Complaint | None:
    up = _up(group)
    if not up:
        exits = f", last exit: {group.last_exit}" if group.last_exit else ""
        return Complaint("group_down", f"no process of {group.name} is up{exits}", group.name)
    limit_s = (group.hang_timeout_s or UNWATCHED_STILL_S) + STILL_GRACE_S
    still_s = min(child.still_s for child in up)
    if still_s > limit_s:
        text = f"every event loop of {group.name} has stood still for {still_s:.0f} s"
        return Complaint("group_stands_still", text, group.name)
    return None


def _serves(child: ChildHealth, limit_s: float) -> bool:
    if not child.up or child.phase != "running":
        return False
    is_full = child.in_flight > 0 and child.free == 0
    return is_full or (child.looked_ago_s is not None and child.looked_ago_s <= limit_s)


def _idle(group: GroupHealth, limit_s: float) -> Complaint:
    looked = [child.looked_ago_s for child in _up(group) if child.looked_ago_s is not None]
    how = f"for {min(looked):.0f} s, more than {limit_s:.0f} s" if looked else "yet"
    phases = ", ".join(sorted({child.phase.replace("_", " ") for child in _up(group)}))
    return Complaint("group_not_looking", f"no worker of {group.name} has looked for jobs {how} ({phases})", group.name)


def _up(group: GroupHealth) -> Sequence[ChildHealth]:
    return [child for child in group.children if child.up]
