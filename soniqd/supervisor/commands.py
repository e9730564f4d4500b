"""What soniqctl can ask of a running master: each command is a method of :class:`Commands`, by its name."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from soniqd.control.stream import Stream
from soniqd.errors import ControlError
from soniqd.policy.supervision.roster import Child, ChildState, Place
from soniqd.settings.problems import did_you_mean
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.descriptors import descriptor_shortage
from soniqd.supervisor.following import Following
from soniqd.supervisor.groups import Groups
from soniqd.supervisor.insight import Insight, in_flight_of, looked_ago_s, work_of
from soniqd.supervisor.master import Master
from soniqd.supervisor.reloading import ReloadResult
from soniqd.supervisor.stacks import find_child, stacks_of
from soniqd.supervisor.upgrade import Upgrade
from soniqd.supervisor.usage import Usage
from soniqd.version import __version__

_STATES = {
    ChildState.FORKING: "starting",
    ChildState.STARTING: "starting",
    ChildState.RUNNING: "running",
    ChildState.LEAVING: "draining",
    ChildState.HUNG: "hung",
}


class Commands:
    """Answers requests; params and answers are plain JSON values."""

    def __init__(self, master: Master, upgrade: Upgrade) -> None:
        self._master = master
        self._insight = Insight(master)
        groups = Groups(master)
        self._upgrades = upgrade
        following = Following(master)
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any] | Stream]]] = {
            "status": self._status,
            "health": self._insight.health,
            "top": Usage(master).top,
            "reload": self._reload,
            "drain": self._drain,
            "resume": self._resume,
            "scale": groups.scale,
            "restart": groups.restart,
            "stop": self._stop,
            "stacks": self._stacks,
            "tasks": self._tasks,
            "logs": following.logs,
            "events": following.events,
            "upgrade": self._upgrade,
        }

    async def answer(self, command: str, params: dict[str, Any]) -> dict[str, Any] | Stream:
        """Do what is asked; raises ControlError with a reason for people where that cannot be done."""
        handler = self._commands.get(command)
        if handler is None:
            known = ", ".join(sorted(self._commands))
            raise ControlError(f"cannot {command}: this soniqd ({__version__}) knows {known}")
        return await handler(params)

    def state(self) -> dict[str, Any]:
        """What ``soniqctl status --json`` shows."""
        master = self._master
        supervision = master.supervision
        backlog = self._insight.backlog()
        return {
            "state": "reloading" if supervision.reloading else supervision.phase,
            "pid": os.getpid(),
            "version": __version__,
            "generation": supervision.roster.generation,
            "started_at": master.started_at,
            "uptime_s": round(time.monotonic() - master.started_s, 3),
            "database": master.ledger.database,
            "database_problem": master.ledger.problem,
            "database_error": master.ledger.error,
            "location": master.backend.location,
            "config": None if master.reloads.config is None else str(master.reloads.config),
            **backlog,
            "unclaimable_declared": sorted(set(backlog["unclaimable"] or ()).intersection(self._declared())),
            "children": self._children(),
            "groups": self._groups(),
            "descriptors_short": self._descriptors_short(),
            "pending_releases": master.ledger.pending_releases,
            "connections": master.budget.state(),
            "hears_wake_ups": master.waker.hears,
            "poll_interval_s": master.reloads.settings.jobs.poll_interval,
            "followers": master.tap.followers + master.ring.followers,
            "last_reload": _reload_as_json(master.reloads.last),
            "upgrades": master.upgrades,
            "last_upgrade": None if self._upgrades.last is None else asdict(self._upgrades.last),
        }

    async def _status(self, params: dict[str, Any]) -> dict[str, Any]:
        del params
        await self._insight.look()
        return self.state()

    async def _reload(self, params: dict[str, Any]) -> dict[str, Any]:
        everything = bool(params.get("all"))
        if params.get("dry_run"):
            rehearsal = await self._master.rehearse(everything=everything)
            return rehearsal.as_json()
        result = await self._master.reload("soniqctl reload", everything=everything)
        if result.error is not None:
            raise ControlError(f"cannot reload: {result.error}")
        return _reload_as_json(result) or {}

    async def _drain(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._set_paused("drain", params, paused=True)

    async def _resume(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._set_paused("resume", params, paused=False)

    async def _stacks(self, params: dict[str, Any]) -> dict[str, Any]:
        return await stacks_of(find_child(self._master.processes, str(params.get("worker"))))

    async def _tasks(self, params: dict[str, Any]) -> dict[str, Any]:
        """The tasks that the code in use declares, for ``soniqctl enqueue`` of a name that nobody knows."""
        del params
        return {"tasks": list(self._declared())}

    async def _stop(self, params: dict[str, Any]) -> dict[str, Any]:
        """Stop, or join the stop that is under way: only ``now`` cuts it short, as a second signal does."""
        now, already = bool(params.get("now")), self._master.supervision.stopping
        if now:
            self._master.stop("soniqctl stop --now", now=True)
        elif not already:
            self._master.stop("soniqctl stop")
        in_flight = sum(in_flight_of(child) for child in self._processes())
        return {"already": already, "now": self._master.supervision.stopping_now, "in_flight": in_flight}

    async def _upgrade(self, params: dict[str, Any]) -> dict[str, Any]:
        """Never answered here but with an error: the next image of this process answers."""
        del params
        await self._upgrades.attempt("soniqctl upgrade")
        return {}

    def _set_paused(self, command: str, params: dict[str, Any], *, paused: bool) -> dict[str, Any]:
        group = params.get("group")
        groups = self._master.set_paused(group, paused=paused)
        if not groups:
            known = [plan.name for plan in self._master.supervision.roster.plan if plan.role == "worker"]
            raise ControlError(
                f"cannot {command} {group}: there is no such group of workers; there are {', '.join(known)}"
                f"{did_you_mean(group, known)}"
            )
        in_flight = sum(in_flight_of(child) for child in self._processes() if child.spec.group in groups)
        return {"groups": groups, "in_flight": in_flight}

    def _declared(self) -> Sequence[str]:
        generation = self._master.generations.get(self._master.supervision.roster.generation)
        return () if generation is None else generation.tasks

    def _processes(self) -> list[ChildProcess]:
        return list(self._master.processes.values())

    def _children(self) -> list[dict[str, Any]]:
        roster = self._master.supervision.roster
        rows = [self._child(child) for child in roster.children.values()]
        vacant = [place for place in roster.places.values() if place.current is None and place.successor is None]
        rows += [_vacancy(place, roster.generation) for place in vacant]
        return sorted(rows, key=lambda row: (row["role"] != "scheduler", row["group"], row["slot"], -row["generation"]))

    def _child(self, child: Child) -> dict[str, Any]:
        process = self._master.processes.get(child.worker_id)
        place = self._master.supervision.roster.places.get(child.spec.slot)
        reported = process.state if process else None
        state = _STATES[child.state]
        told = reported is not None and reported.phase != "starting"  # its first word after Ready may be on its way
        if reported is not None and told and child.state in (ChildState.RUNNING, ChildState.STARTING):
            state = reported.phase
        return {
            "role": child.spec.role,
            "group": child.spec.group,
            "slot": child.spec.slot,
            "worker_id": child.worker_id,
            "pid": child.pid,
            "state": state,
            "restarts": place.restarts if place else 0,
            "generation": child.spec.generation,
            "uptime_s": round(time.monotonic() - child.started_s, 3),
            "concurrency": child.spec.concurrency,
            "in_flight": in_flight_of(process),
            "done": reported.done if reported else 0,
            "failed": reported.failed if reported else 0,
            "looked_ago_s": looked_ago_s(process),
            **work_of(process),
            "last_exit": str(place.last_exit) if place and place.last_exit else None,
        }

    def _descriptors_short(self) -> dict[str, int] | None:
        places = self._master.supervision.roster.places.values()
        waiting = [place.last_exit for place in places if place.current is None]
        found = descriptor_shortage(waiting, children=len(places))
        return None if found is None else asdict(found)

    def _groups(self) -> list[dict[str, Any]]:
        roster = self._master.supervision.roster
        configured = {plan.name: plan.processes for plan in roster.configured}
        return [
            {
                "name": plan.name,
                "role": plan.role,
                "processes": plan.processes,
                "configured": configured.get(plan.name, 0),
                "concurrency": plan.concurrency,
                "queues": list(plan.queues),
                "paused": plan.name in roster.paused_groups,
                "in_flight": sum(in_flight_of(c) for c in self._processes() if c.spec.group == plan.name),
            }
            for plan in roster.plan
        ]


def _vacancy(place: Place, generation: int) -> dict[str, Any]:
    """A place without a child: it waits for its next start, or for a better configuration."""
    return {
        "role": place.plan.role,
        "group": place.plan.name,
        "slot": place.slot,
        "worker_id": None,
        "pid": None,
        "state": "misconfigured" if place.misconfigured else "waiting",
        "restarts": place.restarts,
        "generation": generation,
        "uptime_s": 0.0,
        "concurrency": place.plan.concurrency,
        "in_flight": 0,
        "done": 0,
        "failed": 0,
        "looked_ago_s": None,
        "oldest_job": None,
        "last_exit": str(place.last_exit) if place.last_exit else None,
    }


def _reload_as_json(result: ReloadResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "generation": result.generation,
        "replaced": result.replaced,
        "kept": result.kept,
        "duration_s": round(result.duration_s, 3),
        "error": result.error,
        "changes": result.changes,
    }
