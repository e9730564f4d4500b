"""What a scenario is: cases that are measured in turns, round after round, and what they are measured with.

Cases that are compared stand beside each other, so that little time lies between them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.contestants import Contestant
from tests.bench.server import BenchServer

Sample = Mapping[str, float]
"""Figures of one measurement, by name. Names end with their unit."""


RIVAL = "graphile-worker"


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario has at hand. ``peers`` are those that are installed."""

    server: BenchServer
    peers: Sequence[Contestant]
    quick: bool

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @property
    def rival(self) -> list[Contestant]:
        """The fastest peer, which targets are held against, if it is installed."""
        return [peer for peer in self.peers if peer.name == RIVAL]

    @property
    def others(self) -> list[Contestant]:
        """The other peers, which a quick run leaves out, and any other one measures once."""
        return [] if self.quick else [peer for peer in self.peers if peer.name != RIVAL]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured once a round; ``once``: in the first round only, so that others get more of them."""

    name: str
    measure: Callable[[], Awaitable[Sample]]
    once: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """``figure`` is the one that tables and plots show first. ``rounds`` and ``estimate_s`` are (full, quick).

    ``rounds`` is how many there are if the time suffices, ``estimate_s`` how long the first one may take.
    """

    name: str
    title: str
    figure: str
    cases: Callable[[Bench], Sequence[Case]]
    rounds: tuple[int, int]
    estimate_s: tuple[float, float]
    note: str = ""
