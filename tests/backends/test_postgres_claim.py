import asyncio
import random
from typing import Any

import psycopg
import pytest

from soniqd.backends.postgres import PostgresBackend, lookahead
from soniqd.backends.postgres import claim as claim_module
from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.lookahead import Lookahead
from soniqd.backends.postgres.statements import SQL
from soniqd.model import Done, JobId, Released, WorkerStatus
from tests.support.jobs import claim, new_job, registered
from tests.support.waiting import eventually

_MANY = 100_000


@pytest.fixture
def fill(postgres_url):
    """Return what stores many claimable jobs at once."""

    def insert(count, *, name="task", queue="default", priority=100, later="NULL"):
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "INSERT INTO soniq_jobs (id, job_name, args, queue, priority, scheduled_at) "
                f"SELECT gen_random_uuid(), %s, '{{}}', %s, %s, {later} FROM generate_series(1, %s)",
                [name, queue, priority, count],
            )

    return insert


def claim_parameters(worker_id, *, limit, names=None, queues=None, place=None, skip=0):
    return {
        "worker_id": worker_id,
        "names": names,
        "queues": queues,
        "limit": limit,
        "walk": place is None,
        "tell_lanes": False,
        "skip": skip,
        "reach": limit + skip,
        "lanes": 32 + skip,
        **(place or Lookahead()).parameters(),
    }


async def plan_of_claim(backend, worker_id, *, names=("task",), queues=None, limit=10, statement="claim"):
    """Run a claim for real and return its plan's nodes, with what each of them read."""
    async with backend._database.transaction("explain") as transaction:
        explained = psycopg.AsyncCursor(transaction.connection)
        parameters = claim_parameters(worker_id, names=list(names), queues=queues, limit=limit)
        await explained.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + SQL[statement].text, parameters)
        [(plan,)] = await explained.fetchall()
    return list(_nodes(plan[0]["Plan"]))


def _nodes(node):
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def assert_cheap(nodes):
    scans = [
        n for n in nodes if n.get("Relation Name") == "soniq_jobs" and n["Node Type"] not in ("ModifyTable", "Tid Scan")
    ]
    assert {n.get("Index Name") for n in scans} == {"soniq_jobs_claim"}
    assert all("Sort" not in n["Node Type"] or n["Actual Rows"] <= 50 for n in nodes)
    assert all(n["Actual Rows"] * n["Actual Loops"] + n.get("Rows Removed by Filter", 0) <= 50 for n in scans)
    assert nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"] < 400


BACKLOGS: dict[str, dict[str, Any]] = {
    "of its own": {},
    "of a worse priority": {"priority": 500},
    "of a better priority in another queue": {"queue": "aaa", "priority": 1},
    "in a paused queue": {"queue": "paused", "priority": 1},
    "of another task": {"name": "aaa.unknown", "priority": 1},
    "for later": {"later": "now() + interval '1 day'"},
}


@pytest.mark.parametrize("statement", ["claim", "claim_only_lane"])
@pytest.mark.parametrize("backlog", BACKLOGS)
async def test_a_claim_walks_over_no_backlog(postgres, fill, backlog, statement):
    fill(20)
    fill(_MANY, **BACKLOGS[backlog])
    await postgres.set_queue_paused("paused", paused=True)
    worker_id = await registered(postgres)
    assert_cheap(await plan_of_claim(postgres, worker_id, queues=["default"], statement=statement))


@pytest.mark.parametrize("statement", ["claim", "claim_only_lane"])
async def test_a_plan_made_over_an_empty_table_serves_a_full_one(postgres, fill, postgres_url, statement):
    worker_id = await registered(postgres)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ANALYZE soniq_jobs")
    for _ in range(10):
        assert await claim(postgres, worker_id) == []
    fill(_MANY)
    assert_cheap(await plan_of_claim(postgres, worker_id, statement=statement))


async def test_the_due_index_serves_promotion(postgres, fill):
    fill(_MANY, later="now() + interval '1 day'")
    fill(_MANY)
    async with postgres._database.transaction("explain") as transaction:
        explained = psycopg.AsyncCursor(transaction.connection)
        await explained.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + SQL["promote_due"].text, {"limit": 1000})
        [(plan,)] = await explained.fetchall()
    scans = [n for n in _nodes(plan[0]["Plan"]) if n.get("Index Name")]
    assert {n["Index Name"] for n in scans} == {"soniq_jobs_due"}
    assert all(n["Actual Rows"] <= 1 for n in scans)


