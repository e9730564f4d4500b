"""The targets of targets.toml, held against what was measured."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.bench.runner import Measured

FILE = Path(__file__).with_name("targets.toml")
Verdict = Literal["met", "not met", "not measured"]


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a case, or its ratio to that of another one, and the bound that it has to keep.

    ``worst`` takes the worst round instead of the median.
    """

    name: str
    scenario: str
    case: str
    figure: str
    against: str | None = None
    least: float | None = None
    most: float | None = None
    worst: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured: one value a round."""

    target: Target
    values: tuple[float, ...]

    @property
    def value(self) -> float | None:
        if not self.values:
            return None
        return max(self.values) if self.target.worst else statistics.median(self.values)

    @property
    def bound(self) -> str:
        target = self.target
        return f"at least {target.least:,g}" if target.least is not None else f"at most {target.most:,g}"

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "not measured"
        low, high = self.target.least, self.target.most
        kept = (low is None or self.value >= low) and (high is None or self.value <= high)
        return "met" if kept else "not met"


def read_targets(path: Path = FILE) -> list[Target]:
    """Read the file; each target has one bound."""
    tables: list[dict[str, Any]] = tomllib.loads(path.read_text())["target"]
    targets = [Target(**table) for table in tables]
    assert all((target.least is None) != (target.most is None) for target in targets)
    return targets


def judge(targets: Sequence[Target], measured: Mapping[str, Measured]) -> list[Judged]:
    """Take each round's value, or its ratio where both were measured in the same round."""
    return [Judged(target, tuple(_values(target, measured.get(target.scenario)))) for target in targets]


def _values(target: Target, measured: Measured | None) -> list[float]:
    if measured is None:
        return []
    values = measured.values(target.case, target.figure)
    if target.against is None:
        return [value for value in values if value is not None]
    bases = measured.values(target.against, target.figure)
    return [value / base for value, base in zip(values, bases, strict=False) if value is not None and base]
