"""From the commit of a job to the start of its handler, while the workers idle; one job every 20 ms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.bench.contestants import SONIQD, SQLITE, Contestant, until
from tests.bench.distribution import quantile
from tests.bench.scenario import Bench, Case, Sample, Scenario

EVERY_S = 0.02


def cases(bench: Bench) -> Sequence[Case]:
    found = [_case(bench, SONIQD, 1), _case(bench, SONIQD, 4), _case(bench, SQLITE, 1)]
    found += [_case(bench, peer, 1) for peer in bench.rival]
    return [*found, *(_case(bench, peer, 1, once=True) for peer in bench.others)]


def _case(bench: Bench, contestant: Contestant, workers: int, *, once: bool = False) -> Case:
    async def measure() -> Sample:
        return await latency(bench, contestant, workers)

    return Case(f"{contestant.name}, {workers} worker{'s' * (workers > 1)}", measure, once)


async def latency(bench: Bench, contestant: Contestant, workers: int) -> Sample:
    """Enqueue from one process, and wait in others."""
    count = bench.size(500, 100)
    async with contestant.database(bench.server) as url, contestant.working(url, workers) as working:
        await _is_awake(contestant, url, working.tally.count)
        committed = (await contestant.ask("paced", url, count, EVERY_S))["committed"]
        tally = working.tally
        await until(lambda: all(map(tally.started_ns, range(count))), f"{contestant.name} starts all", patience_s=10)
        started = [tally.started_ns(number) for number in range(count)]
    delays_ms = [(at - done) / 1e6 for at, done in zip(started, committed, strict=True)]
    return {"p50 ms": quantile(delays_ms, 0.5), "p99 ms": quantile(delays_ms, 0.99), "max ms": max(delays_ms)}


async def _is_awake(contestant: Contestant, url: str, count: Callable[[], int]) -> None:
    """Run a few jobs, so that connections, plans and code are warm."""
    await contestant.ask("one", url, 0.2)
    await until(lambda: count() >= 30, f"{contestant.name} runs its first jobs")


SCENARIO = Scenario(
    name="latency",
    title="From commit to the handler's start",
    figure="p50 ms",
    cases=cases,
    rounds=(3, 2),
    estimate_s=(130, 20),
    note="One job every 20 ms, enqueued by another process; the workers have nothing else to do.",
)
