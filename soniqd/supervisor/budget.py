"""The host's budget of database connections: what the plan needs, what the server leaves, and what children may hold.

The server's limits are read once a minute, so that what somebody changes there counts without a restart here. While
they cannot be read, the last ones hold; before the first time, only the configured bound does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from soniqd.backends import StorageBackend
from soniqd.errors import SoniqError
from soniqd.log import catalogue, emit
from soniqd.model.child import GroupPlan
from soniqd.model.limits import ServerLimits
from soniqd.policy.connections import (
    MASTER_CONNECTIONS,
    bound_problem,
    children_budget,
    server_problem,
    usable_connections,
)
from soniqd.policy.supervision import events as ev
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.plan import make_plan, plan_need

Plan = tuple[GroupPlan, ...]

_LOOK_EVERY_S = 60.0
_RETRY_S = 5.0
_PATIENCE_S = 3.0
"""How long a reload waits for the server's limits before it goes by the last ones known."""


@dataclass(frozen=True, slots=True)
class BudgetHandover:
    """What the next image of the master needs to go on before it has asked the server itself."""

    limits: ServerLimits | None
    problem: str | None


class Budget:
    """``plan`` tells the plan in force, with its scaled groups; ``tell`` hands events to the supervision machine."""

    def __init__(
        self,
        backend: StorageBackend,
        bound: int | None,
        *,
        plan: Callable[[], Plan],
        tell: Callable[[ev.Event], None],
    ) -> None:
        self.problem: str | None = None
        self._backend = backend
        self._bound = bound
        self._plan = plan
        self._tell = tell
        self._limits: ServerLimits | None = None
        self._told: int | None = None
        self._task: asyncio.Task[None] | None = None

    def hand_over(self) -> BudgetHandover:
        """Describe what is known of the server."""
        return BudgetHandover(self._limits, self.problem)

    def resume(self, earlier: BudgetHandover) -> None:
        """Go on with what an earlier image of the master knew; to be started after that."""
        self._limits, self.problem = earlier.limits, earlier.problem

    def start(self) -> None:
        """Set the configured bound, and begin to look at the server's limits."""
        self.settle()
        self._task = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Read the server's limits if it answers within a moment."""
        with suppress(TimeoutError, SoniqError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._read()

    def refusal(self, settings: DaemonSettings, plan: Plan | None = None) -> str | None:
        """Say why other settings, or a plan made of them, leave or find too few connections, or None."""
        need, bound = plan_need(make_plan(settings) if plan is None else plan), settings.database.max_connections
        if bound is not None and (problem := bound_problem(need, bound)):
            return f"[database] max_connections: {problem}"
        return None if self._limits is None else server_problem(need, self._limits)

    def widen(self, settings: DaemonSettings, plan: Plan) -> None:
        """A reload to a plan begins: until it has ended, the greater one of the bounds before and after it holds."""
        now, after = self._told, self._for(settings.database.max_connections, plan)
        self._announce(None if now is None or after is None else max(now, after))

    def settle(self, settings: DaemonSettings | None = None) -> None:
        """Compute the bound for the plan in force; ``settings`` are those that a reload has brought."""
        if settings is not None:
            self._bound = settings.database.max_connections
        self._announce(self._for(self._bound, self._plan()))
        self._judge()

    def state(self) -> dict[str, Any]:
        """What ``soniqctl status --json`` shows; None where nothing is known or bounded."""
        need = plan_need(self._plan())
        return {
            "needed": need.total,
            "allowed": None if self._told is None else self._told + MASTER_CONNECTIONS,
            "configured": self._bound,
            "server": None if self._limits is None else usable_connections(self._limits),
            "problem": self.problem,
        }

    def _for(self, bound: int | None, plan: Plan) -> int | None:
        return children_budget(plan_need(plan), bound=bound, limits=self._limits)

    def _announce(self, budget: int | None) -> None:
        if budget != self._told:
            self._told = budget
            self._tell(ev.Budgeted(budget))

    def _judge(self) -> None:
        problem = None if self._limits is None else server_problem(plan_need(self._plan()), self._limits)
        if problem is not None and problem != self.problem:
            emit(catalogue.CONNECTIONS_SHORT, problem=problem)
        elif problem is None and self.problem is not None:
            emit(catalogue.CONNECTIONS_SUFFICE)
        self.problem = problem

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._read()
                pause_s = _LOOK_EVERY_S
            except SoniqError:  # the ledger tells when the database is away
                pause_s = _RETRY_S
            except Exception as error:  # noqa: BLE001  a duty that ended for a defect would end unseen
                emit(catalogue.DUTY_FAILED, exc_info=error, duty="read the connection limits", error=str(error))
                pause_s = _LOOK_EVERY_S
            await asyncio.sleep(pause_s)

    async def _read(self) -> None:
        limits = await self._backend.connection_limits()
        if limits != self._limits:
            self._limits = limits
            self.settle()
