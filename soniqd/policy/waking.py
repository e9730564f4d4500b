"""Whom to wake for a job, of the workers that could take it.

The worker that was woken last starts a job soonest: its code, its connection and its server process are still in the
processor's caches. So for each queue it is one worker's turn for ``TURN_S``, as long as that one is at rest and has
looked for jobs since it was last woken. Whoever is stopped, hangs, or has lost its database thus misses one wake-up and
not all, and every worker gets turns, a new one after a reload first of all.

Otherwise jobs go round: to the least busy worker, and among equals to the one that was woken the longest ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TURN_S = 1.0


class Sleeper(NamedTuple):
    """A worker that could claim now. Empty ``queues`` serve all."""

    worker_id: str
    queues: tuple[str, ...]
    free: int
    in_flight: int

    def takes(self, queue: str | None) -> bool:
        """Whether it has room for a job of this queue (None: of any)."""
        return self.free > 0 and (queue is None or not self.queues or queue in self.queues)

    def covers(self, queues: tuple[str, ...]) -> bool:
        """Whether it serves all of these queues, which are all there are if there is none."""
        return not self.queues or (bool(queues) and set(queues) <= set(self.queues))


class Woken(NamedTuple):
    """When a worker was woken last, when that turn of its began, and how often it had looked for jobs until then.

    ``looks`` is known of workers at rest only.
    """

    at_s: float
    turn_s: float
    looks: int | None


def keeps_turn(before: Woken, *, looks: int | None, now_s: float) -> bool:
    """Decide whether a worker that has room is to be woken once more; ``looks`` None: it is not at rest."""
    return now_s - before.turn_s < TURN_S and before.looks is not None and looks not in (None, before.looks)


def next_turn(sleepers: Iterable[Sleeper], queue: str | None, woken: Mapping[str, Woken]) -> str | None:
    """Choose whose turn it is next; None if nobody can take a job of this queue (None: of any)."""
    fitting = [sleeper for sleeper in sleepers if sleeper.takes(queue)]
    return min(fitting, key=lambda s: (s.in_flight, _woken_s(s, woken))).worker_id if fitting else None


def _woken_s(sleeper: Sleeper, woken: Mapping[str, Woken]) -> float:
    return woken[sleeper.worker_id].at_s if sleeper.worker_id in woken else 0.0
