"""What PostgreSQL reads to answer the hot statements, over a backlog."""

from __future__ import annotations

import psycopg
import pytest

from soniqd.backends.postgres.lookahead import Lookahead
from soniqd.backends.postgres.statements import SQL
from tests.support.jobs import registered

BACKLOG = 20_000
BATCH = 500


@pytest.fixture
async def backlog(store):
    """Return what stores a backlog in some queues: claimable, or for later."""

    async def fill(queues, later="NULL"):
        async with store.acquire() as connection:
            await connection.execute(
                "INSERT INTO soniq_jobs (id, job_name, args, queue, scheduled_at) "
                f"SELECT gen_random_uuid(), 'task', '{{}}', 'q' || n %% %s, {later} FROM generate_series(1, %s) n",
                [queues, BACKLOG],
            )

    return fill


async def nodes_of(store, statement, parameters, *, free_planner=False):
    """Run a statement for real and return its plan's nodes."""
    async with store._database.transaction("explain", free_planner=free_planner) as transaction:
        cursor = psycopg.AsyncCursor(transaction.connection)
        await cursor.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + SQL[statement].text, parameters)
        [(plan,)] = await cursor.fetchall()
    return list(_flat(plan[0]["Plan"]))


async def nodes_of_claim(store, *, free_planner, statement="claim"):
    parameters = {
        "worker_id": await registered(store),
        "names": ["task"],
        "queues": None,
        "limit": BATCH,
        "walk": True,
        "tell_lanes": False,
        "skip": 0,
        "reach": BATCH,
        "lanes": 32,
        **Lookahead().parameters(),
    }
    return await nodes_of(store, statement, parameters, free_planner=free_planner)


def _flat(node):
    yield node
    for child in node.get("Plans", ()):
        yield from _flat(child)


def scans(nodes, table="soniq_jobs"):
    wanted = [n for n in nodes if n.get("Relation Name") == table and n["Node Type"].endswith("Scan")]
    return [n for n in wanted if n["Node Type"] != "Tid Scan"]


def rows(nodes):
    return sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes)


def walked_over(nodes):
    return sum(node.get("Rows Removed by Filter", 0) * node["Actual Loops"] for node in nodes)


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "through a pooler"])
@pytest.mark.parametrize(("table", "queues"), [("plan_claim", 1), ("plan_claim_20_queues", 20)])
async def test_claiming(store, backlog, holds, table, queues, pooled):
    """Through a pooler no setting of the session steers the planner, which knows the table then."""
    await backlog(queues)
    await backlog(queues, later="now() + interval '1 day'")
    if pooled:
        async with store.acquire() as connection:
            await connection.execute("VACUUM ANALYZE soniq_jobs")
    nodes = await nodes_of_claim(store, free_planner=pooled)
    assert {node.get("Index Name") for node in scans(nodes)} == {"soniq_jobs_claim"}
    assert walked_over(scans(nodes)) == 0
    holds(f"{table}.rows_read", rows(scans(nodes)) / BATCH)
    if pooled:
        return
    sorts = [node for node in nodes if "Sort" in node["Node Type"]]
    holds(f"{table}.rows_sorted", rows([child for node in sorts for child in node["Plans"]]) / BATCH)
    holds(f"{table}.pages", (nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"]) / BATCH)


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "through a pooler"])
async def test_claiming_from_the_only_lane(store, backlog, holds, pooled):
    await backlog(1)
    await backlog(1, later="now() + interval '1 day'")
    if pooled:
        async with store.acquire() as connection:
            await connection.execute("VACUUM ANALYZE soniq_jobs")
    nodes = await nodes_of_claim(store, free_planner=pooled, statement="claim_only_lane")
    assert {node.get("Index Name") for node in scans(nodes)} == {"soniq_jobs_claim"}
    assert walked_over(scans(nodes)) == 0
    holds("plan_claim_only_lane.rows_read", rows(scans(nodes)) / BATCH)
    assert not [node for node in nodes if "Sort" in node["Node Type"]]


async def test_promoting_when_nothing_is_due(store, backlog, holds):
    await backlog(1, later="now() + interval '1 day'")
    nodes = await nodes_of(store, "promote_due", {"limit": 1000})
    assert {node.get("Index Name") for node in scans(nodes)} == {"soniq_jobs_due"}
    assert walked_over(scans(nodes)) == 0
    holds("plan_promote.rows_read", rows(scans(nodes)))


async def test_pruning_goes_by_its_index(store, holds):
    async with store.acquire() as connection:
        await connection.execute(
            "INSERT INTO soniq_finished_jobs (id, seq, job_name, args, status, queue, priority, attempts, "
            "max_attempts, crashes, interruptions, unique_job, outcome_no, created_at, expires_at) "
            "SELECT gen_random_uuid(), n, 'task', '{}', 'done', 'default', 100, 1, 1, 0, 0, false, 1, now(), "
            "now() + (n - 100) * interval '1 second' FROM generate_series(1, %s) n",
            [BACKLOG],
        )
    nodes = await nodes_of(store, "prune_history", {"limit": 50, "kept_s": 0.0})
    found = scans(nodes, "soniq_finished_jobs")
    assert {node.get("Index Name") for node in found} == {"soniq_finished_jobs_expires_at"}
    assert not [node for node in nodes if "Sort" in node["Node Type"]]
    holds("plan_prune.rows_read", rows(found) / 50)
