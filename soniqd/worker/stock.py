"""How many jobs to hold ready, by how fast they went lately."""

from __future__ import annotations

import math
import time

from soniqd.worker.options import WorkerOptions

_RATE_WINDOW_S = 0.05
_RATE_STEP_S = 0.001


class Rate:
    """Jobs a second, averaged over the last ``_RATE_WINDOW_S`` or so."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._ended = 0
        self._at = time.monotonic()

    def stock(self, ended: int, now: float, options: WorkerOptions) -> int:
        """Return how many jobs to hold ready beyond the free slots."""
        stretch = now - self._at
        if stretch >= _RATE_STEP_S:
            weight = 1 - math.exp(-stretch / _RATE_WINDOW_S)
            self._per_s += ((ended - self._ended) / stretch - self._per_s) * weight
            self._ended, self._at = ended, now
        return min(options.prefetch_max, int(self._per_s * options.prefetch_s))

    def reset(self, ended: int, now: float) -> None:
        self._per_s, self._ended, self._at = 0.0, ended, now
