from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soniqd.settings.durations import format_duration, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5s", 1.5),
        ("7", 7),
        (3, 3),
        (0.25, 0.25),
    ],
)
def test_what_is_a_duration(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "s", "-1s", -1, "1w", "1 s 2", True, None, [], float("nan"), float("inf"), 10**400, -(10**400), "9" * 400],
)
def test_what_is_none(value):
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration_s(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (30.0, "30s"), (90.0, "90s"), (300.0, "5m"), (86400.0, "1d"), (1.5, "1500ms")],
)
def test_how_a_duration_is_written(seconds, text):
    assert format_duration(seconds) == text


@given(st.floats(min_value=0.001, max_value=1e9))
def test_a_written_duration_is_read_as_what_it_was(seconds):
    assert parse_duration_s(format_duration(seconds)) == pytest.approx(seconds)
