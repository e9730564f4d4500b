"""Questions about a backlog cost the same however much waits."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from soniqd.backends.postgres import insight
from soniqd.backends.postgres.leadership import read_leader_name
from soniqd.backends.postgres.statements import SQL
from soniqd.model import LeaderRecord
from tests.support.jobs import registered

_MANY = 60_000
_COUNTED = 500


@pytest.fixture
def backlog(postgres_url, monkeypatch):
    """Store many jobs of every kind; counts stop much earlier."""
    monkeypatch.setattr(insight, "_BOUNDS", {**insight._BOUNDS, "counted": _COUNTED})
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for later in ("NULL", "now() + interval '1 day'"):
            connection.execute(
                "INSERT INTO soniq_jobs (id, job_name, args, queue, priority, scheduled_at) "
                "SELECT gen_random_uuid(), 'task' || g %% 3, '{}', 'q' || g %% 2, g %% 4, "
                f"{later} FROM generate_series(1, %s) g",
                [_MANY],
            )
        connection.execute("VACUUM ANALYZE soniq_jobs")
        [(last,)] = connection.execute(
            "SELECT id::text FROM soniq_jobs WHERE scheduled_at IS NULL ORDER BY seq DESC LIMIT 1"
        )
    return last


@pytest.mark.parametrize(
    "name", ["count_ready", "look_at_heads", "count_later", "count_held", "count_lanes", "count_ahead"]
)
async def test_a_question_reads_a_bounded_number_of_rows(postgres, backlog, name):
    await registered(postgres, "task0", "task1")
    parameters = {**insight._BOUNDS, "id": backlog, "queues": ["q0", "q1"], "names": ["task0", "task1"]}
    rows_read = sum(_rows(node) for node in await _plan(postgres, name, parameters))
    assert rows_read <= 6 * (_COUNTED + 100), f"{name} read {rows_read} rows"


async def _plan(backend: Any, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    connection = await backend._database._pool.borrow()
    try:
        cursor = psycopg.AsyncCursor(connection)
        await cursor.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + SQL[name].text, parameters)
        [(plan,)] = await cursor.fetchall()
    finally:
        await backend._database._pool.give_back(connection)
    scans = [node for node in _nodes(plan[0]["Plan"]) if node.get("Relation Name") == "soniq_jobs"]
    assert scans
    assert all("Seq Scan" not in node["Node Type"] for node in scans), scans
    return scans


def _nodes(node: dict[str, Any]):
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: dict[str, Any]) -> float:
    """Rows that a scan gave or threw away, over all its loops."""
    thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + thrown_away) * node["Actual Loops"])


@pytest.mark.parametrize(
    ("application_name", "address", "expected"),
    [
        ("soniqd leader 4712@web1", "10.0.0.9", LeaderRecord("web1", 4712)),
        ("my app leader 1@a-b.example.org", None, LeaderRecord("a-b.example.org", 1)),
        ("soniqd leader", "10.0.0.9", LeaderRecord("10.0.0.9")),
        ("psql", None, LeaderRecord("localhost")),
        (None, None, LeaderRecord("localhost")),
    ],
)
def test_a_leader_is_known_by_what_it_says_or_by_its_address(application_name, address, expected):
    assert read_leader_name(application_name, address) == expected


async def test_a_leaders_name_may_be_cut(postgres, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 200)
    leadership = postgres.leadership("scheduler")
    assert await leadership.acquire()
    leader = await postgres.leader("scheduler")
    assert leader is not None
    assert leader.pid is not None
    assert set(leader.hostname) == {"h"}
    await leadership.release()