async def test_completing_probes_the_primary_key_once_a_job(postgres, fill):
    fill(500)
    worker_id = await registered(postgres)
    claimed = await claim(postgres, worker_id, 200)
    parameters = {
        "ids": [job.fence.job_id for job in claimed],
        "worker_id": worker_id,
        "claim_nos": [job.fence.claim_no for job in claimed],
        "results": ["1"] * len(claimed),
        "ttls_s": [60.0] * len(claimed),
    }
    async with postgres._database.transaction("explain") as transaction:
        explained = psycopg.AsyncCursor(transaction.connection)
        await explained.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + SQL["complete_done"].text, parameters)
        [(plan,)] = await explained.fetchall()
    scans = [n for n in _nodes(plan[0]["Plan"]) if n.get("Relation Name") == "soniq_jobs" and "Scan" in n["Node Type"]]
    assert {n.get("Index Name") for n in scans} == {"soniq_jobs_pkey", None}
    assert all(n["Actual Rows"] <= 1 and n.get("Rows Removed by Filter", 0) == 0 for n in scans)


async def test_claims_at_once_share_the_jobs_between_them(postgres, fill):
    for queue in ("a", "b", "c"):
        fill(100, queue=queue)
    workers = [await registered(postgres) for _ in range(6)]
    claims = await asyncio.gather(*(claim(postgres, worker_id, 50) for worker_id in workers))
    ids = [job.fence.job_id for taken in claims for job in taken]
    assert len(ids) == len(set(ids)) == 300


@pytest.fixture
def locked(postgres_url):
    """Return what keeps rows locked, in a transaction that stays open until the test ends."""
    with psycopg.connect(postgres_url) as other:

        def lock(where):
            rows = other.execute(
                "SELECT FROM soniq_jobs WHERE id IN (SELECT id FROM (SELECT id, job_name, "
                "row_number() OVER (PARTITION BY job_name ORDER BY priority, seq) AS n FROM soniq_jobs) numbered "
                f"WHERE {where}) FOR UPDATE"
            )
            return rows.rowcount

        yield lock
        other.rollback()


@pytest.mark.parametrize(("count", "statements"), [(4, 3), (20, 3), (36, 4), (200, 5), (500, 5)])
async def test_a_lane_that_others_have_locked_holds_up_no_other_one(postgres, walks, locked, count, statements):
    await postgres.enqueue([new_job("locked") for _ in range(count)])
    await postgres.enqueue(jobs := [new_job("free") for _ in range(10)])
    worker_id = await registered(postgres)
    assert locked("job_name = 'locked'") == count
    claimed = await claim(postgres, worker_id, 4)
    assert [job.fence.job_id for job in claimed] == [job.id for job in jobs[:4]]
    assert len(walks) == statements
    walks.clear()
    assert len(await claim(postgres, worker_id, 4)) == 4
    assert len(walks) == 1  # the lock is remembered
    assert len(await claim(postgres, worker_id, 4)) == 2


async def test_rows_that_others_have_locked_in_many_lanes_are_passed(postgres, walks, locked):
    jobs = [new_job(f"task{n % 10}", priority=n % 3) for n in range(100)]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres)
    assert locked("n = 1 AND job_name < 'task5'") == 5
    claimed = await claim(postgres, worker_id, 95)
    assert len({job.fence.job_id for job in claimed}) == 95
    assert len(walks) <= 4
    walks.clear()
    assert await claim(postgres, worker_id, 5) == []


async def test_more_lanes_than_a_claim_looks_at_may_all_be_locked(postgres, walks, locked):
    await postgres.enqueue([new_job(f"task{n:02}") for _ in range(3) for n in range(50)])
    worker_id = await registered(postgres)
    locked("job_name < 'task45'")
    assert len(await claim(postgres, worker_id, 4)) == 4
    assert len(walks) <= 4


