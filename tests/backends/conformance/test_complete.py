"""Outcomes: what each writes, the counters it moves, and the fence that guards it."""

from __future__ import annotations

import json

import pytest

from soniqd.backends import StorageBackend
from soniqd.errors import OutcomeRefusedError
from soniqd.model import ClaimedJob, DeadLettered, Done, Fence, JobId, Outcome, Released, Retry, Snoozed, WorkerId
from tests.backends.conformance.builders import claim, claim_one, claimed_job, done, job, new_id, record, worker


def outcomes_of(claimed: ClaimedJob) -> list[Outcome]:
    fence = claimed.fence
    return [
        Done(fence, '"late"', 300.0),
        Retry(fence, 0.0, "late"),
        Snoozed(fence, 0.0, "late"),
        DeadLettered(fence, "max_retries", "late"),
        Released(fence, interrupted=False),
        Released(fence, interrupted=True),
    ]


async def test_done_keeps_the_result(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    assert await backend.complete([done(claimed, {"n": [1, None]})]) == {claimed.fence.job_id}
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["attempts"]) == ("done", 1)
    assert shown["result"] == {"n": [1, None]}
    assert shown["finished_at"] is not None
    assert shown["expires_at"] is not None
    assert shown["worker_id"] == claimed.fence.worker_id


