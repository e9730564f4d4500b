"""Many queues with many workers each: whether one job wakes one of them, or all."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.contestants import SONIQD, Working, application, until
from tests.bench.scenario import Bench, Case, Sample, Scenario
from tests.bench.server import BenchServer

_EVERY_S = 0.03
_SETTLE_S = 1.0


def cases(bench: Bench) -> Sequence[Case]:
    queues = bench.size(20, 4)
    alone = [] if bench.quick else [_case(bench, "1 worker on one queue", queues=1, a_queue=1)]
    return [
        *alone,
        _case(bench, "5 workers on one queue", queues=1, a_queue=5),
        _case(bench, "all workers on all queues", queues=queues, a_queue=5),
    ]


def _case(bench: Bench, name: str, *, queues: int, a_queue: int) -> Case:
    async def measure() -> Sample:
        names = [f"queue-{number}" for number in range(1, queues + 1)]
        groups: list[dict[str, Any]] = [
            {"name": name, "processes": a_queue, "concurrency": 2, "queues": [name]} for name in names
        ]
        async with SONIQD.database(bench.server) as url:
            bench.server.log_statements(url)
            async with SONIQD.daemon(url, groups) as (working, _):
                costs = await _trickle(bench.server, url, working, names, bench.size(200, 60))
        return {**costs, "workers": queues * a_queue, "queues": queues}

    return Case(name, measure)


async def _trickle(server: BenchServer, url: str, working: Working, queues: Sequence[str], jobs: int) -> Sample:
    """Enqueue one after the other; count what they cost beyond what as long a time costs without any."""
    source = random.Random(0)
    async with application(url) as app:
        for queue in queues:
            await app.enqueue("noop", args={"i": -1}, queue=queue)
        await until(lambda: working.tally.count() >= len(queues), "the first jobs run")
        await asyncio.sleep(_SETTLE_S)
        start = _counters(server, working)
        await asyncio.sleep(jobs * _EVERY_S)
        begin, began = _counters(server, working), time.monotonic()
        for _ in range(jobs):
            await app.enqueue("noop", args={"i": -1}, queue=source.choice(queues))
            await asyncio.sleep(_EVERY_S)
        await until(lambda: working.tally.count() >= len(queues) + jobs, "all jobs run")
        await asyncio.sleep(_SETTLE_S)
        end, longer = _counters(server, working), (time.monotonic() - began) / (jobs * _EVERY_S)
    wakeups, statements = (
        (late - middle - (middle - early) * longer) / jobs
        for early, middle, late in zip(start, begin, end, strict=True)
    )
    return {"wake-ups a job": wakeups, "statements a job": statements}


def _counters(server: BenchServer, working: Working) -> tuple[int, int]:
    """Return how often workers have waited for something, and how many statements there were."""
    workers = [pid for name, pid in working.pids().items() if name.startswith("worker")]
    return sum(_waits(pid) for pid in workers), server.logged_statements()


def _waits(pid: int) -> int:
    """Return a process's voluntary context switches: an event loop makes one each time that it goes to sleep."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    return 0


SCENARIO = Scenario(
    name="many",
    title="Many workers and queues",
    figure="wake-ups a job",
    cases=cases,
    rounds=(2, 1),
    estimate_s=(80, 18),
    note="One job every 30 ms, each for a queue drawn at random. Wake-ups are how often all workers together waited "
    "for something, statements those of all processes, enqueueing included; both less those of as long without jobs.",
)
