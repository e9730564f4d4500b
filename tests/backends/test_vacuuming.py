"""The duty to remove dead rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from soniqd.backends.memory import MemoryBackend
from soniqd.backends.vacuuming import Vacuuming
from soniqd.errors import DatabaseError, DatabaseUnavailableError
from soniqd.model.wear import TableWear
from soniqd.policy.vacuuming import ENDED_FROM, LONGEST_REST_S, NOT_PERMITTED_REST_S

WORN = TableWear(
    live_rows=10, dead_rows=100_000, vacuums=0, vacuumed_ago_s=None, next_transaction=10_000, horizon=10_000
)


class Worn(MemoryBackend):
    def __init__(self) -> None:
        super().__init__()
        self.worn: TableWear | None = WORN
        self.error: Exception | None = None
        self.is_mine = True
        self.vacuums = 0

    async def wear(self) -> Any:
        return self.worn

    async def vacuum(self) -> bool:
        self.vacuums += 1
        if self.error is not None:
            raise self.error
        if self.is_mine:
            self.worn = replace(WORN, dead_rows=5, vacuums=1)
        return self.is_mine


@pytest.fixture
def worn() -> Worn:
    return Worn()


@pytest.fixture
def duty(worn) -> Vacuuming:
    return Vacuuming(worn, ended=lambda: ENDED_FROM)


class Clock:
    now_s = 1000.0


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("soniqd.backends.vacuuming.time.monotonic", lambda: clock.now_s)
    return clock


@pytest.fixture
def told(caplog):
    caplog.set_level("DEBUG", logger="soniqd")
    return lambda: [record.event for record in caplog.records]


async def test_a_worn_table_is_vacuumed_once(worn, duty, told):
    assert duty.wants_look
    await duty.look()
    await duty.look()
    assert worn.vacuums == 1
    assert not duty.wants_look
    assert told() == ["vacuumed"]


async def test_a_backend_without_dead_rows_is_asked_once():
    duty = Vacuuming(MemoryBackend(), ended=lambda: ENDED_FROM)
    assert duty.wants_look
    await duty.look()
    assert not duty.wants_look


async def test_a_role_that_may_not_is_told_once_and_looks_seldom_until_it_may(worn, told, clock):
    duty: Any = Vacuuming(worn, ended=lambda: round(clock.now_s) * ENDED_FROM)
    worn.worn = replace(WORN, may_vacuum=False)
    for _ in range(2):
        assert duty.wants_look
        await duty.look()
        clock.now_s += NOT_PERMITTED_REST_S - 1
        assert not duty.wants_look
        clock.now_s += 1
    assert worn.vacuums == 0
    assert told() == ["vacuum_not_permitted"]
    worn.worn = WORN
    assert duty.wants_look
    await duty.look()
    assert told() == ["vacuum_not_permitted", "vacuumed"]


async def test_a_permission_that_is_withdrawn_is_told_anew(worn, duty, told, clock):
    worn.worn = replace(WORN, may_vacuum=False)
    await duty.look()
    clock.now_s += NOT_PERMITTED_REST_S
    worn.worn = WORN
    await duty.look()
    clock.now_s += LONGEST_REST_S
    worn.worn = replace(WORN, vacuums=1, may_vacuum=False, next_transaction=20_000, horizon=20_000)
    await duty.look()
    assert told() == ["vacuum_not_permitted", "vacuumed", "vacuum_not_permitted"]


async def test_what_somebody_else_is_at_is_left_to_them(worn, duty, told):
    worn.is_mine = False
    await duty.look()
    await duty.look()
    assert worn.vacuums == 1
    assert told() == []


async def test_a_failure_is_told_once_and_fails_nothing_else(worn, duty, told, clock):
    worn.error = DatabaseError("no space")
    await duty.look()
    clock.now_s += LONGEST_REST_S
    await duty.look()
    assert worn.vacuums == 2
    assert told() == ["vacuum_failed"]


async def test_a_database_that_goes_away_meanwhile_is_the_callers_to_tell(worn, duty, told):
    worn.error = DatabaseUnavailableError("away")
    with pytest.raises(DatabaseUnavailableError):
        await duty.look()
    await duty.look()
    assert worn.vacuums == 1, "not again at once"
    assert told() == []


async def test_a_look_that_fails_is_the_callers_to_tell(worn, duty, monkeypatch):
    async def wear() -> None:
        raise DatabaseUnavailableError("away")

    monkeypatch.setattr(worn, "wear", wear)
    with pytest.raises(DatabaseUnavailableError):
        await duty.look()
