import asyncio
import json

import psycopg
import pytest

from soniqd.backends.postgres.outcome import Move, _done_columns, columns
from soniqd.backends.postgres.statements import SQL
from soniqd.errors import OutcomeRefusedError
from soniqd.model import DeadLettered, Done, Fence, JobId, Released, Retry, Snoozed, WorkerId
from tests.support.jobs import claim, new_job, registered
from tests.support.waiting import eventually


async def held(backend, count=1, **changes):
    """Store jobs and claim them."""
    await backend.enqueue([new_job(**changes) for _ in range(count)])
    return await claim(backend, await registered(backend))


async def job(backend, claimed):
    found = await backend.get_job(claimed.fence.job_id)
    assert found is not None
    return found


@pytest.mark.parametrize("result", ['{"broken"', "nan", '"\ud800"', '"\x00"'])
async def test_a_result_that_cannot_be_stored_is_reported_and_the_rest_is_written(postgres, result):
    claimed = await held(postgres, 4)
    outcomes = [
        Done(claimed[0].fence, "1", 60),
        Done(claimed[1].fence, result, 60),
        Retry(claimed[2].fence, 0.0, "again"),
        Done(claimed[3].fence, "2", 0),
    ]
    with pytest.raises(OutcomeRefusedError) as caught:
        await postgres.complete(outcomes)
    refused = claimed[1].fence.job_id
    assert set(caught.value.refused) == {refused}
    assert caught.value.changed == {one.fence.job_id for one in claimed} - {refused}
    assert (await job(postgres, claimed[1]))["status"] == "processing"
    assert await postgres.complete([DeadLettered(claimed[1].fence, "result", "cannot be stored")]) == {refused}


@pytest.mark.parametrize("text", ["nul \x00 inside", "half \ud800 a pair", "x" * 10_000_000])
@pytest.mark.parametrize("make", [lambda f, t: Retry(f, 0.0, t), lambda f, t: DeadLettered(f, "why", t)])
async def test_no_error_text_keeps_a_job_from_going_on(postgres, text, make):
    [claimed] = await held(postgres)
    assert await postgres.complete([make(claimed.fence, text)]) == {claimed.fence.job_id}
    assert (await job(postgres, claimed))["status"] in ("queued", "dead_letter")


@pytest.mark.parametrize("result", ["x" * 10_000_000, "nul \x00", "ü" * 1000, None, [[1.5, {"a": True}]]])
async def test_a_result_comes_back_as_it_was(postgres, result):
    [claimed] = await held(postgres)
    await postgres.complete([Done(claimed.fence, json.dumps(result), 60)])
    assert (await job(postgres, claimed))["result"] == result


async def test_an_error_that_the_databases_encoding_lacks_is_spelled_in_ascii(postgres_server):
    from soniqd.backends.postgres import PostgresBackend

    name = postgres_server.new_name()
    postgres_server.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")
    backend = PostgresBackend(postgres_server.url(name))
    await backend.setup()
    [claimed] = await held(backend)
    await backend.complete([Retry(claimed.fence, 0.0, "costs 5 €")])
    assert (await job(backend, claimed))["last_error"] == "costs 5 \\u20ac"
    await backend.close()
    postgres_server.drop_database(name)


async def test_a_batch_of_every_kind_is_written_in_one_statement(postgres, monkeypatch):
    claimed = await held(postgres, 5)
    fences = [one.fence for one in claimed]
    statements = []
    fetch = postgres._database.fetch

    async def counted(statement, *args, **kwargs):
        statements.append(statement.name)
        return await fetch(statement, *args, **kwargs)

    monkeypatch.setattr(postgres._database, "fetch", counted)
    changed = await postgres.complete(
        [
            Done(fences[0], "1", 60),
            Retry(fences[1], 30.0, "again"),
            Snoozed(fences[2], 30.0, None),
            DeadLettered(fences[3], "why", "it broke"),
            Released(fences[4], interrupted=True),
        ]
    )
    assert changed == {fence.job_id for fence in fences}
    assert statements == ["complete_mixed"]


@pytest.mark.parametrize("changes", [{"dedup_key": "k"}, {"unique": True, "args_hash": "h"}])
async def test_a_twin_that_commits_at_the_same_moment_does_not_keep_a_job_from_coming_back(
    postgres, postgres_url, changes
):
    [claimed] = await held(postgres, **changes)
    async with await psycopg.AsyncConnection.connect(postgres_url) as producer:
        [twin] = await postgres.enqueue([new_job(**changes)], connection=producer)
        late = asyncio.create_task(postgres.complete([Retry(claimed.fence, 0.0, "again")]))
        await eventually(lambda: _waits_for_a_lock(postgres))
        await producer.commit()
        assert await late == {claimed.fence.job_id}
    assert {one.fence.job_id for one in await claim(postgres, await registered(postgres))} == {
        claimed.fence.job_id,
        twin,
    }


