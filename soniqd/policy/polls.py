"""When a worker looks for jobs that nobody announced."""

from __future__ import annotations


def until_next_poll_s(interval_s: float, *, turn: int, turns: int, polled: bool, random: float) -> float:
    """Return the seconds from a look until the next poll.

    Workers of a group take ``turns``, of which this one has the ``turn``-th: those that were woken together then poll
    one after the other, each once in a round. ``polled`` says whether this look was a poll; ``random``, in [0, 1),
    keeps the polls of many hosts apart.
    """
    return (turns if polled else turn) * interval_s * (0.9 + random / 5)
