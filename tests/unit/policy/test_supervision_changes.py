"""Rolling restarts, scaling, recycling and the budget of connections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soniqd.model.child import ExitCause, GroupPlan, Recycling, Slot
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.recycling import RETRY_S
from tests.support.supervision_script import CLEAN, CLOCK, KILLED, MAIL, ONE, Script, running

IMAGES = replace(MAIL, name="images")
RESTART = ev.Restart(7, ("mail",))


def restarted(script: Script) -> list[fx.RestartEnded]:
    return [effect for effect in script.seen if isinstance(effect, fx.RestartEnded)]


def test_a_restart_replaces_a_groups_children_one_after_the_other_by_the_same_generation():
    script = running(CLOCK, MAIL)
    script.tell(RESTART, after=1)
    assert (script.slots, script.drains) == ([("mail/1", 1)], [])
    script.start("w4")
    assert (script.drains, script.slots) == (["w2"], [("mail/2", 1)])
    script.start("w5")
    assert script.drains == ["w3"]
    assert restarted(script) == [fx.RestartEnded(7, 2, None)]


def test_a_restart_of_an_unknown_group_is_refused():
    script = running(MAIL)
    script.tell(ev.Restart(7, ("mail", "nobody")))
    assert restarted(script) == [fx.RestartEnded(7, 0, "there is no group nobody")]
    assert script.forks == []


def test_a_restart_ends_with_an_error_when_a_replacement_fails_and_the_old_child_stays():
    script = running(MAIL)
    script.tell(RESTART)
    script.tell(ev.Exited("w3", ExitCause(code=1)))
    assert restarted(script) == [fx.RestartEnded(7, 0, "mail/1 ended with exit code 1 before it was ready")]
    assert (script.drains, script.forks) == ([], [])


def test_a_restart_starts_what_waits_for_its_next_try_at_once():
    script = running(ONE)
    script.tell(ev.Exited("w1", ExitCause(code=78)))
    script.tell(RESTART, after=100)
    assert script.slots == [("mail/1", 1)]
    script.start("w2")
    assert restarted(script) == [fx.RestartEnded(7, 1, None)]
    assert not script.machine.roster.places[Slot("mail/1")].misconfigured


def test_a_restart_of_what_cannot_start_says_so_and_leaves_it_to_its_next_try():
    script = running(ONE)
    script.tell(ev.Exited("w1", KILLED), ev.Exited("w2", KILLED))
    script.tell(RESTART)
    script.tell(ev.Exited("w3", ExitCause(code=1)))
    assert script.restart_errors == ["mail/1 ended with exit code 1 before it was ready"]
    assert script.forks == []
    script.wait(1)
    assert script.slots == [("mail/1", 1)]


def test_a_place_that_a_restart_fills_is_not_filled_a_second_time_when_its_next_try_is_due():
    script = running(ONE)
    script.tell(ev.Exited("w1", KILLED), ev.Exited("w2", KILLED))
    script.tell(RESTART)
    assert script.slots == [("mail/1", 1)]
    script.wait(30)
    assert script.forks == []


def test_nothing_is_recycled_while_another_group_is_restarted():
    limits = Recycling(max_jobs=10)
    script = running(ONE, replace(IMAGES, recycling=limits))
    script.tell(RESTART, after=1)
    script.tell(ev.Measured({"w2": ev.Usage(20, 0)}))
    assert script.forks == []
    script.start("w4")
    assert script.slots == [("images/1", 1)]


def test_a_recycling_under_way_gives_way_to_a_restart_of_its_place():
    script = running(replace(ONE, recycling=Recycling(max_jobs=10)))
    script.tell(ev.Measured({"w1": ev.Usage(20, 0)}))
    script.tell(ev.Forked("w2", 102))
    script.tell(RESTART, after=1)
    assert (script.drains, script.slots) == (["w2"], [("mail/1", 1)])


def test_restarts_are_carried_out_one_after_the_other():
    script = running(ONE, replace(IMAGES, processes=1))
    script.tell(RESTART, ev.Restart(8, ("images",)))
    assert script.slots == [("mail/1", 1)]
    script.start("w3")
    assert [ended.request for ended in restarted(script)] == [7]
    assert script.slots == [("images/1", 1)]
    script.start("w4")
    assert [ended.request for ended in restarted(script)] == [8]


def test_a_restart_waits_for_a_reload_that_replaces_children():
    script = running(ONE)
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    script.tell(RESTART, after=1)
    assert script.forks == []
    script.start("w2")
    assert script.slots == [("mail/1", 2)]
    script.start("w3")
    assert restarted(script) == [fx.RestartEnded(7, 1, None)]


def test_a_restart_goes_on_while_a_reload_imports_and_after_it_has_failed():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)), RESTART)
    assert script.slots == [("mail/1", 1)]
    script.tell(ev.BootFailed(2, "SyntaxError", fixable=True))
    script.start("w3")
    assert (script.drains, script.slots) == (["w1"], [("mail/2", 1)])


def test_a_reload_that_has_booted_sends_a_restarts_successor_away_and_does_its_work():
    script = running(ONE)
    script.tell(RESTART, after=1)
    script.tell(ev.Forked("w2", 102), ev.Reported("w2"))
    script.tell(ev.Reload((ONE,)))
    script.tell(ev.Booted(2), after=1)
    assert (script.drains, script.slots) == (["w2"], [("mail/1", 2)])
    script.start("w3")
    assert restarted(script) == [fx.RestartEnded(7, 0, None)]


def test_a_restart_ends_with_the_fork_server_that_cannot_boot_again():
    script = running(ONE)
    script.tell(ev.ForkServerLost(1, KILLED), RESTART)
    assert restarted(script) == []
    script.tell(ev.BootFailed(1, "SyntaxError", fixable=True))
    assert script.restart_errors == ["generation 1 cannot boot: SyntaxError"]


def test_stop_ends_restarts_and_none_begins_after_it():
    script = running(ONE)
    script.tell(RESTART, ev.Stop())
    assert script.restart_errors == ["the daemon stops"]
    script.tell(RESTART)
    assert script.restart_errors == ["the daemon is stopping"]


def test_scaling_up_starts_children_and_scaling_down_drains_the_last_ones():
    script = running(ONE)
    script.tell(ev.Scale("mail", 3))
    assert script.slots == [("mail/2", 1), ("mail/3", 1)]
    script.start("w2", "w3")
    script.tell(ev.Scale("mail", 1))
    assert script.drains == ["w2", "w3"]


def numbers(script: Script) -> list[int]:
    return [group.processes for group in script.machine.roster.plan]


@pytest.mark.parametrize(
    ("reload", "expected"),
    [
        (ev.Reload((ONE,)), 3),
        (ev.Reload((ONE,), everything=True), 3),
        (ev.Reload((ONE,), unscale=True), 1),
        (ev.Reload((MAIL,)), 2),
    ],
    ids=["same number", "everything", "unscaled", "another number"],
)
def test_a_scaled_number_holds_until_a_reload_says_another_one_than_before(reload, expected):
    script = running(ONE)
    script.tell(ev.Scale("mail", 3))
    script.start("w2", "w3")
    script.tell(reload, ev.Booted(2))
    while script.forks:
        script.start(*script.forks)
    assert numbers(script) == [expected]
    assert len(script.machine.roster.places) == expected


def test_a_reload_that_fails_leaves_a_scaled_number_in_force():
    script = running(ONE)
    script.tell(ev.Scale("mail", 3))
    script.tell(ev.Reload((MAIL,)), ev.BootFailed(2, "SyntaxError", fixable=True))
    assert numbers(script) == [3]


def test_scaling_while_a_reload_imports_holds_at_once_and_after_it():
    script = running(ONE)
    script.tell(ev.Reload((MAIL,)), ev.Scale("mail", 3))
    assert script.slots == [("mail/2", 1), ("mail/3", 1)]
    script.tell(ev.Booted(2))
    while script.forks:
        script.start(*script.forks)
    assert (script.reload_errors, numbers(script)) == ([None], [3])


@pytest.mark.parametrize("succeeds", [True, False])
def test_scaling_while_a_reload_replaces_children_comes_with_its_end_whichever_that_is(succeeds):
    script = running(ONE)
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    script.tell(ev.Scale("mail", 2))
    assert script.forks == []
    if succeeds:
        script.start("w2")
    else:
        script.tell(ev.Exited("w2", KILLED))
    assert script.slots == [("mail/2", 2 if succeeds else 1)]


def recycled(**limits: float) -> GroupPlan:
    return replace(MAIL, processes=3, recycling=Recycling(**limits))  # type: ignore[arg-type]


def test_a_child_that_has_run_enough_jobs_is_replaced_replacement_first():
    script = running(recycled(max_jobs=100))
    script.tell(ev.Measured({"w2": ev.Usage(90, 9)}))
    assert script.forks == []
    script.tell(ev.Measured({"w2": ev.Usage(91, 9)}))
    assert (script.slots, script.drains) == ([("mail/2", 1)], [])
    assert "child_recycled" in script.reports
    script.start("w4")
    assert script.drains == ["w2"]


def test_a_child_whose_own_memory_has_grown_is_replaced_and_one_not_measured_is_not():
    script = running(recycled(max_memory_bytes=1000))
    script.tell(ev.Measured({"w1": ev.Usage(1, 0, None), "w2": ev.Usage(1, 0, 999)}))
    assert script.forks == []
    script.tell(ev.Measured({"w2": ev.Usage(1, 0, 1000)}))
    assert script.slots == [("mail/2", 1)]


def test_memory_that_a_child_holds_before_its_first_job_is_no_reason_to_replace_it():
    script = running(recycled(max_memory_bytes=1000))
    script.tell(ev.Measured({"w2": ev.Usage(0, 0, 5000)}))
    assert script.forks == []
    script.tell(ev.Measured({"w2": ev.Usage(0, 1, 5000)}))
    assert script.slots == [("mail/2", 1)]


def test_an_old_child_is_replaced_when_its_time_has_come_without_any_other_event():
    script = running(recycled(max_age_s=60))
    assert script.machine.next_deadline_s() == script.now + 60
    script.wait(60)
    assert script.slots == [("mail/1", 1)]


def test_a_group_is_recycled_one_child_at_a_time_the_next_when_the_last_has_left():
    script = running(recycled(max_jobs=10))
    script.tell(ev.Measured({worker: ev.Usage(20, 0) for worker in ("w1", "w2", "w3")}))
    assert script.slots == [("mail/1", 1)]
    script.start("w4")
    assert (script.drains, script.forks) == (["w1"], [])
    script.tell(ev.Exited("w1", CLEAN), after=5)
    assert script.slots == [("mail/2", 1)]


def test_groups_are_recycled_beside_each_other():
    limits = Recycling(max_jobs=10)
    script = running(replace(ONE, recycling=limits), replace(IMAGES, recycling=limits))
    script.tell(ev.Measured({worker: ev.Usage(20, 0) for worker in ("w1", "w2", "w3")}))
    assert script.slots == [("mail/1", 1), ("images/1", 1)]


def test_nothing_is_recycled_during_a_reload_or_a_restart_but_after_it():
    script = running(recycled(max_jobs=10))
    script.tell(ev.Reload((recycled(max_jobs=10),)), ev.Booted(2))
    script.tell(ev.Measured({"w3": ev.Usage(20, 0)}))
    assert script.forks == []
    script.tell(ev.Exited("w4", KILLED))
    assert script.slots == [("mail/3", 1)]


def test_a_recycling_under_way_gives_way_to_a_reload():
    script = running(recycled(max_jobs=10))
    script.tell(ev.Measured({"w3": ev.Usage(20, 0)}))
    script.tell(ev.Forked("w4", 104), ev.Reported("w4"))
    script.tell(ev.Reload((recycled(max_jobs=10),)), ev.Booted(2))
    assert (script.drains, script.slots) == (["w4"], [("mail/1", 2)])


def test_a_replacement_that_fails_leaves_the_old_child_at_work_and_is_tried_again_later():
    script = running(recycled(max_jobs=10))
    script.tell(ev.Measured({"w3": ev.Usage(20, 0)}))
    script.tell(ev.Exited("w4", ExitCause(code=1)))
    assert (script.forks, script.drains) == ([], [])
    assert script.machine.next_deadline_s() == script.now + RETRY_S
    script.wait(RETRY_S)
    assert script.slots == [("mail/3", 1)]


def budgeted(bound: int | None) -> Script:
    script = Script(replace(MAIL, processes=3, connections=5))
    script.tell(ev.Budgeted(bound), ev.Booted(1))
    return script


def test_no_child_is_started_above_the_budget_and_that_is_said_once():
    script = budgeted(14)
    assert len(script.forks) == 2
    assert script.reports == ["connections_exhausted"]
    script.start("w1", "w2")
    script.wait(60)
    assert (script.forks, script.reports) == ([], [])
    script.tell(ev.Budgeted(15))
    assert script.slots == [("mail/3", 1)]


def test_a_dead_childs_connections_are_free_for_its_replacement():
    script = budgeted(15)
    script.start("w1", "w2", "w3")
    script.tell(ev.Exited("w1", KILLED))
    assert script.slots == [("mail/1", 1)]


def test_a_restart_waits_until_each_old_child_has_left_where_the_budget_has_room_for_one_more():
    script = budgeted(20)
    script.start("w1", "w2", "w3")
    script.tell(RESTART, after=1)
    script.start("w4")
    assert (script.drains, script.forks) == (["w1"], [])
    script.tell(ev.Exited("w1", CLEAN), after=10)
    assert script.slots == [("mail/2", 1)]


def test_a_restart_without_room_for_an_overlap_fails_with_the_numbers():
    script = budgeted(15)
    script.start("w1", "w2", "w3")
    script.tell(RESTART, after=1)
    assert script.restart_errors == [
        "a new child of mail needs 5 database connections beside the 15 in use, of 15 that there may be"
    ]


def test_children_without_connections_need_no_budget():
    script = Script(MAIL)
    script.tell(ev.Budgeted(0), ev.Booted(1))
    assert len(script.forks) == 2


def test_a_crash_looping_group_does_not_hold_up_the_starts_and_restarts_of_another():
    script = running(ONE, replace(IMAGES, processes=1))
    worker = "w1"
    for _ in range(8):
        script.tell(ev.Exited(worker, KILLED))
        while not script.forks:
            deadline_s = script.machine.next_deadline_s()
            assert deadline_s is not None
            script.wait(deadline_s - script.now)
        worker = script.forks[0]
    script.tell(ev.Exited(worker, KILLED))
    script.tell(ev.Exited("w2", KILLED))
    assert script.slots == [("images/1", 1)]
    script.start(*script.forks)
    script.tell(ev.Restart(7, ("images",)), after=1)
    script.start(*script.forks)
    assert restarted(script) == [fx.RestartEnded(7, 1, None)]
