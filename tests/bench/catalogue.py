"""All scenarios, in the order of the report."""

from __future__ import annotations

from tests.bench.scenario import Scenario
from tests.bench.scenarios import backlog, bloat, crash, drain, enqueue, idle, latency, lateness, many, respawn

SCENARIOS: tuple[Scenario, ...] = (
    drain.SCENARIO,
    enqueue.SINGLE,
    enqueue.BULK,
    latency.SCENARIO,
    lateness.SCENARIO,
    idle.SCENARIO,
    backlog.SCENARIO,
    bloat.SCENARIO,
    many.SCENARIO,
    crash.SCENARIO,
    respawn.SCENARIO,
)
