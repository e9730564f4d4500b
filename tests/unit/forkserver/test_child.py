from __future__ import annotations

import gc

import pytest

from soniqd.forkserver.child import collect_garbage_seldom


@pytest.fixture(autouse=True)
def _as_before():
    enabled, threshold = gc.isenabled(), gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("usual", [(700, 10, 10), (2000, 10, 10)])
def test_a_child_collects_garbage_less_often_than_usual(usual):
    gc.disable()
    gc.set_threshold(*usual)
    collect_garbage_seldom()
    assert gc.isenabled()
    assert gc.get_threshold()[0] == 10_000
    assert gc.get_threshold()[1] == usual[1]


@pytest.mark.parametrize("chosen", [(0, 10, 10), (50_000, 20, 20), (100, 5, 5)])
def test_what_the_application_has_chosen_stays(chosen):
    gc.set_threshold(*chosen)
    collect_garbage_seldom()
    assert gc.get_threshold()[:2] == chosen[:2]
