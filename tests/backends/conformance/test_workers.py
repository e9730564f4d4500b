"""Incarnations: registered, alive, released, swept."""

from __future__ import annotations

from soniqd.backends import StorageBackend
from soniqd.model import ProcessIdentity, WorkerId, WorkerStatus
from tests.backends.conformance.builders import (
    claim,
    claim_one,
    claimed_job,
    done,
    ids,
    job,
    new_id,
    record,
    worker,
    worker_record,
)
from tests.support.waiting import eventually


async def test_a_registered_worker_is_listed(backend: StorageBackend) -> None:
    one = worker_record(
        queues=("a", "b"), concurrency=7, version="1.2", supervised=True, slot="mail/2", metadata={"k": [1]}
    )
    await backend.register_worker(one, names=["task"])
    [listed] = await backend.list_workers()
    assert listed.process == one.process
    assert (listed.id, listed.queues, listed.concurrency) == (one.id, ("a", "b"), 7)
    assert (listed.version, listed.supervised, listed.slot, listed.metadata) == ("1.2", True, "mail/2", {"k": [1]})
    assert listed.status is WorkerStatus.ACTIVE
    assert listed.heartbeat_age_s is not None
    assert 0 <= listed.heartbeat_age_s < 60
    assert listed.started_at is not None
    assert listed.jobs_processing == 0


async def test_the_jobs_in_hand_are_counted(backend: StorageBackend) -> None:
    await backend.enqueue([job(), job(), job()])
    claimer = await worker(backend)
    await claim(backend, claimer, limit=2)
    [listed] = await backend.list_workers()
    assert listed.jobs_processing == 2


async def test_registering_again_is_harmless(backend: StorageBackend) -> None:
    one = worker_record()
    await backend.register_worker(one, names=["a"])
    await backend.register_worker(one, names=["a", "b"])
    assert [listed.id for listed in await backend.list_workers()] == [one.id]


async def test_one_process_may_come_back_under_the_same_pid(backend: StorageBackend) -> None:
    first, second = worker_record(), worker_record()
    await backend.register_worker(first, names=["a"])
    await backend.register_worker(second, names=["a"])
    assert {listed.id for listed in await backend.list_workers()} == {first.id, second.id}


async def test_heartbeats_return_the_living(backend: StorageBackend) -> None:
    active, stopping, stopped = [await worker(backend) for _ in range(3)]
    await backend.set_worker_status([stopping], WorkerStatus.STOPPING)
    await backend.set_worker_status([stopped], WorkerStatus.STOPPED)
    stranger = WorkerId(new_id())
    assert await backend.heartbeat([active, stopping, stopped, stranger]) == {active, stopping}
    assert await backend.heartbeat([]) == frozenset()


async def test_stopped_workers_are_not_listed(backend: StorageBackend) -> None:
    one = await worker(backend)
    await backend.set_worker_status([one], WorkerStatus.STOPPED)
    assert await backend.list_workers() == []


async def test_stopped_is_for_good(backend: StorageBackend) -> None:
    one = worker_record()
    await backend.register_worker(one, names=["task"])
    await backend.set_worker_status([one.id], WorkerStatus.STOPPED)
    await backend.set_worker_status([one.id], WorkerStatus.ACTIVE)
    await backend.register_worker(one, names=["task"])
    await backend.enqueue([job()])
    assert await backend.heartbeat([one.id]) == frozenset()
    assert await backend.claim(one.id, names=None, queues=None, limit=1) == []


async def test_only_stale_workers_are_listed_as_stale(backend: StorageBackend) -> None:
    one = await worker(backend)
    assert await backend.list_workers(stale_after_s=60.0) == []

    async def stale() -> bool:
        return [listed.id for listed in await backend.list_workers(stale_after_s=0.02)] == [one]

    await eventually(stale)
    await backend.heartbeat([one])
    assert await backend.list_workers(stale_after_s=5.0) == []


async def test_leftovers_are_of_this_machine_and_not_stopped(backend: StorageBackend) -> None:
    here = ProcessIdentity("m1", "host", "boot", 1, 10, 100)
    elsewhere = ProcessIdentity("m2", "other", "boot", 1, 10, 100)
    mine, stopped = await worker(backend, process=here), await worker(backend, process=here)
    await worker(backend, process=elsewhere)
    await backend.set_worker_status([stopped], WorkerStatus.STOPPED)
    leftovers = await backend.host_leftovers("m1", "host")
    assert [one.id for one in leftovers.workers] == [mine]
    assert leftovers.workers[0].process == here


