"""How fast what nobody needs any more is deleted.

A little at a time, so that no deletion holds locks, a snapshot or the disk for long; and at once again while there is
more, resting for as long as the last deletion took. Otherwise a fleet that ends more jobs than one deletion takes away
in an interval keeps its history for ever: it grew without bound from 170 jobs a second on.
"""

from __future__ import annotations

PRUNE_BATCH = 2_000
"""Rows of a kind that one statement deletes: 10 to 20 ms of the server's time."""


def next_prune_s(*deleted: int, took_s: float) -> float | None:
    """Return after which rest to go on; None: there was no full batch of any kind, so nothing is left."""
    return took_s if max(deleted) >= PRUNE_BATCH else None
