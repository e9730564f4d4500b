"""What an SQLite file shows of its health."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from soniqd.backends.sqlite import SQLiteBackend, checkup
from soniqd.backends.sqlite.checkup import file_system_of
from soniqd.errors import DatabaseError
from soniqd.policy.doctor import examine
from tests.support.jobs import new_job

MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share rw shared:2 - nfs4 server:/export rw
31 22 0:41 / /mnt/my\\040disk rw - xfs /dev/sdb1 rw
"""


@pytest.fixture
async def path(tmp_path):
    backend = SQLiteBackend(tmp_path / "jobs.db")
    await backend.setup()
    await backend.enqueue([new_job()])
    await backend.close()
    return tmp_path / "jobs.db"


async def look(path: Path):
    backend = SQLiteBackend(path)
    try:
        return await backend.checkup()
    finally:
        await backend.close()


def found(facts) -> set[str]:
    return {finding.code for finding in examine(facts)}


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_a_file_of_ours_is_well(path):
    facts = await look(path)
    assert found(facts) == set()
    assert facts.file is not None
    assert facts.file.corruption == ()
    assert facts.missing == ()
    assert [index.name for index in facts.indexes if not index.ours] == []
    assert {table.name: table.rows for table in facts.tables}["soniq_jobs"] == 1


async def test_it_leaves_the_journal_mode_as_it_is(path):
    change(path, "PRAGMA journal_mode = DELETE")
    before = path.read_bytes()
    assert found(await look(path)) == {"file_not_wal"}
    assert path.read_bytes() == before


async def test_a_dropped_index_is_missed_and_its_statement_makes_it_again(path):
    change(path, "DROP INDEX soniq_jobs_held")
    [missing] = (await look(path)).missing
    assert missing.name == "soniq_jobs_held"
    change(path, missing.definition)
    assert (await look(path)).missing == ()


async def test_a_file_without_tables_lacks_migrations(tmp_path):
    change(tmp_path / "other.db", "CREATE TABLE other (id)")
    assert "migrations_pending" in found(await look(tmp_path / "other.db"))


async def test_damage_is_found(path):
    change(
        path,
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET rootpage = 2 WHERE name = 'soniq_jobs_claim'",
    )
    facts = await look(path)
    assert facts.file is not None
    assert facts.file.corruption
    assert "file_corrupt" in found(facts)


async def test_a_check_that_takes_too_long_is_given_up(path, monkeypatch):
    monkeypatch.setattr(checkup, "CHECK_TIMEOUT_S", -1.0)
    monkeypatch.setattr(checkup, "_STEPS", 1)
    facts = await look(path)
    assert facts.file is not None
    assert facts.file.corruption is None
    assert "check_unfinished" in found(facts)


async def test_what_is_no_database_is_refused_in_one_line(tmp_path):
    (tmp_path / "jobs.db").write_bytes(b"not a database at all, and long enough to be one" * 100)
    with pytest.raises(DatabaseError, match=r"cannot look at the SQLite database .*: file is not a database"):
        await look(tmp_path / "jobs.db")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/jobs.db", "ext4"),
        ("/mnt/share/jobs.db", "nfs4"),
        ("/mnt/sharepoint/jobs.db", "ext4"),
        ("/mnt/my disk/jobs.db", "xfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path, kind):
    assert file_system_of(Path(path), MOUNTS) == kind


def test_an_unknown_system_has_an_unknown_file_system():
    assert file_system_of(Path("/jobs.db"), "") == "unknown"
