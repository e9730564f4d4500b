"""What people ask of groups while the daemon runs: another number of processes, or fresh ones."""

from __future__ import annotations

import time
from typing import Any

from soniqd.errors import ControlError
from soniqd.log import catalogue, emit
from soniqd.model.child import GroupPlan
from soniqd.policy.connections import bound_problem
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.scaling import scaled_plan
from soniqd.settings.problems import did_you_mean
from soniqd.supervisor.master import Master
from soniqd.supervisor.plan import plan_need

MOST_PROCESSES = 1000
"""As in the settings."""


class Groups:
    """Scales and restarts groups of a running master."""

    def __init__(self, master: Master) -> None:
        self._master = master

    async def scale(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ``soniqctl scale``; raises ControlError where that cannot be done."""
        name, processes = params.get("group"), params.get("processes")
        if not isinstance(processes, int) or isinstance(processes, bool) or not 0 <= processes <= MOST_PROCESSES:
            raise ControlError(f"cannot scale {name}: expected 0 to {MOST_PROCESSES} processes, got {processes}")
        group = next((group for group in self._groups() if group.name == name), None)
        if group is None:
            known = [group.name for group in self._groups()]
            raise ControlError(
                f"cannot scale {name}: there is no such group of workers; there are {', '.join(known) or 'none'}"
                f"{did_you_mean(name, known)}"
            )
        self._scale(group, processes, "soniqctl scale")
        return {"group": group.name, "processes": processes, "before": group.processes, "configured": self._said(group)}

    def step(self, by: int, reason: str) -> None:
        """Run one process more or less in the first group; a signal never takes the last one."""
        group = next(iter(self._groups()), None)
        if group is None or not 1 <= group.processes + by <= MOST_PROCESSES:
            emit(catalogue.SCALE_REFUSED, reason=reason, error="it leaves a group with 1 to 1000 processes")
            return
        try:
            self._scale(group, group.processes + by, reason)
        except ControlError as error:
            emit(catalogue.SCALE_REFUSED, reason=reason, error=str(error))

    async def restart(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ``soniqctl restart``, when every process concerned was replaced; raises ControlError if not."""
        name, began_s = params.get("group"), time.monotonic()
        plan = self._master.supervision.roster.plan
        groups = tuple(group.name for group in plan if name in (None, group.name))
        if not groups:
            known = [group.name for group in plan]
            raise ControlError(
                f"cannot restart {name}: there is no such group; there are {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )
        result = await self._master.restarts.begin(groups, "soniqctl restart")
        if result.error is not None:
            done = f"; replaced before that: {result.replaced}" if result.replaced else ""
            raise ControlError(f"cannot restart {name or 'all groups'}: {result.error}{done}")
        duration_s = round(time.monotonic() - began_s, 3)
        return {"groups": list(groups), "replaced": result.replaced, "duration_s": duration_s}

    def _groups(self) -> list[GroupPlan]:
        return [group for group in self._master.supervision.roster.plan if group.role == "worker"]

    def _said(self, group: GroupPlan) -> int:
        """What the settings in force say."""
        configured = self._master.supervision.roster.configured
        return next((said.processes for said in configured if said.name == group.name), 0)

    def _scale(self, group: GroupPlan, processes: int, reason: str) -> None:
        supervision = self._master.supervision
        if supervision.phase in ("stopping", "leaving"):
            raise ControlError(f"cannot scale {group.name}: the daemon is {supervision.phase}")
        if processes == group.processes:
            return
        if processes > group.processes and (problem := self._too_many(group, processes)):
            raise ControlError(f"cannot scale {group.name} to {processes}: {problem}")
        emit(catalogue.GROUP_SCALED, group=group.name, processes=processes, before=group.processes, reason=reason)
        self._master.tell(ev.Scale(group.name, processes))
        if not supervision.reloading:  # whose end settles it
            self._master.budget.settle()

    def _too_many(self, group: GroupPlan, processes: int) -> str | None:
        """Say which bound of database connections so many processes would not fit."""
        roster = self._master.supervision.roster
        plan = scaled_plan(roster.configured, {**roster.scaled, group.name: processes})
        settings = self._master.reloads.settings
        bound = settings.database.max_connections
        problem = None if bound is None else bound_problem(plan_need(plan), bound)
        if problem is not None:
            return f"[database] max_connections: {problem}"
        return self._master.budget.refusal(settings, plan)