async def test_a_crash_is_counted_and_the_job_comes_back(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    report = await backend.release_workers([claimed.fence.worker_id], cause="crash", max_crashes=3, error="killed")
    assert (report.requeued, report.dead_lettered) == ((claimed.fence.job_id,), ())
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["crashes"], shown["attempts"], shown["interruptions"]) == ("queued", 1, 0, 0)
    assert shown["worker_id"] is None
    assert (await claim_one(backend, await worker(backend))).crashes == 1


async def test_a_drain_counts_an_interruption_only(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.release_workers([claimed.fence.worker_id], cause="interrupted", max_crashes=1)
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["crashes"], shown["attempts"], shown["interruptions"]) == ("queued", 0, 0, 1)


async def test_a_crash_is_counted_for_the_blamed_and_the_others_come_back_uncounted(backend: StorageBackend) -> None:
    ran, held = job(), job()
    await backend.enqueue([ran, held])
    dead = await worker(backend)
    assert ids(await claim(backend, dead, limit=2)) == [ran.id, held.id]
    report = await backend.release_workers([dead], cause="crash", max_crashes=3, error="killed", blamed={ran.id})
    assert (set(report.requeued), report.dead_lettered) == ({ran.id, held.id}, ())
    counted, uncounted = await record(backend, ran.id), await record(backend, held.id)
    assert (counted["crashes"], counted["last_error"]) == (1, "killed")
    assert (uncounted["status"], uncounted["crashes"], uncounted["interruptions"]) == ("queued", 0, 0)
    assert (uncounted["attempts"], uncounted["last_error"]) == (0, None)


async def test_only_the_blamed_becomes_a_dead_letter(backend: StorageBackend) -> None:
    poison, neighbour = job(), job()
    await backend.enqueue([poison, neighbour])
    dead = await worker(backend)
    await claim(backend, dead, limit=2)
    report = await backend.release_workers([dead], cause="crash", max_crashes=1, error="x", blamed=[poison.id])
    assert (report.requeued, report.dead_lettered) == ((neighbour.id,), (poison.id,))


