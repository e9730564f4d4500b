"""The small decisions of supervision: a jump in failures, a child's own limits, lasting scales."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from soniqd.model.child import GroupPlan, Recycling
from soniqd.policy.supervision.events import Usage
from soniqd.policy.supervision.failure_jump import MIN_FAILURES, Comparison, Runs, has_jumped
from soniqd.policy.supervision.limits import SPREAD, reached_limit, spread_limits
from soniqd.policy.supervision.scaling import lasting_scales, scaled_plan

counts = st.integers(0, 10_000)
runs = st.builds(Runs, counts, counts)


def plan(*numbers: int) -> tuple[GroupPlan, ...]:
    return tuple(GroupPlan("worker", name, number) for name, number in zip("abc", numbers, strict=False))


def test_a_few_failures_say_nothing():
    assert not has_jumped(Comparison(new=Runs(0, MIN_FAILURES - 1)), 0.2)
    assert has_jumped(Comparison(new=Runs(0, MIN_FAILURES)), 0.2)


def test_a_share_that_is_no_further_above_the_old_one_than_allowed_is_no_jump():
    assert not has_jumped(Comparison(before=Runs(90, 10), new=Runs(70, 30)), 0.2)
    assert has_jumped(Comparison(before=Runs(90, 10), new=Runs(69, 31)), 0.2)


def test_old_children_that_fail_as_much_at_the_same_time_excuse_the_new_ones():
    comparison = Comparison(before=Runs(10_000, 0), lately=Runs(0, 20), new=Runs(0, 20))
    assert not has_jumped(comparison, 0.2)


def test_a_single_failure_of_an_old_child_excuses_nothing():
    assert has_jumped(Comparison(before=Runs(100, 0), lately=Runs(0, 1), new=Runs(0, 20)), 0.2)


@given(before=runs, lately=runs, new=runs)
def test_a_jump_of_1_never_counts(before, lately, new):
    assert not has_jumped(Comparison(before, lately, new), 1.0)


@given(before=runs, lately=runs, new=runs, jump=st.floats(0, 1), more=st.integers(0, 100))
def test_more_failures_never_excuse_a_generation(before, lately, new, jump, more):
    worse = Runs(new.done, new.failed + more)
    assert has_jumped(Comparison(before, lately, worse), jump) or not has_jumped(Comparison(before, lately, new), jump)


@given(
    limits=st.builds(Recycling, st.integers(0, 10**6), st.floats(0, 10**6), st.integers(0, 2**40)),
    random=st.floats(0, 1, exclude_max=True),
)
def test_a_childs_own_limits_are_near_its_groups_and_off_where_those_are(limits, random):
    own = spread_limits(limits, random=random)
    low, high = 1 - SPREAD, 1 + SPREAD
    assert low * limits.max_age_s - 1 <= own.max_age_s <= high * limits.max_age_s + 1
    assert low * limits.max_jobs - 1 <= own.max_jobs <= high * limits.max_jobs + 1
    assert low * limits.max_memory_bytes - 1 <= own.max_memory_bytes <= high * limits.max_memory_bytes + 1
    assert (own.max_jobs == 0) == (limits.max_jobs == 0)


def test_children_of_a_group_have_different_limits():
    limits = Recycling(max_jobs=1000, max_age_s=1000.0)
    assert spread_limits(limits, random=0.0) == Recycling(900, 900.0)
    assert spread_limits(limits, random=0.5) == limits


def test_the_limit_that_is_reached_is_told_in_words():
    limits = Recycling(max_jobs=10, max_age_s=60.0, max_memory_bytes=2**20)
    assert reached_limit(limits, age_s=61, usage=None) == "61 s"
    assert reached_limit(limits, age_s=0, usage=Usage(8, 2)) == "10 runs"
    assert reached_limit(limits, age_s=0, usage=Usage(2, 1, 3 * 10**6)) == "3 runs with 3 MB of memory"
    assert reached_limit(limits, age_s=0, usage=Usage(0, 0, 3 * 10**6)) == ""
    assert reached_limit(limits, age_s=59, usage=Usage(8, 1, 2**20 - 1)) == ""


def test_no_limit_is_never_reached():
    assert reached_limit(Recycling(), age_s=10**9, usage=Usage(10**9, 10**9, 2**60)) == ""


def test_a_scale_lasts_while_its_groups_configured_number_does():
    scaled = {"a": 5, "b": 5, "gone": 5}
    lasting = lasting_scales(scaled, before=plan(1, 1), after=plan(1, 2), unscale=False)
    assert lasting == {"a": 5}
    assert lasting_scales(scaled, before=plan(1, 1), after=plan(1, 2), unscale=True) == {}


def test_a_scaled_plan_differs_in_numbers_alone():
    assert scaled_plan(plan(1, 2), {"b": 4, "gone": 9}) == plan(1, 4)