async def test_locks_that_are_gone_are_forgotten(postgres, walks, locked, monkeypatch):
    monkeypatch.setattr(claim_module, "_SKIP_S", 0.0)
    await postgres.enqueue([new_job("locked") for _ in range(200)])
    await postgres.enqueue([new_job("free") for _ in range(100)])
    worker_id = await registered(postgres)
    locked("job_name = 'locked'")
    memory = postgres._lookahead((None, None))
    assert [job.name for job in await claim(postgres, worker_id, 4)] == ["free"] * 4
    assert memory.next_skip(1) == 512
    walks.clear()
    assert len(await claim(postgres, worker_id, 4)) == 4
    assert len(walks) == 3  # it goes as far at once
    memory.needed_no_skip()
    assert memory.next_skip(1) == 32
    assert memory.next_skip(0) == 0


@pytest.mark.parametrize("skip", [0, 1, 7, 40, 512])
@pytest.mark.parametrize("limit", [1, 4, 30])
async def test_nothing_is_locked_but_what_is_taken_and_that_is_the_best(postgres, postgres_url, locked, limit, skip):
    jobs = [new_job(f"task{n % 9}", priority=n % 3) for n in range(90)]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres)
    count = locked("n = 1 AND job_name < 'task5'")
    free_ones = "SELECT id::text FROM soniq_jobs WHERE status = 'queued' ORDER BY priority, seq FOR UPDATE SKIP LOCKED"
    with psycopg.connect(postgres_url) as looking:
        before = [row[0] for row in looking.execute(free_ones)]
    assert len(before) == 90 - count
    with psycopg.connect(postgres_url) as claiming, psycopg.connect(postgres_url) as looking:
        rows = claiming.execute(SQL["claim"].text, claim_parameters(worker_id, limit=limit, skip=skip)).fetchall()
        taken = {row[0] for row in rows if row[0]}
        assert {row[0] for row in looking.execute(free_ones)} == set(before) - taken
        assert len(taken) <= limit
        if skip >= count:
            assert taken == set(before[:limit])


async def test_more_lanes_than_a_claim_looks_at_are_drained_in_order(postgres):
    jobs = [new_job(f"task{n % 45}", queue=f"q{n % 7}", priority=n % 3) for n in range(700)]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres)
    claimed = await claim(postgres, worker_id, 700)
    expected = [job.id for job in sorted(jobs, key=lambda job: job.priority)]
    assert [job.fence.job_id for job in claimed] == expected


@pytest.mark.parametrize("seed", range(6))
async def test_each_of_many_uneven_lanes_gives_exactly_its_best(postgres, seed):
    """The place up to which lanes are read must never cut off what is among the best."""
    source = random.Random(seed)
    lanes = source.randrange(7, 33)
    weights = [source.random() ** source.choice([0, 1, 6]) for _ in range(lanes)]
    worst = source.choice([1, 3, 1000])
    jobs = [
        new_job(queue=f"q{source.choices(range(lanes), weights)[0]}", priority=source.randrange(worst))
        for _ in range(600)
    ]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres)
    expected = [job.id for job in sorted(jobs, key=lambda job: job.priority)]
    while expected:
        limit = source.choice([1, 7, 50, 200])
        assert [job.fence.job_id for job in await claim(postgres, worker_id, limit)] == expected[:limit]
        del expected[:limit]


@pytest.mark.parametrize("one_lane_is_tried", [True, False])
@pytest.mark.parametrize("seed", range(8))
async def test_claims_of_few_lanes_take_what_they_should_in_either_way(postgres, monkeypatch, seed, one_lane_is_tried):
    monkeypatch.setattr(Lookahead, "expects_one_lane", lambda *_: one_lane_is_tried)
    source = random.Random(seed)
    lanes = [(name, queue) for name in ("task", "unknown") for queue in ("open", "paused", "other")]
    jobs = [
        new_job(name, queue=queue, priority=source.randrange(3), delay_s=source.choice([None, None, 60.0]))
        for name, queue in source.choices(source.sample(lanes, source.choice([1, 1, 2, 3])), k=30)
    ]
    await postgres.enqueue(jobs)
    await postgres.set_queue_paused("paused", paused=True)
    worker_id = await registered(postgres)
    fitting = [job for job in jobs if job.name == "task" and job.queue == "open" and job.delay_s is None]
    expected = [job.id for job in sorted(fitting, key=lambda job: job.priority)]
    while expected:
        limit = source.choice([1, 4, 50])
        claimed = await postgres.claim(worker_id, names=["task"], queues=["open", "paused"], limit=limit)
        assert [job.fence.job_id for job in claimed] == expected[:limit]
        del expected[:limit]
    assert await postgres.claim(worker_id, names=["task"], queues=["open", "paused"], limit=50) == []


