"""Storing jobs: ids, twins, times and payloads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from soniqd.backends import StorageBackend
from soniqd.errors import UnsupportedByBackendError
from tests.backends.conformance.builders import claim, claim_one, ids, job, record, unique_job, worker


async def test_ids_come_back_in_order(backend: StorageBackend) -> None:
    jobs = [job() for _ in range(1200)]
    assert await backend.enqueue(jobs) == [one.id for one in jobs]


async def test_nothing_to_enqueue_is_fine(backend: StorageBackend) -> None:
    assert await backend.enqueue([]) == []


async def test_what_was_stored_can_be_read(backend: StorageBackend) -> None:
    new = job(
        "mail.send", args_json='{"to": ["a", 1, null]}', queue="mail", priority=7, max_attempts=9, producer_id="web"
    )
    await backend.enqueue([new])
    stored = await record(backend, new.id)
    assert stored["job_name"] == "mail.send"
    assert stored["args"] == {"to": ["a", 1, None]}
    assert (stored["queue"], stored["priority"], stored["max_attempts"]) == ("mail", 7, 9)
    assert stored["status"] == "queued"
    assert (stored["attempts"], stored["crashes"], stored["interruptions"]) == (0, 0, 0)
    assert stored["producer_id"] == "web"
    assert stored["scheduled_at"] is None
    assert stored["worker_id"] is None


async def test_times_are_iso_8601_with_offset(backend: StorageBackend) -> None:
    new = job()
    await backend.enqueue([new])
    created_at = datetime.fromisoformat((await record(backend, new.id))["created_at"] or "")
    assert created_at.utcoffset() == timedelta(0)
    assert abs((await backend.now() - created_at).total_seconds()) < 60


async def test_unicode_args_survive(backend: StorageBackend) -> None:
    text = json.dumps({"name": "Zoë 🚀 日本 \\u2028", "rtl": "שלום"}, ensure_ascii=False)
    new = job(args_json=text)
    await backend.enqueue([new])
    claimed = await claim_one(backend, await worker(backend))
    assert json.loads(claimed.args_json) == json.loads(text)
    assert (await record(backend, new.id))["args"] == json.loads(text)


async def test_numbers_keep_their_precision(backend: StorageBackend) -> None:
    new = job(args_json='{"big": 12345678901234567890, "small": 0.1}')
    await backend.enqueue([new])
    assert (await record(backend, new.id))["args"] == {"big": 12345678901234567890, "small": 0.1}


async def test_ten_megabytes_of_args_survive(backend: StorageBackend) -> None:
    text = json.dumps({"blob": "x" * 10_000_000})
    await backend.enqueue([job(args_json=text)])
    claimed = await claim_one(backend, await worker(backend))
    assert json.loads(claimed.args_json) == json.loads(text)


async def test_dedup_key_of_a_queued_job_answers_with_its_id(backend: StorageBackend) -> None:
    first, second = job(dedup_key="k"), job("other", dedup_key="k")
    assert await backend.enqueue([first]) == [first.id]
    assert await backend.enqueue([second]) == [first.id]
    assert await backend.get_job(second.id) is None


async def test_dedup_twins_of_one_batch_are_one_job(backend: StorageBackend) -> None:
    first, between, second = job(dedup_key="k"), job(), job(dedup_key="k")
    assert await backend.enqueue([first, between, second]) == [first.id, between.id, first.id]


async def test_unique_job_with_the_same_args_answers_with_the_queued_one(backend: StorageBackend) -> None:
    first, twin, other = unique_job(args={"a": 1}), unique_job(args={"a": 1}), unique_job(args={"a": 2})
    assert await backend.enqueue([first]) == [first.id]
    assert await backend.enqueue([twin, other]) == [first.id, other.id]


async def test_unique_twins_of_one_batch_are_one_job(backend: StorageBackend) -> None:
    first, twin = unique_job(), unique_job()
    assert await backend.enqueue([first, twin]) == [first.id, first.id]


async def test_unique_jobs_of_different_names_are_no_twins(backend: StorageBackend) -> None:
    jobs = [unique_job("a"), unique_job("b")]
    assert await backend.enqueue(jobs) == [one.id for one in jobs]


async def test_an_ordinary_job_with_the_same_args_is_no_twin(backend: StorageBackend) -> None:
    unique = unique_job()
    ordinary = job(args_json=unique.args_json, args_hash=unique.args_hash)
    assert await backend.enqueue([unique, ordinary]) == [unique.id, ordinary.id]


async def test_a_job_may_hold_both_keys(backend: StorageBackend) -> None:
    both = unique_job(args={"a": 1}, dedup_key="k")
    by_key, by_args = job(dedup_key="k"), unique_job(args={"a": 1})
    assert await backend.enqueue([both, by_key, by_args]) == [both.id, both.id, both.id]


async def test_a_claimed_job_frees_its_keys(backend: StorageBackend) -> None:
    first, second = unique_job(dedup_key="k"), unique_job(dedup_key="k")
    await backend.enqueue([first])
    await claim_one(backend, await worker(backend))
    assert await backend.enqueue([second]) == [second.id]


async def test_a_cancelled_job_frees_its_keys(backend: StorageBackend) -> None:
    first, second = unique_job(dedup_key="k"), unique_job(dedup_key="k")
    await backend.enqueue([first])
    await backend.cancel_job(first.id)
    assert await backend.enqueue([second]) == [second.id]


async def test_a_deleted_job_frees_its_keys(backend: StorageBackend) -> None:
    first, second = unique_job(dedup_key="k"), unique_job(dedup_key="k")
    await backend.enqueue([first])
    await backend.delete_job(first.id)
    assert await backend.enqueue([second]) == [second.id]


async def test_a_job_for_later_holds_its_key(backend: StorageBackend) -> None:
    later, now = job(dedup_key="k", delay_s=3600.0), job(dedup_key="k")
    assert await backend.enqueue([later]) == [later.id]
    assert await backend.enqueue([now]) == [later.id]


async def test_a_job_for_later_shows_when(backend: StorageBackend) -> None:
    run_at = datetime.now(UTC) + timedelta(hours=2)
    at, delayed = job(run_at=run_at), job(delay_s=3600.0)
    await backend.enqueue([at, delayed])
    shown = datetime.fromisoformat((await record(backend, at.id))["scheduled_at"] or "")
    assert abs((shown - run_at).total_seconds()) < 0.001
    shown = datetime.fromisoformat((await record(backend, delayed.id))["scheduled_at"] or "")
    assert abs((shown - datetime.now(UTC)).total_seconds() - 3600) < 60


async def test_a_time_in_the_past_means_now(backend: StorageBackend) -> None:
    new = job(run_at=datetime.now(UTC) - timedelta(hours=1))
    await backend.enqueue([new])
    assert ids(await claim(backend, await worker(backend))) == [new.id]


async def test_concurrent_enqueues_of_one_key_store_one_job(backend: StorageBackend) -> None:
    import asyncio

    answers = await asyncio.gather(*(backend.enqueue([job(dedup_key="k")]) for _ in range(20)))
    assert len({answer[0] for answer in answers}) == 1
    assert [row["queued"] for row in await backend.queue_stats()] == [1]


async def test_two_views_share_one_key(backend: StorageBackend, second_backend: StorageBackend) -> None:
    import asyncio

    calls = [view.enqueue([job(dedup_key="k")]) for view in (backend, second_backend) for _ in range(10)]
    answers = await asyncio.gather(*calls)
    assert len({answer[0] for answer in answers}) == 1


async def test_a_connection_is_refused_where_no_transaction_can_be_joined(backend: StorageBackend) -> None:
    if backend.capabilities.transactional_enqueue:
        pytest.skip("this one joins transactions")
    with pytest.raises(UnsupportedByBackendError, match="cannot enqueue"):
        await backend.enqueue([job()], connection=object())
    assert await backend.queue_stats() == []
