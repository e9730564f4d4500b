"""What counts as wrong with a database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soniqd.model.checkup import (
    Checkup,
    ConnectionUse,
    FileState,
    HorizonHolder,
    IdleSlot,
    IndexState,
    MissingIndex,
    ServerState,
    TableState,
)
from soniqd.model.limits import ServerLimits
from soniqd.policy.connections import ConnectionNeed, Holder
from soniqd.policy.doctor import examine

MB = 1 << 20
SERVER = ServerState("17.1", pooled=False, listening=True, limits=ServerLimits(100, 3), freeze_max_age=200_000_000)
TABLE = TableState("soniq_jobs", rows=1000, dead_rows=100, bytes=MB, wanted_bytes=MB, vacuum_at=5000)
INDEX = IndexState("soniq_jobs_claim", "soniq_jobs", bytes=MB, wanted_bytes=MB)
FILE = FileState("wal", 10 * MB, MB, 0, 9000 * MB, "ext4", on_network=False, wakes=True)
NEED = ConnectionNeed((Holder("default", 4, 10),))


def codes(checkup: Checkup, *, need: ConnectionNeed | None = None) -> list[str]:
    return [finding.code for finding in examine(checkup, need=need)]


def of_server(**changes) -> list[str]:
    return codes(Checkup("pg", server=replace(SERVER, **changes)))


def of_table(**changes) -> list[str]:
    return codes(Checkup("pg", tables=(replace(TABLE, **changes),)))


def of_index(**changes) -> list[str]:
    return codes(Checkup("pg", indexes=(replace(INDEX, **changes),)))


def of_file(**changes) -> list[str]:
    return codes(Checkup("file", file=replace(FILE, **changes)))


def test_a_healthy_database_has_no_finding():
    assert codes(Checkup("pg", tables=(TABLE,), indexes=(INDEX,), server=SERVER, file=FILE), need=NEED) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"autovacuum": False}, "autovacuum_off"),
        ({"fsync": False}, "not_durable"),
        ({"full_page_writes": False}, "not_durable"),
        ({"synchronous_commit": "off"}, "commits_not_durable"),
        ({"xid_age": 700_000_000}, "wraparound_near"),
        ({"listening": False}, "not_listening"),
        ({"notify_queue_usage": 0.5}, "notifications_pile_up"),
        ({"idle_slots": (IdleSlot("old", 2 << 30),)}, "slot_idle"),
        ({"horizon": (HorizonHolder("transaction", "7", 3, age_s=100.0),)}, "horizon_held"),
        ({"horizon": (HorizonHolder("replication slot", "s", 200_000),)}, "horizon_held"),
        ({"uses": (ConnectionUse("app", "u", 95, ours=False),)}, "connections_nearly_used_up"),
    ],
)
def test_a_server_is_told_what_is_wrong(changes, code):
    assert of_server(**changes) == [code]


def test_short_transactions_and_small_slots_are_fine():
    assert (
        of_server(horizon=(HorizonHolder("transaction", "7", 1000, age_s=5.0),), idle_slots=(IdleSlot("s", MB),)) == []
    )


def test_a_server_that_is_too_small_for_the_plan_is_told_once():
    small = replace(SERVER, limits=ServerLimits(30, 3), uses=(ConnectionUse("app", "u", 29, ours=False),))
    assert codes(Checkup("pg", server=small), need=NEED) == ["connections_short"]


def test_others_may_leave_too_few_connections():
    busy = replace(
        SERVER, uses=(ConnectionUse("app", "u", 60, ours=False), ConnectionUse("soniqd", "u", 20, ours=True))
    )
    assert codes(Checkup("pg", server=busy), need=NEED) == ["connections_tight"]
    assert codes(Checkup("pg", server=busy)) == []


def test_behind_a_pooler_connections_are_not_judged():
    pooled = replace(SERVER, pooled=True, limits=None, uses=(ConnectionUse("app", "u", 500, ours=False),))
    assert codes(Checkup("pg", server=pooled), need=NEED) == []


def test_dead_rows_are_autovacuums_until_they_are_far_too_many():
    assert of_table(dead_rows=49_000) == []
    assert of_table(dead_rows=51_000) == ["vacuum_behind"]
    assert of_table(dead_rows=51_000, vacuum_at=20_000) == []
    assert of_table(autovacuum=False, dead_rows=51_000) == ["table_autovacuum_off"]


def test_bloat_is_what_is_large_and_mostly_empty():
    assert of_table(bytes=60 * MB) == []
    assert of_table(bytes=200 * MB, wanted_bytes=100 * MB) == []
    assert of_table(bytes=200 * MB) == ["table_bloated"]
    assert of_table(bytes=200 * MB, wanted_bytes=None) == []
    assert of_index(bytes=200 * MB) == ["index_bloated"]


def test_space_that_dead_rows_take_is_no_bloat_yet():
    assert of_table(dead_rows=51_000, bytes=200 * MB) == ["vacuum_behind"]


def test_who_holds_the_horizon_is_named_sooner_where_vacuum_is_behind():
    server = replace(SERVER, horizon=(HorizonHolder("transaction", "7", 3, age_s=10.0),))
    assert codes(Checkup("pg", tables=(TABLE,), server=server)) == []
    behind = replace(TABLE, dead_rows=51_000)
    assert codes(Checkup("pg", tables=(behind,), server=server)) == ["horizon_held", "vacuum_behind"]


def test_an_index_that_is_not_valid_is_told_whoever_made_it():
    assert of_index(valid=False) == ["index_invalid"]
    assert of_index(valid=False, ours=False) == ["index_invalid"]


def test_only_strangers_indexes_that_serve_nobody_are_unused():
    assert of_index(ours=False, written=20_000) == ["index_unused"]
    assert of_index(ours=False, written=20_000, unique=True) == []
    assert of_index(ours=False, written=20_000, scans=1) == []
    assert of_index(ours=False, written=10) == []
    assert of_index(written=20_000) == []


def test_the_schema_is_compared():
    missing = MissingIndex("i", "t", "CREATE INDEX i ON t (c);")
    assert codes(Checkup("pg", pending=("1001_hot_table",), missing=(missing,))) == [
        "migrations_pending",
        "index_missing",
    ]


def test_a_clock_is_off_only_by_more_than_a_round_trip_explains():
    assert codes(Checkup("pg", clock_ahead_s=-3.0, round_trip_s=0.1)) == ["clock_off"]
    assert codes(Checkup("pg", clock_ahead_s=3.0, round_trip_s=2.0)) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"corruption": ("row 3 missing",)}, "file_corrupt"),
        ({"corruption": None}, "check_unfinished"),
        ({"on_network": True, "file_system": "nfs4"}, "file_on_network"),
        ({"journal_mode": "delete"}, "file_not_wal"),
        ({"disk_free_bytes": MB}, "disk_full"),
        ({"wal_bytes": 500 * MB}, "wal_large"),
        ({"bytes": 100 * MB, "free_bytes": 90 * MB}, "file_mostly_free"),
        ({"wakes": False}, "not_woken"),
    ],
)
def test_a_file_is_told_what_is_wrong(changes, code):
    assert of_file(**changes) == [code]


def test_problems_come_before_warnings():
    assert of_server(listening=False, autovacuum=False) == ["autovacuum_off", "not_listening"]
