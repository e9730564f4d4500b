import pytest

from soniqd.policy.supervision.life import NOW_GRACE_S
from soniqd.roles.child import _NOW
from soniqd.roles.graces import Graces


@pytest.mark.parametrize("timeout_s", [1.0, 5.0, 120.0])
def test_each_step_ends_before_the_one_that_would_cut_it_short(timeout_s):
    graces = Graces.within(timeout_s)
    assert 0 < graces.cancel_s + graces.write_s < graces.leave_s < graces.end_s < timeout_s


def test_leaving_now_is_over_before_the_master_kills():
    assert _NOW.end_s < NOW_GRACE_S