async def test_one_lane_is_claimed_by_one_short_statement_and_several_by_the_whole_one(postgres, monkeypatch):
    ran = []
    run = Database.run

    async def noted(self, statement, parameters):
        ran.append(statement.purpose if statement is not claim_module._CLAIM_ONLY_LANE else "short")
        return await run(self, statement, parameters)

    monkeypatch.setattr(Database, "run", noted)
    worker_id = await registered(postgres)
    await postgres.enqueue([new_job()])
    ran.clear()
    assert len(await claim(postgres, worker_id)) == 1
    assert ran == ["short"]
    await postgres.enqueue([new_job("task"), new_job("other")])
    ran.clear()
    assert len(await claim(postgres, worker_id)) == 2
    assert len(await claim(postgres, worker_id)) == 0
    assert ran == ["short", "take the best claimable jobs", "take the best claimable jobs"]


async def test_a_release_waits_for_a_claim_under_way(postgres, postgres_url):
    """A killed worker's last claim may still run in the server when its jobs are released."""
    await postgres.enqueue([new_job(), new_job()])
    worker_id = await registered(postgres)
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(SQL["claim"].text, claim_parameters(worker_id, limit=2)).fetchall()
        assert len([row for row in rows if row[0]]) == 2
        release = asyncio.create_task(postgres.release_workers([worker_id], cause="crash", max_crashes=3))
        await _wait_for_lock(postgres)
        assert not release.done()
        connection.commit()
        assert len((await release).requeued) == 2
    assert await postgres.claims_of(worker_id) == []


async def test_a_claim_that_waits_for_a_release_takes_nothing(postgres, postgres_url):
    await postgres.enqueue([new_job()])
    worker_id = await registered(postgres)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(SQL["lock_workers"].text, {"ids": [worker_id], "ended": None})
        late = asyncio.create_task(claim(postgres, worker_id))
        await _wait_for_lock(postgres)
        connection.commit()
        assert await late == []


async def test_a_heartbeat_does_not_wait_for_a_claim(postgres, postgres_url):
    await postgres.enqueue([new_job()])
    worker_id = await registered(postgres)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(SQL["claim"].text, claim_parameters(worker_id, limit=1))
        async with asyncio.timeout(5):
            assert await postgres.heartbeat([worker_id]) == {worker_id}


async def test_a_late_completion_waits_for_the_release_and_changes_nothing(postgres, postgres_url):
    """The fence is checked on the row that the other writer left, not on the one that was there before."""
    job = new_job()
    await postgres.enqueue([job])
    worker_id = await registered(postgres)
    [claimed] = await claim(postgres, worker_id)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "UPDATE soniq_jobs SET status = 'queued', worker_id = NULL, crashes = 1 WHERE id = %s", [job.id]
        )
        late = asyncio.create_task(postgres.complete([Done(claimed.fence, "1", 60)]))
        await _wait_for_lock(postgres)
        connection.commit()
        assert await late == frozenset()
    again = await postgres.get_job(JobId(job.id))
    assert again is not None
    assert again["status"] == "queued"


async def test_an_empty_claim_writes_nothing(postgres):
    worker_id = await registered(postgres)
    await claim(postgres, worker_id)
    before = await _next_transaction(postgres)
    for _ in range(20):
        await claim(postgres, worker_id)
    assert await _next_transaction(postgres) == before


async def test_a_claim_locks_nothing_of_a_paused_queue(postgres, postgres_url):
    # What it locked, another claimer would pass by in the moment in which the queue goes on.
    worker_id = await registered(postgres)
    await postgres.enqueue([new_job() for _ in range(3)])
    await postgres.set_queue_paused("default", paused=True)
    assert await claim(postgres, worker_id) == []
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM soniq_jobs WHERE xmax <> 0").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM soniq_workers WHERE xmax <> 0").fetchone() == (0,)


async def test_a_draining_worker_is_given_nothing(postgres):
    await postgres.enqueue([new_job()])
    worker_id = await registered(postgres)
    await postgres.set_worker_status([worker_id], WorkerStatus.STOPPING)
    assert await claim(postgres, worker_id) == []


