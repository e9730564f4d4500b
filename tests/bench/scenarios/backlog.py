"""Whether a claim costs the same with a million jobs queued, or scheduled for later, as with ten thousand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
from psycopg import sql

from tests.bench.contestants import SONIQD, application, until
from tests.bench.scenario import Bench, Case, Sample, Scenario
from tests.bench.server import BenchServer

FEW = 10_000
_MEASURED = 9_000
"""The last of the few are left out: their claims are not full."""

_COPIES = """
INSERT INTO soniq_jobs (id, scheduled_at, {columns})
SELECT (lpad(to_hex(number + {first}), 8, '0') || '-0000-7000-8000-000000000000')::uuid,
       CASE WHEN {later} THEN now() + interval '1 day' + number * interval '1 ms' END, {columns}
FROM (SELECT * FROM soniq_jobs LIMIT 1) job CROSS JOIN generate_series(1, {count}) number
"""


def cases(bench: Bench) -> Sequence[Case]:
    many = bench.size(1_000_000, 200_000)
    return [
        _case(bench, "small", queued=FEW, later=0),
        _case(bench, "large, queued", queued=many, later=0),
        _case(bench, "large, for later", queued=FEW, later=many),
    ]


def _case(bench: Bench, name: str, *, queued: int, later: int) -> Case:
    async def measure() -> Sample:
        async with _filled(bench.server, queued, later) as url, SONIQD.working(url, 1) as working:
            tally = working.tally
            await until(lambda: bool(tally.reached_ns(_MEASURED)), f"{_MEASURED} jobs start")
            rate = _MEASURED / (tally.reached_ns(_MEASURED) - tally.first_ns()) * 1e9
            return {"jobs/s": rate, "queued": queued, "for later": later}

    return Case(name, measure)


@asynccontextmanager
async def _filled(server: BenchServer, queued: int, later: int) -> AsyncIterator[str]:
    key = ("backlog", queued, later)
    template = server.template_for(key)
    if template is None:
        template = server.new_database()
        await SONIQD.ask("setup", template)
        async with application(template) as app:
            await app.enqueue("noop", args={"i": -1})
            await app.pause_queue("default")
        with psycopg.connect(template, autocommit=True) as connection:
            _copy(connection, queued - 1, first=0, later=False)
            _copy(connection, later, first=queued, later=True)
        server.keep_template(key, template)
    with server.copy_of(template) as url:
        yield url


def _copy(connection: psycopg.Connection, count: int, *, first: int, later: bool) -> None:
    """Multiply the one job that there is; the library would take a minute for a million."""
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'soniq_jobs' "
        "AND table_schema = current_schema() AND column_name NOT IN ('id', 'seq', 'scheduled_at')"
    ).fetchall()
    columns = sql.SQL(", ").join(sql.Identifier(row[0]) for row in rows)
    numbers = {"first": sql.Literal(first), "count": sql.Literal(count), "later": sql.Literal(later)}
    connection.execute(sql.SQL(_COPIES).format(columns=columns, **numbers))


SCENARIO = Scenario(
    name="backlog",
    title="A backlog of a million jobs",
    figure="jobs/s",
    cases=cases,
    rounds=(7, 2),
    estimate_s=(70, 15),
    note=f"The rate of the first {_MEASURED:,} jobs that one worker starts.",
)
