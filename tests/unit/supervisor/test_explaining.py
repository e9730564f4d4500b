"""What operators are told beside the machine's reason, in the machine's own words for it."""

from __future__ import annotations

import pytest

from soniqd.supervisor.explaining import explained


def test_a_child_that_waits_for_the_database_is_not_to_blame() -> None:
    found = explained("default/1 was not ready after 60 s", database_error="cannot connect: refused")
    assert found == "default/1 was not ready after 60 s: the database is down: cannot connect: refused"


def test_failing_jobs_are_told_with_where_their_errors_are() -> None:
    found = explained("3 of 7 jobs failed in new children of mail", database_error=None)
    assert found == (
        "3 of 7 jobs failed in new children of mail; their errors are in soniqd's log, those without another attempt "
        "in soniqctl dead-letter list"
    )


@pytest.mark.parametrize(
    ("reason", "database_error"),
    [("default/1 was not ready after 60 s", None), ("cannot import shop", "cannot connect: refused")],
)
def test_everything_else_is_as_the_machine_says(reason: str, database_error: str | None) -> None:
    assert explained(reason, database_error=database_error) == reason
