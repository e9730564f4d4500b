"""The budget of connections: what the machine is told, and when people are."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from soniqd.backends import StorageBackend
from soniqd.errors import DatabaseUnavailableError
from soniqd.model.limits import ServerLimits
from soniqd.policy.supervision import events as ev
from soniqd.settings import restore_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.budget import Budget
from soniqd.supervisor.plan import make_plan
from tests.support.waiting import eventually

MASTER = 5


class Server:
    """The one method of a backend that a budget needs."""

    def __init__(self, limits: ServerLimits | None) -> None:
        self.limits = limits
        self.away = False

    async def connection_limits(self) -> ServerLimits | None:
        if self.away:
            raise DatabaseUnavailableError("it is away")
        return self.limits


def settings(processes: int = 2, bound: int | None = None) -> DaemonSettings:
    """Each worker counts with 6, the scheduler with 2."""
    return restore_settings(
        {"database": {"url": "postgresql:///jobs", "max_connections": bound}, "workers": [{"processes": processes}]}
    )


class Bench:
    def __init__(self, server: Server, configured: DaemonSettings) -> None:
        self.told: list[int | None] = []
        self.plan = make_plan(configured)
        self.budget = Budget(
            cast("StorageBackend", server), configured.database.max_connections, plan=lambda: self.plan, tell=self._tell
        )

    def _tell(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Budgeted)
        self.told.append(event.max_connections)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [cast("Any", record).event for record in caplog.records]


async def test_what_is_configured_holds_from_the_start_and_what_the_server_leaves_when_it_is_known():
    bench = Bench(Server(ServerLimits(43, 3)), settings(bound=60))
    bench.budget.start()
    assert bench.told == [60 - MASTER]
    await eventually(lambda: bench.told == [60 - MASTER, 40 - MASTER])
    await bench.budget.close()
    assert bench.budget.state() == {"needed": 25, "allowed": 40, "configured": 60, "server": 40, "problem": None}


async def test_without_bound_and_server_nothing_is_bounded():
    bench = Bench(Server(None), settings())
    bench.budget.start()
    await bench.budget.refresh()
    await bench.budget.close()
    assert bench.told == []
    assert bench.budget.refusal(settings(processes=1000)) is None


async def test_a_server_that_is_too_small_is_an_error_once_and_a_complaint_until_it_is_large_enough(caplog):
    caplog.set_level(logging.INFO, logger="soniqd")
    server = Server(ServerLimits(23, 3))
    bench = Bench(server, settings())
    await bench.budget.refresh()
    await bench.budget.refresh()
    assert events(caplog) == ["connections_short"]
    assert "25 database connections" in (bench.budget.problem or "")
    assert bench.told == [20]  # the children's 14 and 6 for a replacement: no worker is kept from running
    server.limits = ServerLimits(103, 3)
    await bench.budget.refresh()
    assert events(caplog) == ["connections_short", "connections_suffice"]
    assert bench.budget.problem is None


async def test_other_settings_are_refused_when_the_server_leaves_too_few():
    bench = Bench(Server(ServerLimits(31, 3)), settings())
    await bench.budget.refresh()
    assert bench.budget.refusal(settings(processes=2)) is None
    refusal = bench.budget.refusal(settings(processes=3))
    assert refusal is not None
    assert "31 database connections are needed" in refusal
    assert "leaves 28" in refusal


async def test_a_database_that_is_away_leaves_what_was_known():
    server = Server(ServerLimits(31, 3))
    bench = Bench(server, settings())
    await bench.budget.refresh()
    server.away = True
    await bench.budget.refresh()
    assert bench.budget.refusal(settings(processes=3)) is not None


@pytest.mark.parametrize(("before", "after"), [(40, 60), (60, 40)])
async def test_during_a_reload_the_larger_bound_holds_and_after_it_the_new_one(before: int, after: int):
    bench = Bench(Server(None), settings(bound=before))
    bench.budget.settle()
    new = settings(bound=after)
    bench.budget.widen(new, make_plan(new))
    assert bench.told[-1] == 60 - MASTER
    bench.plan = make_plan(new)
    bench.budget.settle(new)
    assert bench.told[-1] == after - MASTER


async def test_a_scaled_plan_is_refused_beyond_the_configured_bound():
    bench = Bench(Server(None), settings(bound=31))
    assert bench.budget.refusal(settings(bound=31), make_plan(settings(processes=3))) is None
    refusal = bench.budget.refusal(settings(bound=31), make_plan(settings(processes=4)))
    assert refusal is not None
    assert refusal.startswith("[database] max_connections: expected 37 or more")


async def test_a_scaled_group_counts():
    bench = Bench(Server(ServerLimits(31, 3)), settings())
    await bench.budget.refresh()
    assert bench.budget.problem is None
    bench.plan = make_plan(settings(processes=4))
    bench.budget.settle()
    assert bench.budget.problem is not None
