from __future__ import annotations

import pytest

from soniqd.queue.context import Snooze


@pytest.mark.parametrize("seconds", [0, 1, 2.5])
def test_a_snooze_takes_any_number_from_zero(seconds):
    assert Snooze(seconds).seconds == seconds


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_snooze_of_no_duration_is_refused(seconds):
    with pytest.raises(ValueError, match="cannot snooze"):
        Snooze(seconds)


@pytest.mark.parametrize("seconds", ["5", None, True])
def test_a_snooze_of_no_number_is_refused(seconds):
    with pytest.raises(TypeError, match="cannot snooze"):
        Snooze(seconds)
