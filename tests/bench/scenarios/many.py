"""Many queues with many workers each: whether one job wakes one of them, or all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

from tests.bench.contestants import SONIQD, Working, application, until
from tests.bench.scenario import Bench, Case, Sample, Scenario

_EVERY_S = 0.03
_SETTLE_S = 2.0
_STATISTICS_S = 1.5
"""An idle server process tells its statistics after a second."""


def cases(bench: Bench) -> Sequence[Case]:
    queues = bench.size(20, 4)
    return [_case(bench, queues=1, a_queue=1), _case(bench, queues=1, a_queue=5), _case(bench, queues=queues, a_queue=5)]


def _case(bench: Bench, *, queues: int, a_queue: int) -> Case:
    async def measure() -> Sample:
        names = [f"queue-{number}" for number in range(1, queues + 1)]
        groups: list[dict[str, Any]] = [
            {"name": name, "processes": a_queue, "concurrency": 2, "queues": [name]} for name in names
        ]
        async with SONIQD.database(bench.server) as url, SONIQD.daemon(url, groups) as (working, _):
            return await _trickle(url, working, names, bench.size(200, 80))

    return Case(f"{queues * a_queue} worker{'s' * (queues * a_queue > 1)} on {queues} queue{'s' * (queues > 1)}", measure)


async def _trickle(url: str, working: Working, queues: Sequence[str], jobs: int) -> Sample:
    """Enqueue one after the other; count what they cost beyond what as long a time costs without any."""
    source = random.Random(0)
    async with application(url) as app:
        for queue in queues:
            await app.enqueue("noop", args={"i": -1}, queue=queue)
        await until(lambda: working.tally.count() >= len(queues), "the first jobs run")
        await asyncio.sleep(_SETTLE_S)
        idle = await _costs(url, working, jobs * _EVERY_S)
        before = await _counters(url, working)
        for _ in range(jobs):
            await app.enqueue("noop", args={"i": -1}, queue=source.choice(queues))
            await asyncio.sleep(_EVERY_S)
        await until(lambda: working.tally.count() >= len(queues) + jobs, "all jobs run")
        after = await _counters(url, working)
    wakeups, transactions = (
        (late - early - unused) / jobs for early, late, unused in zip(before, after, idle, strict=True)
    )
    return {"wake-ups a job": wakeups, "transactions a job": transactions}


async def _costs(url: str, working: Working, seconds: float) -> tuple[float, float]:
    before = await _counters(url, working)
    await asyncio.sleep(seconds)
    after = await _counters(url, working)
    return after[0] - before[0], after[1] - before[1]


async def _counters(url: str, working: Working) -> tuple[float, float]:
    """Return how often workers have waited for something, and how many transactions there were."""
    await asyncio.sleep(_STATISTICS_S)
    workers = [pid for name, pid in working.pids().items() if name.startswith("worker")]
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return sum(_waits(pid) for pid in workers), row[0]


def _waits(pid: int) -> int:
    """Return a process's voluntary context switches: an event loop makes one each time that it goes to sleep."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = islice((line for line in lines if line.startswith("voluntary_ctxt_switches")), 1)
    return int(line.split()[1])


SCENARIO = Scenario(
    name="many",
    title="Many workers and queues",
    figure="wake-ups a job",
    cases=cases,
    rounds=(2, 1),
    estimate_s=(80, 40),
    note="One job every 30 ms, each for a queue drawn at random. Wake-ups are those of all workers together, less those "
    "of as long a time without jobs: a worker waits a few times for the database while it runs one.",
)
