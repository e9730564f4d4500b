"""Dead letters: listed, filtered, replayed, deleted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from soniqd.backends import DeadLetterFilter, StorageBackend
from soniqd.model import DeadLettered, JobId
from tests.backends.conformance.builders import claim_one, claimed_job, done, job, new_id, record, worker


async def dead_letter(backend: StorageBackend, reason: str = "max_retries", **changes: Any) -> JobId:
    claimed = await claimed_job(backend, **changes)
    await backend.complete([DeadLettered(claimed.fence, reason, "boom")])
    return claimed.fence.job_id


async def test_a_row_has_the_tables_columns(backend: StorageBackend) -> None:
    job_id = await dead_letter(
        backend, name="mail.send", args_json='{"a": [1]}', queue="mail", priority=3, max_attempts=2
    )
    letter = await backend.get_dead_letter(job_id)
    assert letter is not None
    expected = {
        "id": job_id,
        "job_name": "mail.send",
        "args": {"a": [1]},
        "queue": "mail",
        "priority": 3,
        "max_attempts": 2,
        "attempts": 1,
        "last_error": "boom",
        "dead_letter_reason": "max_retries",
        "resurrection_count": 0,
        "last_resurrection_at": None,
        "tags": None,
    }
    assert {key: letter[key] for key in expected} == expected
    for column in ("original_created_at", "moved_to_dead_letter_at", "created_at"):
        assert datetime.fromisoformat(letter[column]).utcoffset() == timedelta(0)
    json.dumps(letter)


async def test_an_unknown_one_is_none(backend: StorageBackend) -> None:
    missing = JobId(new_id())
    assert await backend.get_dead_letter(missing) is None
    assert await backend.replay_dead_letter(missing, JobId(new_id())) is None
    assert await backend.delete_dead_letter(missing) is False


async def test_newest_first_and_paged(backend: StorageBackend) -> None:
    made = [await dead_letter(backend) for _ in range(5)]
    pages = [await backend.list_dead_letters(DeadLetterFilter(limit=2, offset=offset)) for offset in (0, 2, 4)]
    assert [letter["id"] for page in pages for letter in page] == made[::-1]


async def test_filters(backend: StorageBackend) -> None:
    a = await dead_letter(backend, name="a", queue="x")
    b = await dead_letter(backend, "timeout", name="b", queue="y")
    await backend.replay_dead_letter(a, JobId(new_id()), queue="elsewhere")

    async def found(**where: Any) -> list[str]:
        return [letter["id"] for letter in await backend.list_dead_letters(DeadLetterFilter(**where))]

    assert await found() == [b, a]
    assert await found(job_names=("a",)) == [a]
    assert await found(job_names=("a", "b")) == [b, a]
    assert await found(queues=("y",)) == [b]
    assert await found(reasons=("timeout", "other")) == [b]
    assert await found(replayed=True) == [a]
    assert await found(replayed=False) == [b]
    assert await found(job_names=("a",), queues=("y",)) == []
    hour = timedelta(hours=1)
    assert await found(since=datetime.now(UTC) - hour) == [b, a]
    assert await found(since=datetime.now(UTC) + hour) == []
    assert await found(until=datetime.now(UTC) + hour) == [b, a]
    assert await found(until=datetime.now(UTC) - hour) == []


async def test_a_replay_stores_a_fresh_job_and_counts_it(backend: StorageBackend) -> None:
    dead = await dead_letter(backend, name="a", args_json='{"n": 1}', queue="q", priority=5, max_attempts=3)
    fresh = JobId(new_id())
    assert await backend.replay_dead_letter(dead, fresh) == fresh
    shown = await record(backend, fresh)
    assert (shown["status"], shown["attempts"], shown["crashes"]) == ("queued", 0, 0)
    assert (shown["job_name"], shown["args"], shown["queue"]) == ("a", {"n": 1}, "q")
    assert (shown["priority"], shown["max_attempts"]) == (5, 3)
    letter = await backend.get_dead_letter(dead)
    assert letter is not None
    assert letter["resurrection_count"] == 1
    assert letter["last_resurrection_at"] is not None


async def test_a_replay_may_change_the_job(backend: StorageBackend) -> None:
    dead = await dead_letter(backend)
    fresh = JobId(new_id())
    await backend.replay_dead_letter(dead, fresh, max_attempts=9, priority=1, queue="other")
    shown = await record(backend, fresh)
    assert (shown["max_attempts"], shown["priority"], shown["queue"]) == (9, 1, "other")


async def test_each_replay_counts(backend: StorageBackend) -> None:
    dead = await dead_letter(backend)
    for _ in range(3):
        await backend.replay_dead_letter(dead, JobId(new_id()))
    letter = await backend.get_dead_letter(dead)
    assert letter is not None
    assert letter["resurrection_count"] == 3
    [stats] = await backend.queue_stats()
    assert (stats["queued"], stats["dead_letter"]) == (3, 1)


async def test_a_replayed_job_can_finish_and_the_letter_stays(backend: StorageBackend) -> None:
    dead = await dead_letter(backend)
    fresh = JobId(new_id())
    await backend.replay_dead_letter(dead, fresh)
    claimed = await claim_one(backend, await worker(backend))
    await backend.complete([done(claimed, "fine")])
    assert (await record(backend, fresh))["result"] == "fine"
    assert (await record(backend, dead))["status"] == "dead_letter"


async def test_deleting(backend: StorageBackend) -> None:
    dead = await dead_letter(backend)
    assert await backend.delete_dead_letter(dead) is True
    assert await backend.get_dead_letter(dead) is None
    assert await backend.get_job(dead) is None
    assert await backend.delete_dead_letter(dead) is False


async def test_a_queued_job_is_no_dead_letter(backend: StorageBackend) -> None:
    new = job()
    await backend.enqueue([new])
    assert await backend.get_dead_letter(new.id) is None
    assert await backend.delete_dead_letter(new.id) is False
