"""When the dead rows of the table of jobs are worth removing, and when to look how many there are.

Autovacuum looks once a minute (``autovacuum_naptime``), and no setting of a table changes that: at 15,000 jobs a second
it meets two million dead rows, which claims have walked over until then. So whoever runs jobs looks more often, in step
with the jobs that have ended here: an idle host asks nothing.

Vacuum is worth it when many dead rows can go. Those that died after the oldest snapshot cannot, and how many those are
is estimated from the numbers of transactions, as if rows had died evenly since the last vacuum. That spares reading the
whole table in vain while a transaction stays open, and finds the moment when it ends. If a vacuum leaves more than the
estimate says, something keeps them that does not show, and the next one comes as late as autovacuum's.

After each vacuum there is a rest of some times what it took, so that a large table is not vacuumed all the time.
"""

from __future__ import annotations

from soniqd.model.wear import TableWear

LOOK_EVERY_S = 2.0
"""How often to ask whether to look; only while jobs end, or dead rows are left."""
LONGEST_LOOK_S = 60.0
COUNTED_AFTER_S = 12.0
"""A session of the server that has nothing more to do tells within ten seconds how many rows have died."""
ENDED_FROM = 3_000
"""Jobs that have ended here since the last look: each leaves two dead rows or three."""

DEAD_FROM = 20_000
"""Fewer are left to autovacuum, which starts at 5,000 and also gives pages back."""
DEAD_SHARE = 0.02
"""Of the live rows: a vacuum reads the indexes of all of them."""

REST_TIMES = 10.0
SHORTEST_REST_S = 2.0
LONG_REST_S = 60.0
"""After a vacuum that removed less than it should, or failed; twice as long each time that it fails again."""
LONGEST_REST_S = 3600.0
BUSY_REST_S = 10.0
"""After one that somebody else was at."""
NOT_PERMITTED_REST_S = 300.0
"""Until somebody may have granted it: for so long nothing is looked at either."""


def removable_rows(wear: TableWear, since: int | None) -> int:
    """Estimate how many dead rows a vacuum would remove; ``since`` is the horizon of the last one, None: unknown."""
    if since is None or wear.horizon >= wear.next_transaction:
        return wear.dead_rows
    if wear.horizon <= since:
        return 0
    return round(wear.dead_rows * (wear.horizon - since) / (wear.next_transaction - since))


def is_worth_it(wear: TableWear, since: int | None) -> bool:
    """Whether a vacuum would remove so many that it is worth its cost."""
    return removable_rows(wear, since) >= max(DEAD_FROM, DEAD_SHARE * wear.live_rows)


class VacuumWatch:
    """What one host remembers between its looks. Times are of a monotonic clock, ``ended`` counts jobs for ever."""

    def __init__(self) -> None:
        self._ended = 0
        self._look_at_s: float | None = None
        self._pause_s = LOOK_EVERY_S
        self._rest_until_s = 0.0
        self._blind_until_s = 0.0
        self._last: TableWear | None = None
        self._since: int | None = None
        self._failures = 0

    def wants_look(self, *, ended: int, now_s: float) -> bool:
        """Whether enough has happened here since the last look, or it is time for another one."""
        if now_s < self._blind_until_s:
            return False
        left = self._look_at_s is not None and now_s >= self._look_at_s
        return left or abs(ended - self._ended) >= ENDED_FROM

    def looked(self, wear: TableWear, *, ended: int, now_s: float) -> bool:
        """Note a look; return whether to vacuum now."""
        last, self._last = self._last, wear
        if last is not None and wear.vacuums > last.vacuums:
            self._since = last.horizon  # somebody else's, which came after that
        self._plan_next_look(wear, idle=ended == self._ended, now_s=now_s)
        self._ended = ended
        if now_s < self._rest_until_s or (wear.vacuumed_ago_s or SHORTEST_REST_S) < SHORTEST_REST_S:
            return False
        return is_worth_it(wear, self._since)

    def vacuumed(self, before: TableWear, after: TableWear, *, took_s: float, now_s: float) -> None:
        """Note what a vacuum has changed."""
        in_vain = before.dead_rows - after.dead_rows < removable_rows(before, self._since) / 2
        self._since, self._last, self._failures = before.horizon, after, 0
        self._rest_until_s = now_s + max(SHORTEST_REST_S, REST_TIMES * took_s, LONG_REST_S if in_vain else 0.0)

    def was_busy(self, *, now_s: float) -> None:
        """Note that somebody else was vacuuming."""
        self._rest_until_s = now_s + BUSY_REST_S

    def failed(self, *, now_s: float) -> None:
        """Note that it could not be done."""
        self._rest_until_s = now_s + min(LONGEST_REST_S, LONG_REST_S * 2.0 ** min(self._failures, 10))
        self._failures += 1

    def not_permitted(self, *, now_s: float) -> None:
        """Note that whoever looks may not vacuum."""
        self._blind_until_s = now_s + NOT_PERMITTED_REST_S

    def _plan_next_look(self, wear: TableWear, *, idle: bool, now_s: float) -> None:
        """Look once more when all is counted, and while dead rows are left, then ever more rarely."""
        self._pause_s = min(LONGEST_LOOK_S, 2 * self._pause_s) if idle else LOOK_EVERY_S
        is_left = wear.may_vacuum and wear.dead_rows >= max(DEAD_FROM, DEAD_SHARE * wear.live_rows)
        if is_left:
            self._look_at_s = now_s + self._pause_s
        else:
            self._look_at_s = None if idle else now_s + COUNTED_AFTER_S
