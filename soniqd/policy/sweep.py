"""Whether this host may judge others by their silence."""

from __future__ import annotations

STEADY_INTERVALS = 3
RECONNECT_S = 2.0
"""What a healthy host needs at most to be heard again after the database was away."""


class BeatRecord:
    """How long this host's own heartbeats have come without a gap.

    After a pause of this process, or of the database, every host looks silent: the first one back would take the jobs
    of all others. So nobody sweeps before its own beats have been regular for long enough that the others have had
    the same chance. Times are seconds of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME).
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._since_s: float | None = None
        self._last_s = 0.0

    def beat(self, now_s: float) -> None:
        """A heartbeat was written."""
        late = now_s - self._last_s > 2 * self.interval_s + RECONNECT_S
        if self._since_s is None or late:
            self._since_s = now_s
        self._last_s = now_s

    def missed(self) -> None:
        """A heartbeat could not be written."""
        self._since_s = None

    def steady_in_s(self, now_s: float) -> float:
        """Return how long it takes until this host may sweep, if nothing happens; 0 or less: it may."""
        needed_s = STEADY_INTERVALS * self.interval_s + RECONNECT_S
        late = now_s - self._last_s > 2 * self.interval_s + RECONNECT_S
        if self._since_s is None or late:
            return needed_s
        return self._since_s + needed_s - now_s
