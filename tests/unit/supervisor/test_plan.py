"""From settings to groups of children."""

from __future__ import annotations

import pytest

from soniqd.errors import ConfigurationError
from soniqd.settings import load_daemon_settings, restore_settings
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.plan import make_plan, plan_need


def settings(**tables: object) -> DaemonSettings:
    return restore_settings(dict(tables))


def test_the_scheduler_is_a_group_of_one_and_comes_first():
    plan = make_plan(settings())
    assert [(group.role, group.name, group.processes) for group in plan] == [
        ("scheduler", "scheduler", 1),
        ("worker", "default", 1),
    ]


def test_every_child_is_watched_for_standing_still():
    assert all(group.hang_timeout_s > 0 for group in make_plan(settings()))


def test_a_disabled_scheduler_is_no_group():
    assert [group.name for group in make_plan(settings(scheduler={"enabled": False}))] == ["default"]


def test_a_groups_own_drain_timeout_wins_also_when_it_is_zero():
    plan = make_plan(
        settings(
            soniqd={"drain_timeout": 10},
            workers=[{"name": "a"}, {"name": "b", "drain_timeout": 0}, {"name": "c", "drain_timeout": "1m"}],
        )
    )
    assert [group.drain_timeout_s for group in plan] == [10, 10, 0, 60]


def test_a_worker_counts_with_its_whole_pool_and_the_scheduler_with_the_connection_of_the_lead():
    plan = make_plan(settings(database={"url": "postgresql:///jobs", "pool_max_size": 9}, workers=[{"concurrency": 4}]))
    assert [(group.name, group.connections) for group in plan] == [("scheduler", 2), ("default", 6)]


def test_a_small_pool_bounds_what_a_worker_counts_with():
    plan = make_plan(settings(database={"url": "postgresql:///jobs", "pool_max_size": 5}, workers=[{"concurrency": 4}]))
    assert plan[1].connections == 5


def test_an_embedded_database_needs_no_connections():
    need = plan_need(make_plan(settings(workers=[{"processes": 50}])))
    assert (need.children, need.total) == (0, 0)


@pytest.mark.parametrize("scheduler", [True, False])
def test_a_bound_is_refused_below_what_the_plan_needs_and_taken_at_that(tmp_path, scheduler):
    def loaded(bound: int) -> DaemonSettings:
        path = tmp_path / "soniq.toml"
        path.write_text(
            f'[database]\nurl = "postgresql:///jobs"\nmax_connections = {bound}\npool_headroom = 1\n'
            f"[scheduler]\nenabled = {str(scheduler).lower()}\n"
            '[[workers]]\nprocesses = 3\nconcurrency = 5\n[[workers]]\nname = "mail"\nprocesses = 0\nconcurrency = 9\n'
        )
        return load_daemon_settings(path, environ={})

    need = 5 + 3 * 6 + 6 + (2 if scheduler else 0)
    assert plan_need(make_plan(loaded(need))).total == need
    with pytest.raises(
        ConfigurationError, match=rf"max_connections: expected {need} or more \(.*3 x 6.*\), got {need - 1}"
    ):
        loaded(need - 1)


def test_a_bound_means_nothing_for_an_embedded_database(tmp_path):
    path = tmp_path / "soniq.toml"
    path.write_text("[database]\nmax_connections = 1\n")
    assert load_daemon_settings(path, environ={}).database.max_connections == 1
