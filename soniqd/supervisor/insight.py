"""What the master says about work: what waits in the database, who leads, which jobs its children run, its health.

It asks the database only when somebody asks it, never more often than a tenth of the time that the answer takes, one
question at a time, and it never waits for longer than ``PATIENCE_S``: when the database is down or slow it shows what
it knew last, and how old that is.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import asdict, dataclass
from typing import Any

from soniqd.errors import SoniqError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import Backlog, LeaderRecord
from soniqd.policy.health import ChildHealth, DaemonHealth, GroupHealth, why_not_alive, why_not_ready
from soniqd.policy.supervision.roster import Child, ChildState
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.master import Master

PATIENCE_S = 0.5
LEAST_INTERVAL_S = 1.0
SHARE = 0.1
"""At most so much of its time the database spends on answering here."""
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the database said, when, and how long that took."""

    backlog: Backlog
    leader: LeaderRecord | None
    at_s: float
    took_s: float


class Insight:
    """Answers for :class:`~soniqd.supervisor.commands.Commands`."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._looked: _Looked | None = None
        self._error: str | None = None
        self._asking: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Ask the database anew if that is worth it, and wait for the answer for a moment."""
        if self._master.ledger.up is not True or self._is_fresh():
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="insight")
        await asyncio.wait({self._asking}, timeout=PATIENCE_S)

    def backlog(self) -> dict[str, Any]:
        """Return what is known of the database's jobs; None stands for what was never learned."""
        looked = self._looked
        known = looked.backlog if looked else None
        return {
            "leader": self._leader(),
            "queues": None if known is None else [_queue(asdict(queue)) for queue in known.queues],
            "unclaimable": None if known is None else dict(known.unclaimable),
            "backlog_complete": None if known is None else known.complete,
            "backlog_age_s": None if looked is None else round(time.monotonic() - looked.at_s, 3),
            "backlog_error": self._error,
        }

    async def health(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ``soniqctl health``: of this process alone, so that it never waits."""
        facts = self._health_facts()
        complaints = why_not_ready(facts) if params.get("ready") else why_not_alive(facts)
        return {
            "healthy": not complaints,
            "ready": bool(params.get("ready")),
            "state": facts.phase,
            "database": self._master.ledger.database,
            "reasons": [asdict(complaint) for complaint in complaints],
        }

    def _is_fresh(self) -> bool:
        looked = self._looked
        if looked is None:
            return False
        return time.monotonic() - looked.at_s < max(LEAST_INTERVAL_S, looked.took_s / SHARE)

    async def _ask(self) -> None:
        backend, began_s = self._master.backend, time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await backend.open()
                leader = await backend.leader("scheduler")
                backlog = await backend.backlog()
        except TimeoutError:
            self._error = f"no answer within {TIMEOUT_S:g} s"
        except SoniqError as error:
            self._error = redact(str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, the status must come
            self._error = redact(f"{type(error).__name__}: {error}")
            emit(catalogue.DUTY_FAILED, exc_info=error, duty="look at the backlog", error=self._error)
        else:
            now_s = time.monotonic()
            self._error = None
            self._looked = _Looked(backlog, leader, now_s, now_s - began_s)

    def _leader(self) -> dict[str, Any] | None:
        """Return who leads: what a child here says of itself is newer than what the database said."""
        for child in self._master.processes.values():
            if child.state.phase == "leading" and child.pid is not None:
                return {"hostname": socket.gethostname(), "pid": child.pid, "slot": child.spec.slot}
        leader = self._looked.leader if self._looked else None
        here = {(socket.gethostname(), child.pid) for child in self._master.processes.values()}
        if leader is None or (leader.hostname, leader.pid) in here:  # it did lead, and says that it does no more
            return None
        return {"hostname": leader.hostname, "pid": leader.pid, "slot": None}

    def _health_facts(self) -> DaemonHealth:
        master, now_s = self._master, time.monotonic()
        roster = master.supervision.roster
        by_group: dict[str, list[ChildHealth]] = {}
        for child in roster.children.values():
            health = _child_health(child, master.processes.get(child.worker_id), now_s)
            by_group.setdefault(child.spec.group, []).append(health)
        configured = {plan.name: plan.processes for plan in roster.configured}
        exits = {place.plan.name: str(place.last_exit) for place in roster.places.values() if place.last_exit}
        return DaemonHealth(
            phase=master.supervision.phase,
            database_up=master.ledger.up is True,
            database_error=master.ledger.error,
            poll_interval_s=master.reloads.settings.jobs.poll_interval,
            groups=tuple(
                GroupHealth(
                    name=plan.name,
                    role=plan.role,
                    wanted=plan.processes,
                    configured=configured.get(plan.name, 0),
                    hang_timeout_s=plan.hang_timeout_s,
                    paused=plan.name in roster.paused_groups,
                    children=tuple(by_group.get(plan.name, ())),
                    last_exit=exits.get(plan.name),
                )
                for plan in roster.plan
            ),
        )


def in_flight_of(process: ChildProcess | None) -> int:
    """Count a child's jobs: what it has told, or what its memory shows where its loop is kept from telling."""
    return 0 if process is None else max(process.state.in_flight, len(process.box.memory.running()))


def work_of(process: ChildProcess | None) -> dict[str, Any]:
    """Describe what a child runs the longest, from the memory that it shares: also while it hangs."""
    running = [] if process is None else process.box.memory.running()
    if process is None or not running:
        return {"oldest_job": None}
    oldest, reported = running[0], process.state
    name = reported.running[0] if reported.running and reported.oldest_id == oldest.job_id else None
    ran_s = round(time.monotonic() - oldest.started_ns / 1e9, 3)
    return {"oldest_job": {"id": oldest.job_id, "job_name": name, "ran_s": ran_s}}


def looked_ago_s(process: ChildProcess | None) -> float | None:
    """Return how long ago a worker claimed something or found nothing to claim."""
    looked_s = process.state.looked_s if process else None
    return None if looked_s is None else round(max(0.0, time.monotonic() - looked_s), 3)


def _child_health(child: Child, process: ChildProcess | None, now_s: float) -> ChildHealth:
    state = process.state if process else None
    is_up = child.state is ChildState.RUNNING or (child.state is ChildState.STARTING and child.talks)
    return ChildHealth(
        slot=child.spec.slot,
        up=is_up,
        phase=state.phase if state else "starting",
        still_s=now_s - child.ticked_s,
        free=state.free if state else 0,
        in_flight=state.in_flight if state else 0,
        looked_ago_s=looked_ago_s(process),
    )


def _queue(fields: dict[str, Any]) -> dict[str, Any]:
    oldest_s = fields["oldest_s"]
    return {"name": fields.pop("queue"), **fields, "oldest_s": None if oldest_s is None else round(oldest_s, 3)}