async def _next_transaction(backend: PostgresBackend) -> str:
    """Return a number that grows with every transaction that writes."""
    async with backend.acquire() as connection:
        [(number,)] = await (
            await connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        ).fetchall()
        return str(number)


async def _wait_for_lock(backend: PostgresBackend) -> None:
    """Wait until a statement of the backend waits for a lock."""

    async def waits():
        async with backend.acquire() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return (await cursor.fetchone())[0] > 0

    await eventually(waits)


@pytest.fixture
def busy(monkeypatch):
    """Make claims go on from where they were after the first row, as far as their rule allows."""
    monkeypatch.setattr(lookahead, "_BUSY_FROM", 1)
    monkeypatch.setattr(lookahead, "_CHEAP_S", 0.0)
    monkeypatch.setattr(lookahead, "_SHARE", 1e9)


@pytest.fixture
def walks(monkeypatch):
    """Return a list in which each claim writes whether it looks from the beginning."""
    noted = []
    run = Database.run

    async def noting(self, statement, parameters):
        if "walk" in parameters:
            noted.append(parameters["walk"] == "t")
        return await run(self, statement, parameters)

    monkeypatch.setattr(Database, "run", noting)
    return noted


async def test_a_busy_claimer_takes_everything_in_order(postgres, busy):
    jobs = [new_job(f"task{n % 3}", queue=f"q{n % 2}", priority=n % 2) for n in range(300)]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres)
    taken = [job.fence.job_id for _ in range(50) for job in await claim(postgres, worker_id, 7)]
    assert taken == [job.id for job in sorted(jobs, key=lambda job: job.priority)]


async def test_a_busy_claimer_does_not_walk_over_what_it_has_claimed(postgres, fill, busy):
    fill(20_000)
    worker_id = await registered(postgres)
    await claim(postgres, worker_id, 10_000)
    await claim(postgres, worker_id, 10)
    place = postgres._lookaheads[(None, None)]
    assert place.may_go_on(0.0)
    async with postgres._database.transaction("explain") as transaction:
        explained = psycopg.AsyncCursor(transaction.connection)
        parameters = claim_parameters(worker_id, limit=10, place=place)
        await explained.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + SQL["claim"].text, parameters)
        [(plan,)] = await explained.fetchall()
    assert_cheap(list(_nodes(plan[0]["Plan"])))


async def test_a_busy_claimer_does_not_walk_over_what_it_has_claimed_when_the_queue_was_empty_in_between(
    postgres, fill, busy
):
    """Each time a queue was drained the next claim walked over all that an old snapshot keeps."""
    fill(10_000)
    worker_id = await registered(postgres)
    for limit in (9_990, 10):
        assert len(await claim(postgres, worker_id, limit)) == limit
    assert await claim(postgres, worker_id, 10) == []
    fill(20)
    place = postgres._lookaheads[(None, None)]
    assert place.may_go_on(0.0)
    async with postgres._database.transaction("explain") as transaction:
        explained = psycopg.AsyncCursor(transaction.connection)
        parameters = claim_parameters(worker_id, limit=10, place=place)
        await explained.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + SQL["claim"].text, parameters)
        [(plan,)] = await explained.fetchall()
    assert_cheap(list(_nodes(plan[0]["Plan"])))
    assert len(await claim(postgres, worker_id, 10)) == 10


async def test_a_job_that_comes_back_to_a_drained_lane_is_found_at_once(postgres, busy):
    await postgres.enqueue([new_job() for _ in range(20)])
    worker_id = await registered(postgres)
    held = await claim(postgres, worker_id, 20)
    assert await claim(postgres, worker_id, 20) == []
    await postgres.complete([Released(held[0].fence, interrupted=False)])
    assert [job.fence.job_id for job in await claim(postgres, worker_id, 20)] == [held[0].fence.job_id]


