"""How the time beyond a drain is shared out, so that each step ends before the one that would cut it short."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Graces:
    """Parts of a group's ``stop_signal_timeout``, after which the master kills.

    Handlers that were cancelled get ``cancel_s`` to clean up, then outcomes get ``write_s`` to reach the database;
    after ``leave_s`` the loop gives up on both, and after ``end_s`` a timer in C ends the process.
    """

    cancel_s: float
    write_s: float
    leave_s: float
    end_s: float

    @classmethod
    def within(cls, stop_signal_timeout_s: float) -> Graces:
        """Share this much time out."""
        return cls(*(part * stop_signal_timeout_s for part in (0.2, 0.5, 0.8, 0.9)))
