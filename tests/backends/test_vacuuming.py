"""The duty to remove dead rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from soniqd.backends.memory import MemoryBackend
from soniqd.backends.vacuuming import Vacuuming
from soniqd.errors import DatabaseError, DatabaseUnavailableError
from soniqd.model.wear import TableWear
from soniqd.policy.vacuuming import ENDED_FROM

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


async def test_a_role_that_may_not_is_told_once_and_asks_no_more(worn, duty, told):
    worn.worn = replace(WORN, may_vacuum=False)
    await duty.look()
    assert not duty.wants_look
    assert worn.vacuums == 0
    assert told() == ["vacuum_not_permitted"]


async def test_what_somebody_else_is_at_is_left_to_them(worn, duty, told):
    worn.is_mine = False
    await duty.look()
    await duty.look()
    assert worn.vacuums == 1
    assert told() == []


@pytest.mark.parametrize(
    ("error", "events"), [(DatabaseError("no space"), ["vacuum_failed"]), (DatabaseUnavailableError("away"), [])]
)
async def test_a_failure_is_told_once_and_fails_nothing_else(worn, duty, told, monkeypatch, error, events):
    monkeypatch.setattr("soniqd.policy.vacuuming.LONG_REST_S", 0.0)
    worn.error = error
    await duty.look()
    await duty.look()
    assert worn.vacuums == 2
    assert told() == events


async def test_a_look_that_fails_is_the_callers_to_tell(worn, duty, monkeypatch):
    async def wear() -> None:
        raise DatabaseUnavailableError("away")

    monkeypatch.setattr(worn, "wear", wear)
    with pytest.raises(DatabaseUnavailableError):
        await duty.look()
