"""All scenarios, in the order of the report."""

from __future__ import annotations

from tests.bench.scenario import Scenario
from tests.bench.scenarios import drain

SCENARIOS: tuple[Scenario, ...] = (drain.SCENARIO,)
