"""Where a busy claimer goes on in each lane, instead of starting at the lane's beginning again.

The rows that it has claimed leave dead entries at the beginning of a lane's index range until the next vacuum (which
comes every few seconds where many jobs run, see ``vacuum.py``, and removes nothing that an open snapshot may still
see). Walking over them again and again is what makes a queue slow at tens of thousands of jobs a second: after half a
million, a claim spends its time there.

So once many rows were claimed and a look from the beginning has become slow, claims go on from the last row that was
taken, and only now and then look from the beginning, so seldom that this costs a twentieth of the time. In between
they can miss what turned up behind them. For better priorities, and for lanes that were empty, they ask by an index
probe for each lane that was ever seen, every ``_PROBE_S`` or so: that walks over next to nothing. What is left, a job
that came back among equals and a lane never seen before, waits for the next look, ``LONGEST_S`` at most, and only as
long as there is enough else to do: after a claim that is not filled somebody looks from the beginning. Where things are
not that busy, every claim looks from the beginning.

A claim that found something goes back with that, and the look is made beside it, at once or when the one before it has
rested for as long as it took; what it finds behind the places is announced like a new job. A claim that found nothing
looks by itself. So a job that comes alone does not wait for the walk: 0.5 ms instead of 32 with 300,000 rows kept by an
old snapshot. A claim of many lanes that comes back short, but may not have seen the end of each, goes on again instead.

A lane that such a look finds empty keeps its place: what was before it is gone, and what comes next comes after it.
Without that, a queue that is drained again and again was walked from its beginning twice each time, once to find it
empty and once for the next jobs: with 400,000 rows kept by an old snapshot, each first claim took 60 ms instead of 3.

A look is dear while an old snapshot is held: 0.1 s after half a million jobs in one lane; 0.4 s after 200,000 in 20
lanes, whose dead entries lead to another page each. At one look a second, claims lost a third of their time there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from soniqd.backends.postgres.arrays import numbers, texts

Lane = tuple[str, str]
Place = tuple[int, int]

LONGEST_S = 5.0
"""The longest time for which nobody looks from the beginning."""

_BUSY_FROM = 5_000
"""Rows claimed since looks from the beginning were last cheap: fewer leave too little behind to bother."""

_PROBE_S = 0.2
_PROBE_COSTS = 2.0
"""A probe that finds something in a lane may make the next claim as dear as a look: so no sooner than in this many."""

_SEVERAL_S = 5.0
"""How long nobody asks whether several lanes have become one: what that costs in vain is as much as it saves."""

_MOST_KNOWN = 256
_MOST_EMPTY = 32
"""Of so many empty lanes the place is kept: a claim probes them all."""
_ANY_PRIORITY = 1 << 40

_CHEAP_S = 0.003
_SHARE = 20.0
"""A look from the beginning may take one part in this many of the time."""


@dataclass(slots=True)
class Lookahead:
    """What one kind of claim (the same names and queues) remembers. Times are of a monotonic clock."""

    places: dict[Lane, Place] = field(default_factory=dict)
    _known: dict[Lane, None] = field(default_factory=dict)
    _probed_at: float = 0.0
    _claimed: int = 0
    _looked_at: float = 0.0
    _cost_s: float = 0.0
    _several_until: float = 0.0
    _forgotten: bool = False
    look_wanted: bool = False
    """Whether claims have gone past something since the latest look beside them was begun."""
    looking: asyncio.Task[None] | None = None
    """Looks from the beginning beside the claims, and the rest after each."""

    def expects_one_lane(self, now: float) -> bool:
        """Tell whether to try the shorter claim, which serves one lane."""
        return now >= self._several_until and not self.is_busy

    def found_several_lanes(self, now: float) -> None:
        """Note that it was tried in vain."""
        self._several_until = now + _SEVERAL_S

    def may_go_on(self, now: float) -> bool:
        """Tell whether to go on from the places, rather than to look from the beginning."""
        pause_s = min(LONGEST_S, self._cost_s * _SHARE)
        return self.is_busy and bool(self.places) and not self._forgotten and now - self._looked_at < pause_s

    @property
    def is_busy(self) -> bool:
        return self._claimed >= _BUSY_FROM

    @property
    def is_looking(self) -> bool:
        """Whether a look beside the claims is under way, or rests."""
        return self.looking is not None and not self.looking.done()

    def took(self, count: int, last: Mapping[Lane, Place]) -> None:
        """Note how many rows were claimed, and the last one of each lane."""
        self._claimed += count
        for lane, place in last.items():
            if lane in self.places:
                self.places[lane] = max(self.places[lane], place)

    def looked(self, lanes: Iterable[tuple[Lane, Place]] | None, *, now: float, cost_s: float) -> None:
        """Note a look from the beginning: every lane with its best row, and how long it took.

        Where it was not asked for the lanes (None), nobody knows which places are still any good.
        """
        found = dict(lanes or ())
        empty = [] if lanes is None else [one for one in self.places.items() if one[0] not in found]
        self.places = {**dict(empty[-_MOST_EMPTY:]), **found}
        self._forgotten = False
        self._looked_at = self._probed_at = now
        self._cost_s = cost_s
        self._know(found)
        if cost_s < _CHEAP_S:
            self._claimed = 0

    def looked_beside(
        self, lanes: Iterable[tuple[Lane, Place]], *, since: Mapping[Lane, Place], now: float, cost_s: float
    ) -> set[str]:
        """Note a look that was begun when the places were ``since``, and made while claims went on.

        Return in which queues it found something that they had gone past by then, or did not know. Places have moved on
        meanwhile; what they went past in that time was claimed, most of it, and the next look finds what was not.
        """
        found = dict(lanes)
        behind = {lane for lane, place in found.items() if lane not in since or place < since[lane]}
        ahead = {lane: max(place, self.places.get(lane, place)) for lane, place in found.items() if lane not in behind}
        self.looked((found | ahead).items(), now=now, cost_s=cost_s)
        return {queue for queue, _ in behind}

    def wants_probe(self, now: float) -> bool:
        """Tell whether to ask what has come before the places."""
        return now - self._probed_at >= max(_PROBE_S, self._cost_s * _PROBE_COSTS)

    def probe(self) -> dict[str, Any]:
        """Return every known lane with the priority above which its rows are passed by."""
        return {
            "queues": texts(queue for queue, _ in self._known),
            "names": texts(name for _, name in self._known),
            "below": numbers(self.places.get(lane, (_ANY_PRIORITY, 0))[0] for lane in self._known),
        }

    def probed(self, better: Iterable[tuple[Lane, Place]], *, now: float) -> None:
        """Go on from what was found."""
        self.places.update(better)
        self._probed_at = now

    def _know(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._known.pop(lane, None)  # known lanes are in the order in which they were last seen
            self._known[lane] = None
        for lane in list(self._known)[:-_MOST_KNOWN]:
            del self._known[lane]

    def forget(self) -> None:
        """Look from the beginning next time."""
        self._forgotten = True

    def parameters(self) -> dict[str, Any]:
        """Return the lanes as parameters of the claim: as texts, whose type is one and the same for any number."""
        return {
            "ahead_queues": texts(queue for queue, _ in self.places),
            "ahead_names": texts(name for _, name in self.places),
            "ahead_priorities": numbers(priority for priority, _ in self.places.values()),
            "ahead_seqs": numbers(seq for _, seq in self.places.values()),
        }
