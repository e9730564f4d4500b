import logging

import pytest

from soniqd.errors import DatabaseError, DatabaseUnavailableError, SchemaError
from soniqd.roles import storage
from soniqd.roles.storage import open_patiently


class Flaky:
    """A backend whose opening fails in a given way before it succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.opened = 0

    async def open(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.opened += 1

    async def check_schema(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(storage, "_FIRST_PAUSE_S", 0.0)


@pytest.fixture
def events(caplog):
    """Names of the events logged so far."""
    caplog.set_level(logging.INFO, logger="soniqd")
    logging.getLogger("soniqd").propagate = True
    return lambda: [record.event for record in caplog.records]


async def test_a_database_that_comes_back_is_opened_and_its_absence_told_once(events):
    waits: list[int] = []
    backend = Flaky(*[DatabaseUnavailableError("away, password=hunter2")] * 4)
    await open_patiently(backend, slot="default/1", on_waiting=lambda: waits.append(1))  # type: ignore[arg-type]
    assert (backend.opened, len(waits)) == (1, 4)
    assert events() == ["database_awaited"]


async def test_a_missing_schema_is_told_apart_from_a_missing_database(events, caplog):
    backend = Flaky(DatabaseUnavailableError("away"), SchemaError("run soniqctl setup"), SchemaError("still"))
    await open_patiently(backend, slot="default/1", on_waiting=lambda: None)  # type: ignore[arg-type]
    assert events() == ["database_awaited", "schema_unusable"]
    assert "soniqctl setup" in caplog.text


async def test_a_database_that_cannot_be_used_is_waited_for_until_somebody_has_repaired_it(events):
    backend = Flaky(*[DatabaseError("it is not an SQLite database")] * 3)
    await open_patiently(backend, slot="default/1", on_waiting=lambda: None)  # type: ignore[arg-type]
    assert backend.opened == 1
    assert events() == ["database_awaited"]


async def test_any_other_error_is_not_waited_out():
    with pytest.raises(RuntimeError):
        await open_patiently(Flaky(RuntimeError("bug")), slot="default/1", on_waiting=lambda: None)  # type: ignore[arg-type]
