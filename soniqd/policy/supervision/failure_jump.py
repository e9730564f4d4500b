"""Whether new children fail more of their jobs than the old ones do."""

from __future__ import annotations

from dataclasses import dataclass, field

MIN_FAILURES = 3
"""Fewer failures than this say nothing about a generation."""
FAILED_IN = "jobs failed in new children of"
"""Part of the reason for which a generation is given up."""


@dataclass(slots=True)
class Runs:
    """Runs that have ended, by their end."""

    done: int = 0
    failed: int = 0

    def add(self, *, done: int, failed: int) -> None:
        """Count more of them."""
        self.done += done
        self.failed += failed

    @property
    def failure_share(self) -> float:
        """The part that failed; 0 of none."""
        runs = self.done + self.failed
        return self.failed / runs if runs else 0.0


@dataclass(slots=True)
class Comparison:
    """A group's runs: of its old children before the rollout, of the old ones since then, and of the new ones."""

    before: Runs = field(default_factory=Runs)
    lately: Runs = field(default_factory=Runs)
    new: Runs = field(default_factory=Runs)


def has_jumped(runs: Comparison, failure_jump: float) -> bool:
    """Decide whether the new children's share of failed runs is too far above the old ones'; 1 is never too far.

    What the old ones do *now* counts too: while a service that the jobs need is away, old and new fail alike, and the
    rollout that brings the remedy must not be held for it.
    """
    if runs.new.failed < MIN_FAILURES:
        return False
    return runs.new.failure_share > _share_to_beat(runs) + failure_jump


def _share_to_beat(runs: Comparison) -> float:
    ever = Runs(runs.before.done + runs.lately.done, runs.before.failed + runs.lately.failed)
    lately = runs.lately.failure_share if runs.lately.failed >= MIN_FAILURES else 0.0
    return max(ever.failure_share, lately)
