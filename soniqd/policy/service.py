"""What a service manager is told, and when: facts of one moment in, notes to send out.

    booting ──► ready ◄──► reloading          (an upgrade in place is a reload, too)
       └─────────┴─────────────┴──► stopping

Start, reload and stop each end in a timeout of the manager's (TimeoutStartSec, TimeoutStopSec), which no fixed number
fits: imports, probations and drains take as long as they were configured to. So while one of them lasts, more time is
asked for, a little at a time: it lasts as long as this process shows that it is at it, and ends soon after it does not.

The watchdog is fed with proofs alone: the caller hands one in when the loop that supervises has really gone round.
"""

from __future__ import annotations

from dataclasses import dataclass

EXTEND_S = 15.0
"""What is asked for at a time: longer than any pause of a healthy master, an upgrade's included."""
EXTEND_EVERY_S = 5.0
STATUS_EVERY_S = 1.0
_PROOFS_PER_TIMEOUT = 4
"""sd_watchdog_enabled(3) recommends two; one more may be lost, and one late, with four."""
_LONGEST_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Ready:
    """Start-up, or a reload, is complete."""


@dataclass(frozen=True, slots=True)
class Reloading:
    """A reload begins, or one more is asked for."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The shutdown begins."""


@dataclass(frozen=True, slots=True)
class Extend:
    """What lasts may last this much longer, counted from now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The service is alive."""


@dataclass(frozen=True, slots=True)
class Status:
    """One line for people."""

    text: str


Note = Ready | Reloading | Stopping | Extend | Watchdog | Status


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One moment: ``phase`` is the supervision's, ``reloads`` counts the reloads that have begun so far."""

    phase: str
    reloading: bool = False
    reloads: int = 0
    status: str = ""


class ServiceTalk:
    """Decides what is said. ``after_upgrade``: an earlier image of this process has said that it reloads."""

    def __init__(self, *, watchdog_s: float | None = None, after_upgrade: bool = False) -> None:
        self._watchdog_s = watchdog_s
        self._told = "reloading" if after_upgrade else "booting"
        self._reloads = 0
        self._status = ""
        self._status_s: float | None = None
        self._extended_s: float | None = None
        self._proved_s: float | None = None

    @property
    def tick_interval_s(self) -> float:
        """How often the loop that supervises has to go round, so that a proof is never late."""
        return min(_LONGEST_TICK_S, (self._watchdog_s or _LONGEST_TICK_S * _PROOFS_PER_TIMEOUT) / _PROOFS_PER_TIMEOUT)

    def next_notes(self, facts: ServiceFacts, now_s: float, *, proof: bool = False) -> list[Note]:
        """Return what to send now, in order."""
        before = self._told
        notes = self._changes(facts)
        changed = self._told != before or bool(notes)
        if changed:
            self._extended_s = None
        notes += self._more_time(now_s)
        notes += self._proof(now_s) if proof else []
        notes += self._words(facts, now_s, at_once=changed)
        return notes

    def _changes(self, facts: ServiceFacts) -> list[Note]:
        match facts.phase:
            case "stopping" | "leaving":
                return self._stopping()
            case "running" if facts.reloading and self._told != "booting":
                return self._reloading(facts.reloads)
            case "running" if self._told != "ready":
                self._told, self._reloads = "ready", facts.reloads
                return [Ready()]
            case _:
                return []

    def _reloading(self, reloads: int) -> list[Note]:
        """Each reload is announced, also during another one: systemd(1) may wait for the answer to its own signal."""
        if self._told == "reloading" and reloads == self._reloads:
            return []
        self._told, self._reloads = "reloading", reloads
        return [Reloading()]

    def _stopping(self) -> list[Note]:
        """End a reload first: during one the manager takes no notice of a stop that it has not asked for."""
        told, self._told = self._told, "stopping"
        match told:
            case "stopping":
                return []
            case "reloading":
                return [Ready(), Stopping()]
            case _:
                return [Stopping()]

    def _more_time(self, now_s: float) -> list[Note]:
        if self._told == "ready" or (self._extended_s is not None and now_s - self._extended_s < EXTEND_EVERY_S):
            return []
        self._extended_s = now_s
        return [Extend(EXTEND_S)]

    def _proof(self, now_s: float) -> list[Note]:
        if self._watchdog_s is None:
            return []
        if self._proved_s is not None and now_s - self._proved_s < self._watchdog_s / _PROOFS_PER_TIMEOUT / 2:
            return []
        self._proved_s = now_s
        return [Watchdog()]

    def _words(self, facts: ServiceFacts, now_s: float, *, at_once: bool) -> list[Note]:
        """Say what changed, once a second at most: the manager tells everybody who listens on the bus."""
        if facts.status == self._status:
            return []
        if not at_once and self._status_s is not None and now_s - self._status_s < STATUS_EVERY_S:
            return []
        self._status, self._status_s = facts.status, now_s
        return [Status(facts.status)]


def status_line(
    *,
    doing: str,
    children: int,
    wanted: int,
    jobs: int,
    database_up: bool | None,
    reload_failed: bool = False,
) -> str:
    """Say in one line what ``systemctl status`` is looked at for; ``wanted`` 0 where no number of children is."""
    living = f"{children} of {wanted} children" if children < wanted else _count(children, "child", "children")
    parts = [f"{doing}: {living}", f"{_count(jobs, 'job', 'jobs')} running"]
    if database_up is not True:
        parts.append("connecting to the database" if database_up is None else "the database is down")
    if reload_failed:
        parts.append("the last reload failed")
    return ", ".join(parts)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
