import re
from pathlib import Path

import pytest

import soniqd.backends.postgres
from soniqd.backends.postgres.statements import SQL, load_statements

_SOURCES = "\n".join(path.read_text() for path in Path(soniqd.backends.postgres.__file__).parent.glob("*.py"))
# SQL["name"], or a name handed to a helper that looks it up.
_USED = set(re.findall(r'(?:SQL\[|_prune\(|_ask\(|_run\([^"()]*)"(\w+)"', _SOURCES))


def test_every_statement_is_used():
    assert set(SQL) - _USED == set()


def test_every_statement_that_is_used_exists():
    assert _USED - set(SQL) == set()


@pytest.mark.parametrize(
    "name",
    [
        "enqueue_now",
        "enqueue_later",
        "enqueue_many",
        "claim",
        "promote_due",
        "complete_done",
        "complete_mixed",
        "heartbeat",
    ],
)
def test_a_hot_statement_is_short_enough_for_psycopgs_cache_of_conversions(name):
    assert len(SQL[name].text) <= 4096


@pytest.mark.parametrize("name", SQL)
def test_a_purpose_completes_the_words_cannot(name):
    assert re.fullmatch(r"[a-z][^.]+", SQL[name].purpose)


def test_two_statements_of_one_name_are_refused(tmp_path):
    for file in ("a.sql", "b.sql"):
        (tmp_path / file).write_text("-- name: same\n-- do it\nSELECT 1;\n")
    with pytest.raises(ValueError, match="a second statement is named same"):
        load_statements(tmp_path)


def test_comments_and_indentation_are_not_sent(tmp_path):
    (tmp_path / "a.sql").write_text("-- name: one\n-- do it\n-- and why\nSELECT\n  -- inside\n  1;\n")
    assert load_statements(tmp_path)["one"].text == b"SELECT 1"
