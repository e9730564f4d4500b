"""No-op jobs a second, from the first handler's start until the last outcome is in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.bench.contestants import FLOOR, SONIQD, SQLITE, Contestant
from tests.bench.scenario import Bench, Case, Sample, Scenario

DROPPED = SONIQD.configured("soniqd, results dropped", jobs={"result_ttl": 0})
EVERYTHING = SONIQD.configured("soniqd, everything on", jobs={"modules": ["tests.bench.jobs_with_everything"]})
LOOP_OF_100 = replace(FLOOR, name="psycopg loop of 100", concurrency=100)


def cases(bench: Bench) -> Sequence[Case]:
    found = [_case(bench, contestant, 1) for contestant in (FLOOR, EVERYTHING, SONIQD, *bench.rival, DROPPED, SQLITE)]
    found += [_case(bench, contestant, 2) for contestant in (SONIQD, *bench.rival)]
    if not bench.quick:
        found += [_case(bench, contestant, 4, once=True) for contestant in (SONIQD, *bench.rival)]
        found.append(_case(bench, LOOP_OF_100, 1, once=True))
    return [*found, *(_case(bench, peer, workers, once=True) for peer in bench.others for workers in (1, 2))]


def _case(bench: Bench, contestant: Contestant, workers: int, *, once: bool = False) -> Case:
    async def measure() -> Sample:
        return await drain(bench, contestant, workers)

    return Case(f"{contestant.name}, {workers} worker{'s' * (workers > 1)}", measure, once)


async def drain(bench: Bench, contestant: Contestant, workers: int) -> Sample:
    """Run what is queued."""
    jobs = contestant.jobs // bench.size(1, 2)
    async with contestant.database(bench.server, jobs) as url, contestant.working(url, workers) as working:
        ended_ns = await contestant.wait_empty(url, working.tally, jobs)
        return {"jobs/s": jobs / (ended_ns - working.tally.first_ns()) * 1e9}


SCENARIO = Scenario(
    name="drain",
    title="Drain: no-op jobs that were queued before",
    figure="jobs/s",
    cases=cases,
    rounds=(7, 3),
    estimate_s=(90, 35),
    note="From the first handler's start until no job is left in the table. soniqd's master, fork server and scheduler "
    "run beside its workers. The psycopg loop claims and completes 500 jobs at a time, as the worker writes them.",
)
