"""From settings to groups of children, and what only a restart can change."""

from __future__ import annotations

from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.plan import changes_that_need_a_restart, make_plan


def settings(**tables: object) -> DaemonSettings:
    return DaemonSettings.model_validate(tables)


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


def test_what_children_get_anew_needs_no_restart():
    old = settings()
    new = settings(workers=[{"processes": 5}], jobs={"timeout": 5}, soniqd={"drain_timeout": 5})
    assert changes_that_need_a_restart(old, new) == []


def test_what_the_master_holds_is_named():
    new = settings(database={"url": "sqlite:///other.db"}, sweep={"interval": 5}, soniqd={"socket": "/elsewhere"})
    assert changes_that_need_a_restart(settings(), new) == ["[soniqd] socket", "[database] url", "[sweep] interval"]