async def test_what_a_busy_claimer_has_gone_past_is_announced_and_found(postgres, busy):
    """A claim that finds something does not wait for the look over all that an old snapshot keeps."""
    await postgres.enqueue([new_job() for _ in range(20)])
    worker_id = await registered(postgres)
    first = await claim(postgres, worker_id, 5)
    await claim(postgres, worker_id, 5)
    await postgres.complete([Released(job.fence, interrupted=False) for job in first])
    await postgres.enqueue([new_job("another", priority=1)])
    wake_ups = await postgres.subscribe()
    await wake_ups.wait(0)
    ids = {job.fence.job_id for job in await claim(postgres, worker_id, 100)}
    assert len(ids) == 10
    assert [wake_up.queue for wake_up in await wake_ups.wait(10)] == ["default"]
    ids |= {job.fence.job_id for job in await claim(postgres, worker_id, 100)}
    assert {job.fence.job_id for job in first} <= ids
    assert len(ids) == 16


class HeldLooks:
    """Looks beside the claims: each has seen what there is, and is not answered until it is told to go on."""

    def __init__(self):
        self.count = 0
        self.announced = []
        self.seen = asyncio.Event()
        self.go_on = asyncio.Event()

    async def hold(self):
        self.count += 1
        self.seen.set()
        await self.go_on.wait()


@pytest.fixture
def looks(monkeypatch):
    held = HeldLooks()
    fetch = Database.fetch

    async def fetch_and_hold(self, statement, parameters, **options):
        rows = await fetch(self, statement, parameters, **options)
        if statement.name == "look_behind":
            await held.hold()
        elif statement.name == "announce":
            held.announced += parameters["queues"]
        return rows

    monkeypatch.setattr(Database, "fetch", fetch_and_hold)
    return held


async def test_what_comes_back_while_a_look_is_under_way_is_found_by_the_next(postgres, busy, looks):
    await postgres.enqueue([new_job() for _ in range(20)])
    worker_id = await registered(postgres)
    first = await claim(postgres, worker_id, 5)
    await claim(postgres, worker_id, 5)
    assert len(await claim(postgres, worker_id, 100)) == 10
    async with asyncio.timeout(10):
        await looks.seen.wait()
    await postgres.complete([Released(job.fence, interrupted=False) for job in first])
    await postgres.enqueue([new_job()])
    assert len(await claim(postgres, worker_id, 100)) == 1
    wake_ups = await postgres.subscribe()
    await wake_ups.wait(0)
    looks.go_on.set()
    assert [wake_up.queue for wake_up in await wake_ups.wait(10)] == ["default"]
    assert looks.count == 2
    assert len(await claim(postgres, worker_id, 100)) == 5


async def test_what_is_claimed_while_a_look_is_under_way_is_not_announced(postgres, busy, looks):
    await postgres.enqueue([new_job() for _ in range(20)])
    worker_id = await registered(postgres)
    await claim(postgres, worker_id, 5)
    await claim(postgres, worker_id, 5)
    kind, place = (None, None), postgres._lookaheads[(None, None)]
    postgres._look_behind_soon(kind, place)
    async with asyncio.timeout(10):
        await looks.seen.wait()
    await claim(postgres, worker_id, 5)
    where = dict(place.places)
    looks.go_on.set()
    await place.looking
    assert looks.announced == []
    assert place.places == where


async def test_a_look_ends_with_its_backend_however_many_kinds_of_claims_there_were(postgres, busy, looks):
    await postgres.enqueue([new_job() for _ in range(20)])
    worker_id = await registered(postgres)
    for limit in (5, 5, 100):
        await claim(postgres, worker_id, limit)
    async with asyncio.timeout(10):
        await looks.seen.wait()
    for number in range(20):
        await postgres.claim(worker_id, names=[f"other{number}"], queues=None, limit=1)
    await postgres.close()
    assert "soniqd-look-behind" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_busy_claimer_that_finds_nothing_looks_from_the_beginning_at_once(postgres, busy):
    await postgres.enqueue([new_job() for _ in range(20)])
    worker_id = await registered(postgres)
    first = await claim(postgres, worker_id, 10)
    await claim(postgres, worker_id, 10)
    await postgres.complete([Released(job.fence, interrupted=False) for job in first])
    ids = [job.fence.job_id for job in await claim(postgres, worker_id, 100)]
    assert ids == [job.fence.job_id for job in first]


async def test_a_busy_claimer_gets_all_it_asks_for_of_more_lanes_than_a_claim_looks_at(postgres, busy, walks):
    jobs = [new_job(f"task{n % 40}") for n in range(1_200)]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres)
    assert len(await claim(postgres, worker_id, 100)) == 100
    walks.clear()
    for taken in range(100, 1_200, 100):
        claimed = await claim(postgres, worker_id, 100)
        assert [job.fence.job_id for job in claimed] == [job.id for job in jobs[taken : taken + 100]]
    assert not any(walks)
    assert await claim(postgres, worker_id, 100) == []