async def test_done_without_a_result(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([done(claimed, None)])
    assert (await record(backend, claimed.fence.job_id))["result"] is None


async def test_a_result_kept_for_no_time_leaves_no_row(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    assert await backend.complete([done(claimed, 1, ttl_s=0.0)]) == {claimed.fence.job_id}
    assert await backend.get_job(claimed.fence.job_id) is None
    assert await backend.queue_stats() == []


async def test_ten_megabytes_of_result_survive(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([done(claimed, "y" * 10_000_000)])
    assert (await record(backend, claimed.fence.job_id))["result"] == "y" * 10_000_000


async def test_unicode_results_survive(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([Done(claimed.fence, json.dumps("Zoë 🚀", ensure_ascii=False), 300.0)])
    assert (await record(backend, claimed.fence.job_id))["result"] == "Zoë 🚀"


async def test_retry_uses_an_attempt(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    assert await backend.complete([Retry(claimed.fence, 0.0, "boom")]) == {claimed.fence.job_id}
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["attempts"], shown["last_error"]) == ("queued", 1, "boom")
    assert shown["worker_id"] is None
    again = await claim_one(backend, await worker(backend))
    assert again.attempts == 1
    assert again.fence.claim_no > claimed.fence.claim_no


async def test_snooze_uses_no_attempt(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([Snoozed(claimed.fence, 0.0, None)])
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["attempts"], shown["interruptions"]) == ("queued", 0, 0)


async def test_an_unused_claim_counts_nowhere(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([Released(claimed.fence, interrupted=False)])
    shown = await record(backend, claimed.fence.job_id)
    assert shown["status"] == "queued"
    assert (shown["attempts"], shown["crashes"], shown["interruptions"]) == (0, 0, 0)


async def test_an_interruption_is_counted_apart(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([Released(claimed.fence, interrupted=True)])
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["attempts"], shown["crashes"], shown["interruptions"]) == (0, 0, 1)


async def test_a_job_that_comes_back_keeps_its_place(backend: StorageBackend) -> None:
    first, second = job(), job()
    await backend.enqueue([first, second])
    claimed = await claim_one(backend, await worker(backend))
    await backend.complete([Released(claimed.fence, interrupted=False)])
    assert (await claim_one(backend, await worker(backend))).fence.job_id == first.id


async def test_a_dead_letter_leaves_the_hot_place(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend, args_json='{"a": 1}')
    assert await backend.complete([DeadLettered(claimed.fence, "max_retries", "boom")]) == {claimed.fence.job_id}
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["attempts"], shown["last_error"]) == ("dead_letter", 1, "boom")
    assert shown["args"] == {"a": 1}
    letter = await backend.get_dead_letter(claimed.fence.job_id)
    assert letter is not None
    assert (letter["dead_letter_reason"], letter["attempts"]) == ("max_retries", 1)


async def test_many_outcomes_of_all_kinds_in_one_call(backend: StorageBackend) -> None:
    await backend.enqueue([job() for _ in range(60)])
    taken = await claim(backend, await worker(backend), limit=60)
    outcomes = [outcomes_of(one)[n % 6] for n, one in enumerate(taken)]
    assert await backend.complete(outcomes) == {one.fence.job_id for one in taken}
    [stats] = await backend.queue_stats()
    assert (stats["done"], stats["dead_letter"], stats["queued"], stats["processing"]) == (10, 10, 40, 0)


async def test_nothing_to_complete_is_fine(backend: StorageBackend) -> None:
    assert await backend.complete([]) == frozenset()
    assert await backend.settled([]) == frozenset()


@pytest.mark.parametrize("kind", range(6))
async def test_a_zombie_changes_nothing_after_its_job_was_taken_by_another(backend: StorageBackend, kind: int) -> None:
    zombie = await claimed_job(backend)
    await backend.release_workers([zombie.fence.worker_id], cause="crash", max_crashes=3)
    rightful = await claim_one(backend, await worker(backend))
    before = await record(backend, zombie.fence.job_id)
    late = outcomes_of(zombie)[kind]
    assert await backend.complete([late]) == frozenset()
    assert await record(backend, zombie.fence.job_id) == before
    assert await backend.settled([late]) == frozenset()
    assert await backend.complete([done(rightful)]) == {rightful.fence.job_id}


@pytest.mark.parametrize("kind", range(6))
async def test_a_zombie_changes_nothing_while_its_job_waits(backend: StorageBackend, kind: int) -> None:
    zombie = await claimed_job(backend)
    await backend.release_workers([zombie.fence.worker_id], cause="crash", max_crashes=3)
    before = await record(backend, zombie.fence.job_id)
    late = outcomes_of(zombie)[kind]
    assert await backend.complete([late]) == frozenset()
    assert await backend.settled([late]) == frozenset()
    assert await record(backend, zombie.fence.job_id) == before


@pytest.mark.parametrize("kind", range(6))
async def test_a_late_outcome_does_not_resurrect_a_done_job(backend: StorageBackend, kind: int) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([done(claimed, "first")])
    assert await backend.complete([outcomes_of(claimed)[kind]]) == frozenset()
    shown = await record(backend, claimed.fence.job_id)
    assert (shown["status"], shown["result"], shown["attempts"]) == ("done", "first", 1)
    assert await claim(backend, await worker(backend)) == []


async def test_the_same_worker_with_an_older_claim_is_refused(backend: StorageBackend) -> None:
    await backend.enqueue([job()])
    claimer = await worker(backend)
    first = await claim_one(backend, claimer)
    await backend.complete([Released(first.fence, interrupted=False)])
    second = await claim_one(backend, claimer)
    assert second.fence.claim_no > first.fence.claim_no
    assert await backend.complete([done(first)]) == frozenset()
    assert await backend.complete([done(second)]) == {second.fence.job_id}


async def test_a_lost_fence_does_not_spoil_its_neighbours(backend: StorageBackend) -> None:
    await backend.enqueue([job(), job()])
    claimer = await worker(backend)
    lost, kept = await claim(backend, claimer)
    wrong = Fence(lost.fence.job_id, claimer, lost.fence.claim_no + 1)
    stranger = Fence(JobId(new_id()), claimer, 1)
    foreign = Fence(lost.fence.job_id, WorkerId(new_id()), lost.fence.claim_no)
    outcomes: list[Outcome] = [Done(wrong, None, 1.0), Done(stranger, None, 1.0), done(kept), Retry(foreign, 0.0, "x")]
    assert await backend.complete(outcomes) == {kept.fence.job_id}
    assert (await record(backend, lost.fence.job_id))["status"] == "processing"


@pytest.mark.parametrize("kind", range(6))
async def test_a_repeated_completion_writes_nothing_and_is_known_as_settled(backend: StorageBackend, kind: int) -> None:
    claimed = await claimed_job(backend)
    outcome = outcomes_of(claimed)[kind]
    assert await backend.settled([outcome]) == frozenset()
    await backend.complete([outcome])
    before = await record(backend, claimed.fence.job_id)
    assert await backend.complete([outcome]) == frozenset()
    assert await backend.settled([outcome]) == {claimed.fence.job_id}
    assert await record(backend, claimed.fence.job_id) == before


@pytest.mark.parametrize("result", ["not json", '"lone \ud800 surrogate"', '{"cut": ', "NaN", ""])
async def test_a_result_that_cannot_be_stored_is_refused_by_name(backend: StorageBackend, result: str) -> None:
    await backend.enqueue([job(), job(), job()])
    first, bad, last = await claim(backend, await worker(backend))
    outcomes: list[Outcome] = [done(first, 1), Done(bad.fence, result, 300.0), Retry(last.fence, 0.0, "boom")]
    with pytest.raises(OutcomeRefusedError, match="cannot store") as caught:
        await backend.complete(outcomes)
    assert set(caught.value.refused) == {bad.fence.job_id}
    assert caught.value.changed == {first.fence.job_id, last.fence.job_id}
    assert (await record(backend, bad.fence.job_id))["status"] == "processing"
    assert await backend.settled(outcomes) == caught.value.changed
    assert await backend.complete([done(bad, None)]) == {bad.fence.job_id}


@pytest.mark.parametrize("text", ["nul \x00 inside", "lone \ud800 surrogate", "\x00\udfff", "Zoë 🚀"])
async def test_odd_error_texts_never_stick_a_job(backend: StorageBackend, text: str) -> None:
    await backend.enqueue([job(), job(), job()])
    claimer = await worker(backend)
    retried, snoozed, dead = await claim(backend, claimer)
    outcomes: list[Outcome] = [
        Retry(retried.fence, 3600.0, text),
        Snoozed(snoozed.fence, 3600.0, text),
        DeadLettered(dead.fence, "max_retries", text),
    ]
    assert len(await backend.complete(outcomes)) == 3
    shown = (await record(backend, retried.fence.job_id))["last_error"] or ""
    shown.encode()
    assert "\x00" not in shown
    assert [word for word in text.split() if word.isalpha() and word.isascii()] == [
        word for word in shown.split() if word.isalpha() and word.isascii()
    ]
