"""How late jobs start that were scheduled for a moment, or retried after a delay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.bench.contestants import SONIQD, SQLITE, Ours, application, until
from tests.bench.distribution import quantile
from tests.bench.drivers.tally import Reader
from tests.bench.jobs import RETRY_DELAY_S, SECOND
from tests.bench.scenario import Bench, Case, Sample, Scenario

_EVERY_S = 0.03
_AHEAD_S = 1.5


def cases(bench: Bench) -> Sequence[Case]:
    return [case for contestant in (SONIQD, SQLITE)[: bench.size(2, 1)] for case in _cases(bench, contestant)]


def _cases(bench: Bench, contestant: Ours) -> list[Case]:
    count = bench.size(200, 50)

    async def measure_scheduled() -> Sample:
        async with contestant.database(bench.server) as url, contestant.working(url, 1) as working:
            return _sample(await _scheduled(url, working.tally, count))

    async def measure_retried() -> Sample:
        async with contestant.database(bench.server) as url, contestant.working(url, 1) as working:
            return _sample(await _retried(url, working.tally, count))

    return [
        Case(f"{contestant.name}, scheduled", measure_scheduled),
        Case(f"{contestant.name}, retried", measure_retried),
    ]


async def _scheduled(url: str, tally: Reader, count: int) -> list[float]:
    """Return how late each was, in milliseconds: each was due at a moment of its own."""
    async with application(url) as app:
        base = datetime.now(UTC) + timedelta(seconds=_AHEAD_S + count * 0.005)
        due = [base + timedelta(seconds=number * _EVERY_S) for number in range(count)]
        for number, at in enumerate(due):
            await app.enqueue("noop", args={"i": number}, scheduled_at=at)
        await until(lambda: tally.count() >= count, "scheduled jobs run")
    offset_ns = time.time_ns() - time.monotonic_ns()
    return [(tally.started_ns(number) + offset_ns) / 1e6 - at.timestamp() * 1000 for number, at in enumerate(due)]


async def _retried(url: str, tally: Reader, count: int) -> list[float]:
    """Return how late the second runs were, in milliseconds, from the start of the first, which fails at once."""
    async with application(url) as app:
        for number in range(count):
            await app.enqueue("retried", args={"i": number})
            await asyncio.sleep(_EVERY_S)
        await until(lambda: tally.count() >= 2 * count, "failed jobs run again")
    runs = [(tally.started_ns(number), tally.started_ns(number + SECOND)) for number in range(count)]
    return [(second - first) / 1e6 - RETRY_DELAY_S * 1000 for first, second in runs]


def _sample(late_ms: list[float]) -> Sample:
    return {"p50 ms": quantile(late_ms, 0.5), "p99 ms": quantile(late_ms, 0.99), "max ms": max(late_ms)}


SCENARIO = Scenario(
    name="lateness",
    title="Lateness of scheduled and retried jobs",
    figure="p99 ms",
    cases=cases,
    rounds=(2, 1),
    estimate_s=(50, 12),
    note="Each job is due at a moment of its own, 30 ms after the one before. A retry counts from the start of the run "
    f"that failed, less its delay of {RETRY_DELAY_S:g} s, so that writing the failure is part of it.",
)