async def test_a_sweep_is_not_stopped_by_a_twin(postgres, postgres_url):
    """Soniq's sweep ran into the dedup index, and with it every other job of the dead worker."""
    [claimed] = await held(postgres, dedup_key="k")
    other = new_job()
    await postgres.enqueue([other])
    await postgres.claim(claimed.fence.worker_id, names=None, queues=None, limit=1)
    await postgres.enqueue([new_job(dedup_key="k")])
    async with postgres.acquire() as connection:
        await connection.execute("UPDATE soniq_workers SET last_heartbeat = now() - interval '1 day'")
    report = await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)
    assert set(report.released.requeued) == {claimed.fence.job_id, other.id}


async def test_a_stale_workers_answers_change_nothing(postgres):
    """Soniq's writes named the job only: a stale worker finished or requeued what another one was running."""
    [first] = await held(postgres)
    await postgres.release_workers([first.fence.worker_id], cause="crash", max_crashes=9)
    [second] = await claim(postgres, await registered(postgres))
    before = await job(postgres, second)
    forged = Fence(first.fence.job_id, first.fence.worker_id, second.fence.claim_no)
    for fence in (first.fence, forged):
        for late in (
            Done(fence, "1", 60),
            Done(fence, "1", 0),
            Retry(fence, 0.0, "late"),
            Snoozed(fence, 1.0, "late"),
            DeadLettered(fence, "late", "late"),
            Released(fence, interrupted=True),
        ):
            assert await postgres.complete([late]) == frozenset()
            assert await postgres.settled([late]) <= {second.fence.job_id} - {first.fence.job_id}
    assert await job(postgres, second) == before


async def test_a_late_failure_does_not_bring_a_done_job_back(postgres):
    [first] = await held(postgres)
    await postgres.release_workers([first.fence.worker_id], cause="crash", max_crashes=9)
    [second] = await claim(postgres, await registered(postgres))
    await postgres.complete([Done(second.fence, "1", 60)])
    assert await postgres.complete([Retry(first.fence, 0.0, "late")]) == frozenset()
    assert (await job(postgres, second))["status"] == "done"


async def test_a_completion_survives_a_lost_connection(postgres, postgres_server):
    claimed = await held(postgres, 20)
    outcomes = [Done(one.fence, "1", 60) for one in claimed]
    await asyncio.to_thread(postgres_server.restart, "immediate")
    ids = {one.fence.job_id for one in claimed}
    assert await postgres.complete(outcomes) == ids
    assert await postgres.complete(outcomes) == frozenset()
    assert await postgres.settled(outcomes) == ids


async def test_batches_about_the_same_jobs_do_not_deadlock(postgres):
    claimed = await held(postgres, 50)
    forwards = [Retry(one.fence, 0.0, "x") for one in claimed]
    results = await asyncio.gather(
        *(postgres.complete(forwards if n % 2 else forwards[::-1]) for n in range(8)), return_exceptions=True
    )
    assert sorted(len(r) if isinstance(r, frozenset) else -1 for r in results) == [0] * 7 + [50]


async def test_an_unknown_job_is_not_settled_by_an_outcome_that_keeps_a_row(postgres):
    fence = Fence(JobId(new_job().id), WorkerId(new_job().id), 1)
    assert await postgres.settled([Done(fence, "1", 60)]) == frozenset()
    assert await postgres.settled([Retry(fence, 0.0, "x")]) == frozenset()


async def _waits_for_a_lock(backend):
    async with backend.acquire() as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return (await cursor.fetchone())[0]


@pytest.mark.parametrize("statement", ["complete_done", "complete_mixed"])
async def test_a_planner_left_free_does_not_pair_every_job_with_every_answer(postgres, postgres_url, statement):
    """As behind a pooler, with a table that nobody has analyzed: hardly two claims differ in their number."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE soniq_jobs SET (autovacuum_enabled = off)")
    await postgres.enqueue([new_job() for _ in range(2_000)])
    worker_id = await registered(postgres)
    outcomes = [Done(one.fence, None, 60.0) for one in (await claim(postgres, worker_id, 2_000))[:500]]
    asked = columns([Move("done", o.fence.job_id, worker_id, o.fence.claim_no) for o in outcomes], give_up_keys=False)
    async with postgres._database.transaction("explain", free_planner=True) as transaction:
        cursor = psycopg.AsyncCursor(transaction.connection)
        parameters = {**asked, **_done_columns(outcomes)}
        await cursor.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + SQL[statement].text, parameters)
        [(plan,)] = await cursor.fetchall()
    assert max(_pairs(plan[0]["Plan"])) <= 2_000


def _pairs(node):
    """How many pairs of rows each join has looked at."""
    if "Join Type" in node:
        yield (node["Actual Rows"] + node.get("Rows Removed by Join Filter", 0)) * node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from _pairs(child)
