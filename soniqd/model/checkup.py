"""What a database shows of its own health: facts for :mod:`soniqd.policy.doctor` to judge.

None stands for what could not be learned: the role may not read it, or this kind of database has no such thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from soniqd.model.limits import ServerLimits

HolderKind = Literal["transaction", "prepared transaction", "replication slot", "standby"]


@dataclass(frozen=True, slots=True)
class TableState:
    """A table. ``rows`` are estimated; ``wanted_bytes`` is about what they need, ``bytes`` what the table takes.

    ``vacuum_at`` is the number of dead rows at which autovacuum starts.
    """

    name: str
    rows: int
    dead_rows: int
    bytes: int
    wanted_bytes: int | None = None
    autovacuum: bool = True
    vacuum_at: int | None = None
    vacuumed_ago_s: float | None = None
    vacuuming: bool = False


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index. ``ours``: made by a migration; ``unique`` ones refuse twins, so they serve also when nobody looks."""

    name: str
    table: str
    bytes: int
    wanted_bytes: int | None = None
    valid: bool = True
    unique: bool = False
    ours: bool = True
    scans: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """An index that a migration made and that is not there; ``definition`` makes it again."""

    name: str
    table: str
    definition: str


@dataclass(frozen=True, slots=True)
class HorizonHolder:
    """Who keeps dead rows from being removed.

    ``name`` is a pid, or the name of a slot or a prepared transaction. ``age_s`` is unknown for slots and where the
    role may not look; ``age_transactions`` counts transactions since.
    """

    kind: HolderKind
    name: str
    age_transactions: int
    age_s: float | None = None
    application: str | None = None
    user: str | None = None
    client: str | None = None
    state: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class IdleSlot:
    """A replication slot that nobody reads; the server keeps ``kept_bytes`` of its log for it."""

    name: str
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """Client connections of one application and user, of any database of the server."""

    application: str
    user: str
    count: int
    ours: bool


@dataclass(frozen=True, slots=True)
class ServerState:
    """A database server. ``pooled``: something in between answers in its place, so that its limits are unknown."""

    version: str
    pooled: bool
    listening: bool
    limits: ServerLimits | None = None
    uses: tuple[ConnectionUse, ...] = ()
    horizon: tuple[HorizonHolder, ...] = ()
    idle_slots: tuple[IdleSlot, ...] = ()
    sees_all: bool = True
    autovacuum: bool = True
    fsync: bool = True
    full_page_writes: bool = True
    synchronous_commit: str = "on"
    notify_queue_usage: float = 0.0
    xid_age: int = 0
    freeze_max_age: int = 0


@dataclass(frozen=True, slots=True)
class FileState:
    """A database file. ``corruption`` is what the check found, None if it did not come to an end in time."""

    journal_mode: str
    bytes: int
    wal_bytes: int
    free_bytes: int
    disk_free_bytes: int
    file_system: str
    on_network: bool
    wakes: bool
    corruption: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Checkup:
    """All facts. ``clock_ahead_s``: the database's clock minus ours, ``round_trip_s`` the fastest of a few."""

    location: str
    applied: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    tables: tuple[TableState, ...] = ()
    indexes: tuple[IndexState, ...] = ()
    missing: tuple[MissingIndex, ...] = ()
    clock_ahead_s: float = 0.0
    round_trip_s: float = 0.0
    server: ServerState | None = None
    file: FileState | None = None
