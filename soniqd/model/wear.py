"""How worn a table is: what tells whether dead rows are worth removing now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableWear:
    """Facts of one moment. Transactions are numbered and counted up for ever.

    ``next_transaction`` begins next; ``horizon`` is the oldest one whose traces somebody may still see, so that what
    died since then cannot be removed. ``vacuums`` counts those of anybody.
    """

    live_rows: int
    dead_rows: int
    vacuums: int
    vacuumed_ago_s: float | None
    next_transaction: int
    horizon: int
    may_vacuum: bool = True
