"""Jobs enqueued a second: one by one, each durable before the next, and in bulk."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.contestants import FLOOR, SONIQD, SQLITE, Contestant
from tests.bench.scenario import Bench, Case, Sample, Scenario


def single_cases(bench: Bench) -> Sequence[Case]:
    return _cases(bench, "one", bench.size(2, 1))


def bulk_cases(bench: Bench) -> Sequence[Case]:
    return _cases(bench, "many", bench.size(50_000, 20_000))


def _cases(bench: Bench, verb: str, argument: int) -> Sequence[Case]:
    def case(contestant: Contestant, *, once: bool = False) -> Case:
        async def measure() -> Sample:
            return await _ask(bench, contestant, verb, argument)

        return Case(contestant.name, measure, once)

    found = [case(contestant) for contestant in (FLOOR, SONIQD, *bench.rival, SQLITE)]
    return [*found, *(case(peer, once=True) for peer in bench.others)]


async def _ask(bench: Bench, contestant: Contestant, verb: str, argument: int) -> Sample:
    async with contestant.database(bench.server) as url:
        answer = await contestant.ask(verb, url, argument)
    return {"jobs/s": answer["count"] / answer["seconds"]}


SINGLE = Scenario(
    name="enqueue",
    title="Enqueue one by one",
    figure="jobs/s",
    cases=single_cases,
    rounds=(7, 3),
    estimate_s=(40, 12),
    note="One caller, who waits for each job to be durable. The psycopg loop inserts a row and notifies in one "
    "statement.",
)
BULK = Scenario(
    name="bulk",
    title="Enqueue in bulk",
    figure="jobs/s",
    cases=bulk_cases,
    rounds=(7, 3),
    estimate_s=(60, 12),
    note="One call with all jobs. The psycopg loop is one INSERT with unnest.",
)
