"""The benchmark's own arithmetic: what it takes for a figure, whether a target is met, who gets the time."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any, cast

import pytest

from tests.bench.catalogue import SCENARIOS
from tests.bench.distribution import quantile
from tests.bench.drivers import tally as tally_module
from tests.bench.drivers.tally import STEP, Reader, Tally
from tests.bench.peers import PEERS
from tests.bench.report import Surroundings, as_html, as_json, as_markdown
from tests.bench.runner import Measured, next_scenario, run
from tests.bench.scenario import Bench, Case, Scenario
from tests.bench.targets import Judged, Target, judge, read_targets

AROUND = Surroundings("2026-01-01", 1.0, "the quick form", {"CPUs": "2"}, {"soniqd": "1"}, ["chancy <&>"])


def scenario(name: str = "drain", *, rounds: int = 3, estimate_s: float = 1.0) -> Scenario:
    return Scenario(name, "Drain <no-op>", "jobs/s", lambda _: (), (rounds, rounds), (estimate_s, estimate_s))


def measured(samples: dict[str, list[float | None]], *, name: str = "drain", rounds: int = 3) -> Measured:
    found = Measured(scenario(name), wanted=3, expected_s=1.0)
    found.cases = [Case(case, cast(Any, None)) for case in samples]
    found.samples = {
        case: [None if value is None else {"jobs/s": value} for value in values] for case, values in samples.items()
    }
    found.rounds = rounds
    return found


def ratio(samples: dict[str, list[float | None]], *, least: float = 1.2) -> Judged:
    target = Target("ratio", "drain", "ours", "jobs/s", against="theirs", least=least)
    [judged] = judge([target], {"drain": measured(samples)})
    return judged


def test_a_ratio_is_the_median_of_the_ratios_within_each_round():
    judged = ratio({"ours": [10, 300, 60], "theirs": [10, 100, 30]})
    assert judged.values == (1.0, 3.0, 2.0)
    assert (judged.value, judged.verdict) == (2.0, "met")


def test_a_round_in_which_one_of_the_two_failed_counts_for_no_ratio():
    assert ratio({"ours": [10, None, 30], "theirs": [10, 10, None]}).values == (1.0,)
    assert ratio({"ours": [10], "theirs": []}).verdict == "not measured"


def test_a_target_that_is_just_reached_is_met():
    assert ratio({"ours": [12], "theirs": [10]}).verdict == "met"
    assert ratio({"ours": [11.9], "theirs": [10]}).verdict == "not met"


def test_a_bound_that_no_round_may_break_is_held_against_the_worst():
    target = Target("longest", "drain", "ours", "jobs/s", most=100, worst=True)
    [judged] = judge([target], {"drain": measured({"ours": [1, 2, 101]})})
    assert (judged.value, judged.verdict) == (101, "not met")


def test_every_target_names_a_case_that_there_is():
    bench = Bench(server=cast(Any, None), peers=[peer.contestant for peer in PEERS], quick=False)
    cases = {it.name: {case.name for case in it.cases(bench)} for it in SCENARIOS}
    wanted = {(target.scenario, case) for target in read_targets() for case in (target.case, target.against) if case}
    assert [(name, case) for name, case in wanted if case not in cases[name]] == []


def test_the_first_round_of_each_scenario_comes_before_the_second_of_any():
    first, second = measured({}, name="first", rounds=1), measured({}, name="second", rounds=0)
    assert next_scenario([first, second], 100) is second


def test_a_round_that_would_not_end_in_time_is_left_out():
    long, short = measured({}, rounds=0), measured({}, rounds=2)
    long.expected_s = 60.0
    assert next_scenario([long, short], 30) is short
    assert next_scenario([long, short], 0.5) is None


def test_a_scenario_that_has_all_its_rounds_gets_no_more():
    assert next_scenario([measured({}, rounds=3)], 100) is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_one_of_the_values(share, expected):
    assert quantile(range(100, 0, -1), share) == expected


def test_a_tally_adds_up_what_several_processes_counted(tmp_path, monkeypatch):
    began = time.monotonic_ns()
    for pid, numbers in ((1, [-1, 5]), (2, [7])):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        tally = Tally(tmp_path)
        for number in numbers:
            tally.tick(number)
    reader = Reader(tmp_path)
    assert (reader.count(), sorted(reader.counts())) == (3, [1, 2])
    assert began <= reader.first_ns() <= reader.started_ns(5) <= reader.started_ns(7)
    assert reader.started_ns(6) == 0


def test_a_tally_notes_when_it_has_reached_a_thousand(tmp_path):
    tally = Tally(tmp_path)
    for _ in range(STEP - 1):
        tally.tick(-1)
    reader = Reader(tmp_path)
    assert reader.reached_ns(STEP) == 0
    tally.tick(-1)
    assert reader.reached_ns(STEP) >= reader.first_ns() > 0


def test_the_report_says_what_failed_what_is_missing_and_what_was_shortened():
    found = measured({"ours": [10.0, 20.0], "broken": [None, None]}, rounds=2)
    found.errors["broken"] = "RuntimeError: no <such> thing"
    judged = judge([Target("ratio", "drain", "ours", "jobs/s", least=15)], {"drain": found})
    page = as_html(AROUND, [found], judged)
    assert "RuntimeError: no &lt;such&gt; thing" in page
    assert "2 rounds of 3, for want of time" in page
    assert "chancy &lt;&amp;&gt;" in page
    assert "Drain &lt;no-op&gt;" in page
    assert "<svg" in page
    assert "| ratio | at least 15 |" in as_markdown(judged)
    assert json.loads(json.dumps(as_json(AROUND, [found], judged)))["targets"][0]["verdict"] == "met"


async def test_a_case_that_fails_is_told_and_the_others_go_on(capsys):
    async def works() -> dict[str, float]:
        return {"jobs/s": 2.0}

    async def fails() -> dict[str, float]:
        raise RuntimeError("no server")

    cases = (Case("works", works), Case("fails", fails))
    chosen = Scenario("drain", "Drain", "jobs/s", lambda _: cases, rounds=(2, 2), estimate_s=(0.0, 0.0))
    [found] = await run([chosen], Bench(server=cast(Any, None), peers=[], quick=True), budget_s=60)
    assert (found.rounds, found.values("works", "jobs/s"), found.values("fails", "jobs/s")) == (2, [2, 2], [None, None])
    assert found.errors == {"fails": "RuntimeError: no server"}
    assert "works: 2 jobs/s" in capsys.readouterr().out


async def test_a_case_that_is_measured_once_costs_no_further_round_anything():
    async def quick() -> dict[str, float]:
        return {"jobs/s": 1.0}

    async def slow() -> dict[str, float]:
        await asyncio.sleep(0.05)
        return {"jobs/s": 2.0}

    cases = (Case("again", quick), Case("once", slow, once=True))
    chosen = Scenario("drain", "Drain", "jobs/s", lambda _: cases, rounds=(3, 3), estimate_s=(0.0, 0.0))
    [found] = await run([chosen], Bench(server=cast(Any, None), peers=[], quick=True), budget_s=60)
    assert (found.values("again", "jobs/s"), found.values("once", "jobs/s")) == ([1.0] * 3, [2.0])
    assert found.expected_s < 0.05 <= found.seconds


async def test_a_case_that_begins_after_the_time_is_left_out_of_its_round():
    async def slow() -> dict[str, float]:
        await asyncio.sleep(0.05)
        return {"jobs/s": 1.0}

    cases = (Case("first", slow), Case("second", slow))
    chosen = Scenario("drain", "Drain", "jobs/s", lambda _: cases, rounds=(5, 5), estimate_s=(0.0, 0.0))
    [found] = await run([chosen], Bench(server=cast(Any, None), peers=[], quick=True), budget_s=0.02)
    assert (found.values("first", "jobs/s"), found.values("second", "jobs/s")) == ([1.0], [None])
    assert found.errors == {}


def test_the_driver_for_node_writes_the_same_tally():
    source = (Path(tally_module.__file__).parent / "graphile.js").read_text()
    constants = dict(re.findall(r"\b(STEP|STAMPS|SLOTS|FIRST_STAMP) = (\d+)", source))
    expected = {"STEP": STEP, "STAMPS": tally_module.STAMPS, "SLOTS": tally_module.SLOTS, "FIRST_STAMP": 2}
    assert {name: int(value) for name, value in constants.items()} == expected
