"""How many database connections a plan needs, and whether a bound or a server leaves so many.

Every process of the host counts with the most that it may ever open, so that the sum holds at any instant: a worker
with its pool, a scheduler with its one-connection pool and, behind a pooler, the connection that holds the lead, the
master with its pool and its subscription. A replacement starts before the old child leaves, so one more of the largest
child has to fit beside all of them. What jobs open by themselves (an ORM's own pool) is not counted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from soniqd.model.limits import ServerLimits

MASTER_POOL = 4
MASTER_CONNECTIONS = MASTER_POOL + 1
"""Its pool, and the host's one subscription."""
SCHEDULER_POOL = 1
SCHEDULER_CONNECTIONS = SCHEDULER_POOL + 1
"""It does one thing after the other. The lead is a lock on that connection, or behind a pooler on one of its own."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A group of processes that may open ``connections`` each."""

    name: str
    processes: int
    connections: int


@dataclass(frozen=True, slots=True)
class ConnectionNeed:
    """What a plan needs: ``children`` together, and ``overlap`` for one replacement beside them."""

    holders: tuple[Holder, ...]

    @property
    def children(self) -> int:
        """All children at once, without a replacement."""
        return sum(holder.processes * holder.connections for holder in self.holders)

    @property
    def overlap(self) -> int:
        """The largest child once more."""
        return max((holder.connections for holder in self.holders if holder.processes), default=0)

    @property
    def total(self) -> int:
        """With the master and one replacement; 0 where connections are not a server's."""
        return MASTER_CONNECTIONS + self.children + self.overlap if self.children else 0

    def __str__(self) -> str:
        parts = [
            f"{holder.name} {holder.processes} x {holder.connections}" for holder in self.holders if holder.processes
        ]
        return ", ".join([*parts, f"the master {MASTER_CONNECTIONS}", f"{self.overlap} for one replacement at a time"])


def worker_connections(*, concurrency: int, pool_max_size: int, pool_headroom: int) -> int:
    """Return the most connections that a worker opens: one for each job that may hold one, and a few of its own."""
    return min(pool_max_size, concurrency + pool_headroom)


def connection_need(holders: Iterable[Holder]) -> ConnectionNeed:
    """Sum a plan up."""
    return ConnectionNeed(tuple(holders))


def usable_connections(limits: ServerLimits) -> int:
    """Return how many connections a server allows us at most."""
    bounds = (limits.max_connections - limits.reserved, limits.role, limits.database)
    return max(0, min(bound for bound in bounds if bound is not None))


def bound_problem(need: ConnectionNeed, bound: int) -> str | None:
    """Word why a configured bound cannot be kept, or return None."""
    if need.total <= bound:
        return None
    return f"expected {need.total} or more ({need}), got {bound}"


def server_problem(need: ConnectionNeed, limits: ServerLimits) -> str | None:
    """Word why a server is too small for a plan, or return None."""
    usable = usable_connections(limits)
    if need.total <= usable:
        return None
    return (
        f"up to {need.total} database connections are needed ({need}), but the server leaves {usable} "
        f"({_limits(limits)}): lower processes, concurrency or [database] pool_max_size, or raise the server's limit"
    )


def children_budget(need: ConnectionNeed, *, bound: int | None, limits: ServerLimits | None) -> int | None:
    """Return the most connections that all children together may hold; None where nothing bounds them.

    Where the server is too small for the plan, all of its workers run all the same, and a person is told: they hold
    fewer connections than they may most of the time, and half of the workers would be worse than a busy server.
    """
    if not need.children:
        return None
    bounds = [] if bound is None else [bound - MASTER_CONNECTIONS]
    if limits is not None:
        bounds.append(max(usable_connections(limits) - MASTER_CONNECTIONS, need.children + need.overlap))
    return min(bounds, default=None)


def _limits(limits: ServerLimits) -> str:
    parts = [f"max_connections {limits.max_connections}, {limits.reserved} of them reserved"]
    if limits.role is not None:
        parts.append(f"the role's limit {limits.role}")
    if limits.database is not None:
        parts.append(f"the database's limit {limits.database}")
    return ", ".join(parts)