async def test_a_busy_claimer_does_not_stop_at_what_others_have_locked(postgres, postgres_url, busy, monkeypatch):
    await postgres.enqueue([new_job("first") for _ in range(20)])
    await postgres.enqueue([new_job("second") for _ in range(500)])
    worker_id = await registered(postgres)
    for _ in range(2):
        await claim(postgres, worker_id, 5)
    run = Database.run
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT FROM soniq_jobs WHERE job_name = 'first' AND status = 'queued' FOR UPDATE")

        async def until_the_first_answer(self, statement, parameters):
            rows = await run(self, statement, parameters)
            other.rollback()
            return rows

        monkeypatch.setattr(Database, "run", until_the_first_answer)
        claimed = await claim(postgres, worker_id, 100)
    assert sorted(job.name for job in claimed) == ["first"] * 10 + ["second"] * 90


async def test_what_a_busy_claimer_holds_does_not_wait_for_a_look_from_the_beginning(
    postgres, postgres_url, busy, walks
):
    await postgres.enqueue([new_job("first") for _ in range(20)])
    await postgres.enqueue([new_job("second") for _ in range(500)])
    worker_id = await registered(postgres)
    for _ in range(2):
        await claim(postgres, worker_id, 5)
    walks.clear()
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT FROM soniq_jobs WHERE job_name = 'first' AND status = 'queued' FOR UPDATE")
        assert [job.name for job in await claim(postgres, worker_id, 100)] == ["second"] * 90
    assert walks == [False, False]  # nor for others who let nothing go


async def test_jobs_that_come_alone_to_a_busy_claimer_cost_no_look_from_the_beginning(postgres, busy, walks):
    names = [f"task{n:02}" for n in range(30)]
    await postgres.enqueue([new_job(name) for _ in range(2) for name in names])
    worker_id = await registered(postgres)
    for _ in range(2):
        assert len(await claim(postgres, worker_id, 30)) == 30
    assert await claim(postgres, worker_id) == []
    for alone in (names[:1], names[7:9], names):
        walks.clear()
        await postgres.enqueue([new_job(name) for name in alone])
        assert [job.name for job in await claim(postgres, worker_id)] == alone
        assert walks == [False]


async def test_a_busy_claimer_takes_better_priorities_and_lanes_that_were_empty_first(postgres, busy, monkeypatch):
    monkeypatch.setattr(lookahead, "_PROBE_S", 0.0)
    monkeypatch.setattr(lookahead, "_PROBE_COSTS", 0.0)
    await postgres.enqueue([new_job() for _ in range(100)])
    worker_id = await registered(postgres)
    await claim(postgres, worker_id, 1)
    await postgres.enqueue([new_job(queue="urgent", priority=1)])
    assert len({job.queue for job in await claim(postgres, worker_id, 5)}) == 2
    postgres._lookaheads[(None, None)].forget()
    await claim(postgres, worker_id, 5)
    assert list(postgres._lookaheads[(None, None)].places) == [("urgent", "task"), ("default", "task")]
    better, urgent = new_job(priority=7), new_job(queue="urgent", priority=2**31 - 1)
    await postgres.enqueue([better, urgent])
    taken = [job.fence.job_id for job in await claim(postgres, worker_id, 5)]
    assert taken[0] == better.id
    assert urgent.id not in taken
    await postgres.enqueue([first := new_job(queue="urgent", priority=1)])
    assert [job.fence.job_id for job in await claim(postgres, worker_id, 1)] == [first.id]
    await postgres.set_queue_paused("urgent", paused=True)
    rest = await claim(postgres, worker_id, 79)
    assert {job.queue for job in rest} == {"default"}


def test_known_lanes_are_the_last_ones_seen(monkeypatch):
    monkeypatch.setattr(lookahead, "_MOST_KNOWN", 3)
    place = Lookahead()
    for number in (1, 2, 3, 2, 4):
        place.looked([((f"q{number}", "task"), (1, 1))], now=100.0, cost_s=0.1)
    assert place.probe() == {
        "queues": '{"q3","q2","q4"}',
        "names": '{"task","task","task"}',
        "below": "{1,1,1}",
    }


