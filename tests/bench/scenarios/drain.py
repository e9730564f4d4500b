"""No-op jobs a second, from the first handler's start until the last outcome is in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.bench.contestants import FLOOR, SONIQD, Contestant
from tests.bench.scenario import Bench, Case, Sample, Scenario

WORKERS = (1, 2, 4)


def cases(bench: Bench) -> Sequence[Case]:
    dropped = SONIQD.with_settings("soniqd, results dropped", jobs={"result_ttl": 0})
    found = [
        _case(bench, SONIQD, 1),
        _case(bench, dropped, 1),
        _case(bench, FLOOR, 1),
        _case(bench, replace(FLOOR, name="psycopg loop of 100", concurrency=100), 1),
        *(_case(bench, peer, 1) for peer in bench.peers),
    ]
    found += [_case(bench, SONIQD, 2), *(_case(bench, peer, 2) for peer in bench.peer("graphile-worker"))]
    if not bench.quick:
        found.append(_case(bench, SONIQD, 4))
    return found


def _case(bench: Bench, contestant: Contestant, workers: int) -> Case:
    async def measure() -> Sample:
        return await drain(bench, contestant, workers)

    return Case(f"{contestant.name}, {workers} worker{'s' * (workers > 1)}", measure)


async def drain(bench: Bench, contestant: Contestant, workers: int) -> Sample:
    jobs = contestant.jobs // bench.size(1, 2)
    template = await contestant.fill(bench.server, jobs)
    with bench.server.copy_of(template) as url:
        async with contestant.working(url, workers) as tally:
            ended_ns = await contestant.wait_empty(url, tally, jobs)
            return {"jobs/s": jobs / (ended_ns - tally.first_ns()) * 1e9}


SCENARIO = Scenario(
    name="drain",
    title="Drain: no-op jobs that were queued before",
    figure="jobs/s",
    cases=cases,
    rounds=(5, 3),
    estimate_s=(60, 30),
)
