"""What was measured, as JSON and as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from statistics import median
from typing import Any

from tests.bench.plots import bars, number
from tests.bench.runner import Measured
from tests.bench.tables import markdown
from tests.bench.targets import Judged

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } svg { width: 100%; font: 12px system-ui }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } small, .spread { color: #666 } .label { text-anchor: end }
.bar { fill: #b9bfc7 } .bar.ours { fill: #4a7fb5 } circle { fill: #1c1c1c; opacity: 0.55 }
.met { color: #1a7f37 } .not { color: #b3261e }
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and how it was measured."""

    began: str
    minutes: float
    mode: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    absent: Sequence[str]
    """Peers that are not installed."""


def as_json(around: Surroundings, found: Sequence[Measured], judged: Sequence[Judged]) -> dict[str, Any]:
    """Return everything, each round's sample included."""
    return {
        **asdict(around),
        "targets": [
            {**asdict(it.target), "values": it.values, "value": it.value, "verdict": it.verdict} for it in judged
        ],
        "scenarios": [
            {
                "name": it.scenario.name,
                "title": it.scenario.title,
                "rounds": it.rounds,
                "rounds_wanted": it.wanted,
                "seconds": round(it.seconds, 1),
                "samples": it.samples,
                "errors": it.errors,
            }
            for it in found
        ],
    }


def as_markdown(judged: Sequence[Judged]) -> str:
    """Return the table of the targets."""
    rows = [[it.target.name, it.bound, _value(it), it.verdict] for it in judged]
    return markdown(["", "target", "measured", ""], rows)


def as_html(around: Surroundings, found: Sequence[Measured], judged: Sequence[Judged]) -> str:
    """Return the page."""
    parts = [
        "<h1>soniqd, measured</h1>",
        _introduction(around),
        "<h2>Targets</h2>",
        _targets(judged),
        *(_scenario(it) for it in found),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>soniqd, measured</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(parts)}</html>\n'
    )


def _introduction(around: Surroundings) -> str:
    facts = {**around.machine, **around.versions}
    said = "; ".join(f"{name} {value}" for name, value in facts.items())
    absent = f"<p>Not installed, so not measured: {escape(', '.join(around.absent))}.</p>" if around.absent else ""
    return (
        f"<p>{escape(around.began)}, {escape(around.mode)}, {around.minutes:.1f} minutes. {escape(said)}.</p>{absent}"
        "<p>Cases are measured in turns, round after round, forth and back. Figures are medians over the rounds with "
        "the least and the most; a ratio is the median of the ratios within each round, of two that were measured one "
        "after the other. Compare within one run only: machines differ, and have slow and fast hours.</p>"
    )


def _targets(judged: Sequence[Judged]) -> str:
    rows = "".join(_target(it) for it in judged)
    return f"<table><tr><th></th><th>target</th><th>measured</th><th></th></tr>{rows}</table>"


def _target(it: Judged) -> str:
    cells = f"<td>{escape(it.target.name)}</td><td>{escape(it.bound)}</td><td>{_cell(it.values) or '-'}</td>"
    return f'<tr>{cells}<td class="{it.verdict.split()[0]}">{it.verdict}</td></tr>'


def _value(judged: Judged) -> str:
    return "-" if judged.value is None else number(judged.value)


def _scenario(measured: Measured) -> str:
    scenario = measured.scenario
    figures = list(dict.fromkeys(name for of_case in measured.samples.values() for it in of_case if it for name in it))
    order = [case.name for case in measured.cases]
    chart = bars(scenario.title, {case: _numbers(measured, case, scenario.figure) for case in order})
    head = "".join(f"<th>{escape(name)}</th>" for name in figures)
    rows = "".join(_row(measured, case, figures) for case in order)
    return (
        f"<h2>{escape(scenario.title)}</h2><p>{escape(scenario.note)} <small>{escape(_rounds(measured))}</small></p>"
        f"<p>{escape(scenario.figure)}</p>{chart}<table><tr><th></th>{head}</tr>{rows}</table>"
    )


def _rounds(measured: Measured) -> str:
    if not measured.wanted:
        return "Only in the full form."
    if not measured.rounds:
        return "Left out: there was no time."
    plural = "s" if measured.rounds > 1 else ""
    less = f" of {measured.wanted}, for want of time" if measured.rounds < measured.wanted else ""
    return f"{measured.rounds} round{plural}{less}, {measured.seconds:.0f} s."


def _row(measured: Measured, case: str, figures: Sequence[str]) -> str:
    if case in measured.errors and not any(measured.samples.get(case, [])):
        return f"<tr><td>{escape(case)}</td><td colspan={len(figures) or 1}>{escape(measured.errors[case])}</td></tr>"
    cells = "".join(f"<td>{_cell(_numbers(measured, case, figure))}</td>" for figure in figures)
    return f"<tr><td>{escape(case)}</td>{cells}</tr>"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    if min(values) == max(values):
        return number(values[0])
    return f'{number(median(values))} <span class="spread">({number(min(values))} to {number(max(values))})</span>'


def _numbers(measured: Measured, case: str, figure: str) -> list[float]:
    return [value for value in measured.values(case, figure) if value is not None]
