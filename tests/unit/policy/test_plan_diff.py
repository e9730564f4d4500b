"""What a changed plan means for each group."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soniqd.model.child import GroupPlan, ProcessAttributes, Recycling
from soniqd.policy.plan_diff import GroupDiff, changed_keys, diff_plans, needs_replacement

DEFAULT = GroupPlan(role="worker", name="default", processes=3, concurrency=4)
MAIL = GroupPlan(role="worker", name="mail", processes=2, queues=("mail",))


def diff(
    old: list[GroupPlan],
    new: list[GroupPlan],
    *,
    everything: tuple[str, ...] = (),
    unscale: bool = False,
    **running: int,
) -> dict[str, GroupDiff]:
    counts = {group.name: group.processes for group in old} | running
    found = diff_plans(old, new, running=counts, everything=everything, unscale=unscale)
    return {group.name: group for group in found}


def numbers(group: GroupDiff) -> tuple[str, int, int, int, int]:
    return group.action, group.started, group.stopped, group.replaced, group.kept


def test_what_has_not_changed_stays():
    found = diff([DEFAULT, MAIL], [DEFAULT, MAIL])
    assert numbers(found["default"]) == ("stay", 0, 0, 0, 3)
    assert found["mail"].reasons == ()


def test_a_changed_key_replaces_its_group_alone_and_is_named():
    found = diff([DEFAULT, MAIL], [replace(DEFAULT, concurrency=8), MAIL])
    assert numbers(found["default"]) == ("change", 0, 0, 3, 0)
    assert found["default"].reasons == ("concurrency: 4 -> 8",)
    assert numbers(found["mail"]) == ("stay", 0, 0, 0, 2)


@pytest.mark.parametrize(
    ("processes", "expected"), [(5, ("change", 2, 0, 0, 3)), (1, ("change", 0, 2, 0, 1)), (0, ("change", 0, 3, 0, 0))]
)
def test_another_number_of_processes_replaces_nobody(processes: int, expected: tuple[str, int, int, int, int]):
    new = replace(DEFAULT, processes=processes)
    assert not needs_replacement(DEFAULT, new)
    found = diff([DEFAULT], [new])["default"]
    assert numbers(found) == expected
    assert found.reasons == (f"processes: 3 -> {processes}",)


def test_more_processes_with_another_key_start_the_new_ones_and_replace_the_others():
    found = diff([DEFAULT], [replace(DEFAULT, processes=5, concurrency=8)])["default"]
    assert numbers(found) == ("change", 2, 0, 3, 0)
    assert found.reasons == ("processes: 3 -> 5", "concurrency: 4 -> 8")


def test_groups_come_and_go():
    found = diff([DEFAULT], [MAIL])
    assert numbers(found["mail"]) == ("start", 2, 0, 0, 0)
    assert numbers(found["default"]) == ("stop", 0, 3, 0, 0)


def test_changed_code_replaces_everything_and_says_so():
    found = diff([DEFAULT, MAIL], [DEFAULT, MAIL], everything=("code changed: shop",))
    assert [numbers(group) for group in found.values()] == [("change", 0, 0, 3, 0), ("change", 0, 0, 2, 0)]
    assert found["mail"].reasons == ("code changed: shop",)


def test_a_scaled_group_keeps_its_number():
    assert numbers(diff([DEFAULT], [DEFAULT], default=7)["default"]) == ("stay", 0, 0, 0, 7)
    changed = diff([DEFAULT], [replace(DEFAULT, concurrency=1)], default=7)["default"]
    assert numbers(changed) == ("change", 0, 0, 7, 0)


def test_a_scaled_group_gets_the_configured_number_when_that_has_changed_or_everything_was_asked_for():
    assert numbers(diff([DEFAULT], [replace(DEFAULT, processes=4)], default=7)["default"]) == ("change", 0, 3, 0, 4)
    reset = diff([DEFAULT], [DEFAULT], default=7, everything=("asked",), unscale=True)["default"]
    assert numbers(reset) == ("change", 0, 4, 3, 0)
    assert reset.reasons == ("processes: 7 -> 3", "asked")


def test_keys_have_the_names_and_values_that_people_know():
    new = replace(
        DEFAULT,
        queues=("a", "b"),
        drain_timeout_s=90.0,
        recycling=Recycling(max_jobs=5, max_age_s=60.0, max_memory_bytes=1024),
        attributes=ProcessAttributes(nice=5, user="app", rlimits=(("nofile", 10),)),
    )
    assert [str(change) for change in changed_keys(DEFAULT, new)] == [
        "queues: [] -> [a, b]",
        "drain_timeout: 30s -> 90s",
        "max_jobs: 0 -> 5",
        "max_age: 0s -> 60s",
        "max_memory: 0 -> 1024",
        "nice: unset -> 5",
        "rlimits: [] -> [nofile=10]",
        'user: unset -> "app"',
    ]


def test_values_of_the_environment_are_never_shown():
    new = replace(DEFAULT, attributes=ProcessAttributes(env=(("TOKEN", "hunter2"),)))
    [change] = changed_keys(DEFAULT, new)
    assert "TOKEN" in str(change)
    assert "hunter2" not in str(change)