async def test_blaming_nobody_counts_nothing(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    report = await backend.release_workers(
        [claimed.fence.worker_id], cause="crash", max_crashes=1, error="killed", blamed=()
    )
    assert (report.requeued, report.dead_lettered) == ((claimed.fence.job_id,), ())
    assert (await record(backend, claimed.fence.job_id))["crashes"] == 0


async def test_a_stopped_worker_tells_how_it_ended(backend: StorageBackend) -> None:
    killed, left, alive = await worker(backend), await worker(backend), await worker(backend)
    await backend.release_workers([killed], cause="crash", max_crashes=3, error="signal 9 \x00\nits stacks")
    await backend.release_workers([left], cause="interrupted", max_crashes=3)
    ended = {one.id: one.metadata.get("ended") for one in await backend.list_workers(stopped=True)}
    assert ended == {killed: "signal 9 \\x00", left: None}
    await backend.release_workers([killed], cause="crash", max_crashes=3, error="told twice")
    assert [one.metadata.get("ended") for one in await backend.list_workers(stopped=True) if one.id == killed] == [
        "signal 9 \\x00"
    ]
    assert [one.id for one in await backend.list_workers()] == [alive]


async def test_a_poison_job_becomes_a_dead_letter(backend: StorageBackend) -> None:
    new = job()
    await backend.enqueue([new])
    for crash in (1, 2):
        dead = await worker(backend)
        await claim_one(backend, dead)
        report = await backend.release_workers([dead], cause="crash", max_crashes=3)
        assert report.requeued == (new.id,), f"crash {crash}"
    dead = await worker(backend)
    await claim_one(backend, dead)
    report = await backend.release_workers([dead], cause="crash", max_crashes=3, error="signal 9 \x00")
    assert (report.requeued, report.dead_lettered) == ((), (new.id,))
    letter = await backend.get_dead_letter(new.id)
    assert letter is not None
    assert letter["dead_letter_reason"] == "worker_lost"
    assert "signal 9" in letter["last_error"]
    assert letter["attempts"] == 0
    assert (await record(backend, new.id))["crashes"] == 3


async def test_a_released_worker_is_stopped(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.release_workers([claimed.fence.worker_id], cause="crash", max_crashes=3)
    assert await backend.list_workers() == []
    assert await backend.heartbeat([claimed.fence.worker_id]) == frozenset()
    assert await backend.claim(claimed.fence.worker_id, names=None, queues=None, limit=1) == []


async def test_releasing_twice_changes_nothing_more(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.release_workers([claimed.fence.worker_id], cause="crash", max_crashes=3)
    report = await backend.release_workers([claimed.fence.worker_id], cause="crash", max_crashes=3)
    assert (report.requeued, report.dead_lettered) == ((), ())
    assert (await record(backend, claimed.fence.job_id))["crashes"] == 1


async def test_a_release_touches_the_named_workers_only(backend: StorageBackend) -> None:
    await backend.enqueue([job(), job()])
    dead, alive = await worker(backend), await worker(backend)
    [lost], [kept] = await claim(backend, dead, limit=1), await claim(backend, alive, limit=1)
    await backend.release_workers([dead, WorkerId(new_id())], cause="crash", max_crashes=3)
    assert ids(await backend.claims_of(alive)) == ids([kept])
    assert (await record(backend, lost.fence.job_id))["status"] == "queued"


async def test_nobody_to_release_is_fine(backend: StorageBackend) -> None:
    report = await backend.release_workers([], cause="crash", max_crashes=3)
    assert (report.requeued, report.dead_lettered) == ((), ())


async def test_a_sweep_leaves_the_living_alone(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    report = await backend.sweep(heartbeat_timeout_s=60.0, max_crashes=3)
    assert (report.ran, report.workers, report.released.requeued) == (True, (), ())
    assert (await record(backend, claimed.fence.job_id))["status"] == "processing"


async def test_a_sweep_releases_a_silent_worker(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)

    async def swept() -> bool:
        report = await backend.sweep(heartbeat_timeout_s=0.02, max_crashes=3)
        return report.workers == (claimed.fence.worker_id,) and report.released.requeued == (claimed.fence.job_id,)

    await eventually(swept)
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["crashes"]) == ("queued", 1)
    assert await backend.complete([done(claimed)]) == frozenset()


async def test_a_sweep_dead_letters_what_has_crashed_too_often(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    report = await backend.sweep(heartbeat_timeout_s=-1.0, max_crashes=1)
    assert report.released.dead_lettered == (claimed.fence.job_id,)
    letter = await backend.get_dead_letter(claimed.fence.job_id)
    assert letter is not None
    assert letter["dead_letter_reason"] == "worker_lost"


async def test_a_sweep_finds_stopping_workers_too(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.set_worker_status([claimed.fence.worker_id], WorkerStatus.STOPPING)
    report = await backend.sweep(heartbeat_timeout_s=-1.0, max_crashes=3)
    assert report.released.requeued == (claimed.fence.job_id,)


async def test_a_sweep_finds_jobs_of_a_worker_that_stopped_with_them(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.set_worker_status([claimed.fence.worker_id], WorkerStatus.STOPPED)
    report = await backend.sweep(heartbeat_timeout_s=60.0, max_crashes=3)
    assert report.released.requeued == (claimed.fence.job_id,)
    assert (await record(backend, claimed.fence.job_id))["status"] == "queued"


async def test_names_that_nobody_registered_are_reported(backend: StorageBackend) -> None:
    await backend.enqueue([job("known"), job("unknown"), job("unknown"), job("other")])
    await worker(backend, names=["known"])
    assert dict(await backend.unclaimable_names()) == {"unknown": 2, "other": 1}
    assert len(await backend.unclaimable_names(limit=1)) == 1


async def test_a_stopped_workers_names_do_not_count(backend: StorageBackend) -> None:
    await backend.enqueue([job("known")])
    one = await worker(backend, names=["known"])
    assert dict(await backend.unclaimable_names()) == {}
    await backend.set_worker_status([one], WorkerStatus.STOPPED)
    assert dict(await backend.unclaimable_names()) == {"known": 1}
