"""Runs scenarios within a time: round after round over all of them, so that none has only a slow hour of the machine.

The first round comes first for all, and has the cases that are measured once. What is left of the time goes to further
rounds, to those scenarios first that have the smallest part of theirs; one that would not end in time gets none.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.scenario import Bench, Case, Scenario

_MARGIN = 1.15
"""A further round may take so much longer than the last one."""
_GRACE_S = 10.0
"""How far beyond the time a case may end that has begun within it."""


@dataclass(slots=True)
class Measured:
    """What came of a scenario: for each case one sample a round, None where it failed."""

    scenario: Scenario
    wanted: int
    expected_s: float
    cases: Sequence[Case] = ()
    samples: dict[str, list[dict[str, float] | None]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    seconds: float = 0.0

    def values(self, case: str, figure: str) -> list[float | None]:
        """Return one value a round."""
        return [None if sample is None else sample.get(figure) for sample in self.samples.get(case, [])]


async def run(scenarios: Sequence[Scenario], bench: Bench, budget_s: float) -> list[Measured]:
    """Measure, and say on stdout what is being measured."""
    end = time.monotonic() + budget_s
    index = 1 if bench.quick else 0
    found = [Measured(it, wanted=it.rounds[index], expected_s=it.estimate_s[index]) for it in scenarios]
    while (next_one := next_scenario(found, end - time.monotonic())) is not None:
        await _play_round(next_one, bench, end)
    return found


def next_scenario(found: Sequence[Measured], left_s: float) -> Measured | None:
    """Choose whose round comes next; None if no further one would end in time."""
    able = [it for it in found if it.rounds < it.wanted and it.expected_s * _MARGIN <= left_s]
    return min(able, key=lambda it: it.rounds / it.wanted, default=None)


async def _play_round(measured: Measured, bench: Bench, end: float) -> None:
    """Measure each case once: forth in one round and back in the next, so that neighbours are fair to each other."""
    began = time.monotonic()
    if not measured.cases:
        measured.cases = tuple(measured.scenario.cases(bench))
    print(f"{measured.scenario.name}: round {measured.rounds + 1}, {end - began:.0f} s left", flush=True)
    again = [case for case in measured.cases if not (case.once and measured.rounds)]
    measured.expected_s = 0.0
    for case in again if measured.rounds % 2 == 0 else reversed(again):
        asked = time.monotonic()
        sample = await _measure(measured, case, end - asked) if asked < end else None
        measured.samples.setdefault(case.name, []).append(sample)
        if not case.once:
            measured.expected_s += time.monotonic() - asked
    measured.rounds += 1
    measured.seconds += time.monotonic() - began


async def _measure(measured: Measured, case: Case, left_s: float) -> dict[str, float] | None:
    """Return the figures; what goes wrong is the report's to tell, and no reason to end."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(left_s + _GRACE_S):
            sample = dict(await case.measure())
    except Exception as error:
        measured.errors[case.name] = "".join(traceback.format_exception_only(error)).strip()
        traceback.print_exc()
        return None
    said = ", ".join(f"{value:.4g} {name}" for name, value in sample.items())
    print(f"  {case.name}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
    return sample
