"""What a plan needs of a database server, and what bounds it."""

from __future__ import annotations

import pytest

from soniqd.model.limits import ServerLimits
from soniqd.policy.connections import (
    MASTER_CONNECTIONS,
    Holder,
    bound_problem,
    children_budget,
    connection_need,
    server_problem,
    usable_connections,
    worker_connections,
)

NEED = connection_need([Holder("scheduler", 1, 2), Holder("default", 3, 6), Holder("huge", 0, 50)])
"""2 + 18 for the children, 6 for a replacement, 5 for the master."""
TOTAL = 31


def limits(most: int, reserved: int = 3, **others: int) -> ServerLimits:
    return ServerLimits(most, reserved, **others)


@pytest.mark.parametrize(("pool", "connections"), [(20, 6), (6, 6), (5, 5)])
def test_a_worker_needs_one_for_each_job_and_some_of_its_own_within_its_pool(pool: int, connections: int):
    assert worker_connections(concurrency=4, pool_max_size=pool, pool_headroom=2) == connections


def test_a_plan_needs_its_children_the_master_and_one_replacement_of_the_largest_that_runs():
    assert (NEED.children, NEED.overlap, NEED.total) == (20, 6, TOTAL)
    assert str(NEED) == "scheduler 1 x 2, default 3 x 6, the master 5, 6 for one replacement at a time"


def test_where_children_open_no_connections_nothing_is_needed_and_nothing_bounded():
    none = connection_need([Holder("default", 3, 0)])
    assert none.total == 0
    assert children_budget(none, bound=1, limits=limits(1)) is None
    assert bound_problem(none, 1) is None
    assert server_problem(none, limits(1)) is None


@pytest.mark.parametrize(
    ("server", "usable"),
    [
        (limits(100), 97),
        (limits(100, role=50), 50),
        (limits(100, database=40), 40),
        (limits(100, role=50, database=40), 40),
        (limits(100, role=0), 0),
        (limits(100, role=500), 97),
        (limits(3), 0),
    ],
)
def test_the_least_of_all_limits_is_what_a_server_leaves(server: ServerLimits, usable: int):
    assert usable_connections(server) == usable


def test_a_bound_is_enough_at_the_need_and_names_the_numbers_below():
    assert bound_problem(NEED, TOTAL) is None
    assert bound_problem(NEED, TOTAL - 1) == f"expected {TOTAL} or more ({NEED}), got {TOTAL - 1}"


def test_a_server_is_enough_at_the_need_and_too_small_below():
    assert server_problem(NEED, limits(TOTAL + 3)) is None
    problem = server_problem(NEED, limits(TOTAL + 2, role=60))
    assert problem is not None
    assert problem.startswith(f"up to {TOTAL} database connections are needed ({NEED}), but the server leaves 30 (")
    assert "max_connections 33, 3 of them reserved, the role's limit 60)" in problem


def test_children_may_hold_what_the_bound_or_the_server_leaves_beside_the_master():
    assert children_budget(NEED, bound=None, limits=None) is None
    assert children_budget(NEED, bound=40, limits=None) == 40 - MASTER_CONNECTIONS
    assert children_budget(NEED, bound=None, limits=limits(103)) == 100 - MASTER_CONNECTIONS
    assert children_budget(NEED, bound=40, limits=limits(103)) == 40 - MASTER_CONNECTIONS
    assert children_budget(NEED, bound=400, limits=limits(103)) == 100 - MASTER_CONNECTIONS


def test_a_server_that_is_too_small_keeps_no_worker_from_running():
    assert children_budget(NEED, bound=None, limits=limits(10)) == NEED.children + NEED.overlap
    assert children_budget(NEED, bound=TOTAL, limits=limits(10)) == TOTAL - MASTER_CONNECTIONS
