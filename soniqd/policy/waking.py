"""Whom to wake for a job, of the workers that could take it.

The worker that was woken last starts a job soonest: its code, its connection and its server process are still in the
processor's caches. So for each queue it is one worker's turn for ``TURN_S``, as long as that one has run a job since it
was last woken, and runs none now. Otherwise jobs go round: to the least busy worker, and among equals to the one that
was woken the longest ago. Thus every worker gets turns, a new one after a reload first of all.

Who has not even looked for jobs since it was woken is *silent*: it is stopped, hangs, or has lost its database. For
``TURN_S`` it comes behind all others, so that it misses a wake-up a second, and not all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TURN_S = 1.0


class Sleeper(NamedTuple):
    """A worker that could claim now. Empty ``queues`` serve all.

    ``begun``: how many jobs it has begun, ever; ``looks``: how often it has looked for some.
    """

    worker_id: str
    queues: tuple[str, ...]
    free: int
    in_flight: int
    begun: int
    looks: int

    def takes(self, queue: str | None) -> bool:
        """Whether it has room for a job of this queue (None: of any)."""
        return self.free > 0 and (queue is None or not self.queues or queue in self.queues)

    def covers(self, queues: tuple[str, ...]) -> bool:
        """Whether it serves all of these queues, which are all there are if there is none."""
        return not self.queues or (bool(queues) and set(queues) <= set(self.queues))


class Woken(NamedTuple):
    """When a worker was woken last, when that turn of its began, and what it had done by then."""

    at_s: float
    turn_s: float
    begun: int
    looks: int


def keeps_turn(sleeper: Sleeper, before: Woken, *, now_s: float) -> bool:
    """Decide whether to wake a worker once more that was woken last."""
    return not sleeper.in_flight and sleeper.begun != before.begun and now_s - before.turn_s < TURN_S


def next_turn(
    sleepers: Iterable[Sleeper], queue: str | None, woken: Mapping[str, Woken], *, now_s: float
) -> Sleeper | None:
    """Choose whose turn it is next; None if nobody can take a job of this queue (None: of any)."""

    def preference(sleeper: Sleeper) -> tuple[bool, int, float]:
        before = woken.get(sleeper.worker_id)
        if before is None:
            return False, sleeper.in_flight, 0.0
        is_silent = sleeper.looks == before.looks and now_s - before.at_s < TURN_S
        return is_silent, sleeper.in_flight, before.at_s

    return min((sleeper for sleeper in sleepers if sleeper.takes(queue)), key=preference, default=None)