def test_the_places_of_lanes_that_are_empty_now_are_kept_but_not_of_all_there_ever_were(monkeypatch):
    monkeypatch.setattr(lookahead, "_MOST_EMPTY", 2)
    place = Lookahead()
    place.took(10_000, {})
    for number in range(4):
        place.looked([((f"q{number}", "task"), (1, number))], now=100.0, cost_s=0.1)
    place.took(1, {("q3", "task"): (1, 9)})
    place.forget()
    assert not place.may_go_on(100.0)
    place.looked([], now=100.0, cost_s=0.1)
    assert place.may_go_on(100.0)
    assert place.places == {("q2", "task"): (1, 2), ("q3", "task"): (1, 9)}


async def test_the_places_of_a_claimer_that_is_not_busy_any_more_are_forgotten(postgres, busy, monkeypatch):
    await postgres.enqueue([new_job(f"task{n % 2}") for n in range(40)])
    worker_id = await registered(postgres)
    for _ in range(2):
        await claim(postgres, worker_id, 5)
    place = postgres._lookaheads[(None, None)]
    assert len(place.places) == 2
    monkeypatch.setattr(lookahead, "_BUSY_FROM", 5_000)
    await claim(postgres, worker_id, 5)
    assert place.places == {}


def test_what_comes_back_between_old_places_and_new_ones_is_told_by_the_next_look():
    place, lane = Lookahead(), ("queue", "task")
    place.looked([(lane, (1, 10))], now=100.0, cost_s=0.1)
    since = dict(place.places)
    place.took(20, {lane: (1, 30)})
    assert place.looked_beside([(lane, (1, 20))], since=since, now=100.0, cost_s=0.1) == set()
    assert place.looked_beside([(lane, (1, 20))], since=dict(place.places), now=100.0, cost_s=0.1) == {"queue"}
    assert place.places == {lane: (1, 20)}


def test_a_probe_is_due_after_a_while_and_no_sooner_than_it_may_cost():
    place = Lookahead()
    place.looked([], now=100.0, cost_s=0.01)
    assert not place.wants_probe(100.19)
    assert place.wants_probe(100.21)
    place.looked([], now=100.0, cost_s=1.0)
    assert not place.wants_probe(101.9)
    place.probed([(("queue", "task"), (1, 5))], now=102.0)
    assert not place.wants_probe(103.9)
    assert place.places == {("queue", "task"): (1, 5)}


async def test_a_busy_claimer_obeys_a_pause_and_a_stop(postgres, busy):
    await postgres.enqueue([new_job() for _ in range(50)])
    worker_id = await registered(postgres)
    for _ in range(3):
        await claim(postgres, worker_id, 5)
    await postgres.set_queue_paused("default", paused=True)
    assert await claim(postgres, worker_id, 5) == []
    await postgres.set_queue_paused("default", paused=False)
    assert len(await claim(postgres, worker_id, 5)) == 5
    await postgres.set_worker_status([worker_id], WorkerStatus.STOPPED)
    assert await claim(postgres, worker_id, 5) == []


def test_a_look_from_the_beginning_costs_a_twentieth_of_the_time_and_is_never_long_in_coming():
    place = Lookahead()
    lane = ("queue", "task")
    place.took(10_000, {lane: (1, 9_999)})
    place.looked([(lane, (1, 10_000))], now=100.0, cost_s=0.02)
    assert place.may_go_on(100.3)
    assert not place.may_go_on(100.5)
    place.looked([(lane, (1, 10_000))], now=100.0, cost_s=30.0)
    assert place.may_go_on(104.9)
    assert not place.may_go_on(105.1)


def test_a_claimer_that_is_not_busy_always_looks_from_the_beginning():
    place = Lookahead()
    lane = ("queue", "task")
    place.took(100, {lane: (1, 99)})
    place.looked([(lane, (1, 100))], now=100.0, cost_s=30.0)
    assert not place.may_go_on(100.0)


def test_looks_that_are_cheap_again_end_the_hurry():
    place = Lookahead()
    lane = ("queue", "task")
    place.took(10_000, {lane: (1, 9_999)})
    place.looked([(lane, (1, 10_000))], now=100.0, cost_s=0.001)
    assert not place.may_go_on(100.0)
