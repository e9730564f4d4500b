"""Whom to wake for a job, of the workers that could take it.

The worker that was woken last starts a job soonest: its code, its connection and its server process are still in the
processor's caches. So it is its turn until it has had one for ``TURN_S``, as long as it is at rest and has looked for
jobs since it was last woken. Whoever is stopped, hangs, or has lost its database thus misses one wake-up and not all,
and every worker gets turns, a new one after a reload first of all.

Otherwise jobs go round: to the least busy worker, and among equals to the one that was woken the longest ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

TURN_S = 1.0


class Sleeper(NamedTuple):
    """A worker that could claim now. Empty ``queues`` serve all."""

    worker_id: str
    queues: tuple[str, ...]
    free: int
    in_flight: int

    def covers(self, queues: tuple[str, ...]) -> bool:
        """Whether it serves all of these queues, which are all there are if there is none."""
        return not self.queues or (bool(queues) and set(queues) <= set(self.queues))


class Woken(NamedTuple):
    """When a worker was woken last, when that turn of its began, and how often it had looked for jobs until then."""

    at_s: float
    turn_s: float
    looks: int | None


Looks = Callable[[str], int | None]
"""How often a worker at rest has looked for jobs; None while it runs any, or where nobody knows."""


def choose_sleeper(
    sleepers: Iterable[Sleeper], queue: str | None, woken: Mapping[str, Woken], *, looks: Looks, now_s: float
) -> tuple[str, Woken] | None:
    """Choose who is to be woken for a queue (None: any), with what to remember of it."""
    fitting = [s for s in sleepers if s.free > 0 and (queue is None or not s.queues or queue in s.queues)]
    if not fitting:
        return None
    if len(fitting) == 1:
        return fitting[0].worker_id, Woken(now_s, now_s, None)
    known = [s.worker_id for s in fitting if s.worker_id in woken]
    if known:
        last = max(known, key=lambda worker_id: woken[worker_id].at_s)
        before, looked = woken[last], looks(last)
        if now_s - before.turn_s < TURN_S and before.looks is not None and looked not in (None, before.looks):
            return last, Woken(now_s, before.turn_s, looked)
    chosen = min(fitting, key=lambda s: (s.in_flight, woken[s.worker_id].at_s if s.worker_id in woken else 0.0))
    return chosen.worker_id, Woken(now_s, now_s, looks(chosen.worker_id))
