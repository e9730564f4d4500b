"""Reloads: canaries, probation, what is affected, and every way back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soniqd.model.child import ExitCause, GroupPlan, Recycling, Slot
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.life import ABORT_GRACE_S, READY_TIMEOUT_S
from soniqd.policy.supervision.rollback import MAX_TRIES
from tests.support.supervision_script import CLEAN, CLOCK, KILLED, MAIL, ONE, Script, running

IMAGES = replace(MAIL, name="images")


def reloading(*plan: GroupPlan, probation_s: float = 10.0, code: str = "new", new_plan=None) -> Script:
    """A script whose reload has just booted; its children run code "old"."""
    script = Script(*plan)
    script.tell(ev.Booted(1, "old"))
    script.start(*script.forks)
    script.tell(ev.Reload(plan if new_plan is None else new_plan, probation_s=probation_s))
    script.tell(ev.Booted(2, code))
    return script


def kept(script: Script) -> list[int]:
    return [effect.kept for effect in script.seen if isinstance(effect, fx.ReloadEnded)]


def test_each_affected_group_gets_one_canary_beside_its_first_place_the_scheduler_too():
    script = reloading(CLOCK, MAIL, IMAGES)
    assert script.slots == [("scheduler/1", 2), ("mail/1", 2), ("images/1", 2)]
    assert script.drains == []


def test_a_canary_that_is_ready_works_beside_the_old_child_until_its_probation_is_over():
    script = reloading(ONE)
    script.start("w2")
    assert (script.drains, script.reload_errors) == ([], [])
    assert script.machine.next_deadline_s() == script.now + 10
    script.wait(9.9)
    assert script.drains == []
    script.wait(0.1)
    assert (script.drains, script.reload_errors) == (["w1"], [None])


def frozen_at_its_end(script: Script) -> None:
    """Let a canary be ready, tick for a while, and then no more; its probation is over with that."""
    script.start("w2")
    for tick in (*range(8), 7, 7):
        script.tell(ev.Ticks({"w2": tick}), after=1)


def test_a_canary_that_stands_still_when_its_probation_ends_passes_with_its_next_tick():
    script = reloading(ONE)
    frozen_at_its_end(script)
    assert (script.drains, script.reload_errors) == ([], [])
    script.tell(ev.Ticks({"w2": 8}), after=1)
    assert (script.drains, script.reload_errors) == (["w1"], [None])


def test_where_nothing_counts_as_hung_a_canary_that_stands_still_passes():
    script = reloading(replace(ONE, hang_timeout_s=0.0))
    frozen_at_its_end(script)
    assert (script.drains, script.reload_errors) == (["w1"], [None])


def test_no_old_child_leaves_before_the_canaries_of_all_groups_have_passed():
    script = reloading(MAIL, IMAGES)
    script.start("w5")
    script.wait(5)
    script.start("w6")
    script.wait(5)
    assert script.drains == []
    script.wait(5)
    assert script.drains == ["w1", "w3"]
    assert script.slots == [("mail/2", 2)]


def test_after_the_probation_the_other_places_follow_without_one():
    script = reloading(MAIL)
    script.start("w3")
    script.wait(10)
    assert (script.drains, script.slots) == (["w1"], [("mail/2", 2)])
    assert "canaries_passed" in script.reports
    script.start("w4")
    assert (script.drains, script.reload_errors, script.retired) == (["w2"], [None], [1])


@pytest.mark.parametrize("cause", [KILLED, CLEAN, ExitCause(code=78)], ids=str)
def test_a_canary_that_ends_during_its_probation_for_whatever_reason_fails_the_reload(cause):
    script = reloading(MAIL)
    script.start("w3")
    script.tell(ev.Exited("w3", cause), after=4)
    assert script.reload_errors == [f"mail/1 ended with {cause} 4 s after it was ready"]
    assert (script.drains, script.forks, script.retired) == ([], [], [2])
    assert not script.machine.roster.places[Slot("mail/1")].misconfigured


def test_a_failed_canary_sends_the_other_canaries_away():
    script = reloading(MAIL, IMAGES)
    script.start("w5", "w6")
    script.tell(ev.Exited("w5", KILLED), after=1)
    assert script.drains == ["w6"]
    assert script.machine.roster.generation == 1


def test_a_canary_that_hangs_fails_the_reload_before_it_is_dead():
    script = reloading(ONE, probation_s=100.0)
    script.start("w2")
    for number in range(62):
        script.tell(ev.Ticks({"w1": number, "w2": 1}), after=1)
        if script.kills:
            break
    assert script.kills == [("w2", "ABRT")]
    assert script.reload_errors == ["mail/1 hangs: its loop stood still for 61 s"]
    script.wait(ABORT_GRACE_S)
    script.tell(ev.Exited("w2", KILLED))
    assert script.releases == [("w2", "crash")]
    assert script.forks == []


def test_a_canary_that_cannot_be_forked_fails_the_reload_with_the_reason():
    script = reloading(ONE)
    script.tell(ev.ForkFailed("w2", "no memory"))
    assert script.reload_errors == ["mail/1 cannot be forked: no memory"]


def test_a_canary_that_never_gets_ready_fails_the_reload():
    script = reloading(ONE)
    script.tell(ev.Forked("w2", 102), ev.Reported("w2"))
    assert script.machine.next_deadline_s() == script.now + READY_TIMEOUT_S
    script.wait(READY_TIMEOUT_S)
    assert script.reload_errors == [f"mail/1 was not ready after {READY_TIMEOUT_S:g} s"]
    assert script.drains == ["w2"]


def test_the_old_child_is_replaced_from_the_old_generation_when_it_crashes_beside_the_canary():
    script = reloading(ONE)
    script.start("w2")
    script.tell(ev.Exited("w1", KILLED), after=1)
    assert script.slots == [("mail/1", 1)]
    script.start("w3")
    script.wait(10)
    assert (script.drains, script.reload_errors) == (["w3"], [None])


def test_a_new_child_that_crashes_after_its_place_was_taken_over_takes_everything_back():
    script = reloading(replace(MAIL, processes=3), probation_s=0)
    script.start("w4")
    script.start("w5")
    script.tell(ev.Exited("w4", KILLED), after=3)
    assert script.drains == []
    assert script.slots == [("mail/1", 1), ("mail/2", 1)]
    script.start("w7", "w8")
    assert script.drains == ["w5"]
    assert script.reload_errors == ["mail/1 ended with signal 9 (SIGKILL) 3 s after it was ready"]
    assert (script.retired, script.machine.roster.generation) == ([2], 1)


def test_a_disowned_canary_is_started_again_and_begins_its_probation_anew():
    script = reloading(ONE)
    script.start("w2")
    script.tell(ev.Disowned("w2"), after=9)
    assert (script.drains, script.slots) == (["w2"], [("mail/1", 2)])
    script.start("w3")
    script.tell(ev.Exited("w2", CLEAN), after=1)
    assert script.reload_errors == []
    script.wait(8)
    assert script.reload_errors == []
    script.wait(1)
    assert script.reload_errors == [None]


def test_a_jump_in_the_failure_rate_takes_everything_back():
    script = reloading(MAIL)
    script.tell(ev.Reload((MAIL,), probation_s=10, failure_jump=0.2), ev.Booted(3, "newer"))
    script.start("w4")
    script.tell(ev.Measured({"w1": ev.Usage(90, 10), "w4": ev.Usage(2, 2)}), after=1)
    assert script.reload_errors == []
    script.tell(ev.Measured({"w1": ev.Usage(95, 10), "w4": ev.Usage(4, 3)}), after=1)
    assert script.reload_errors == ["3 of 7 jobs failed in new children of mail"]
    assert script.drains == ["w4"]


def test_jobs_that_failed_in_another_group_are_not_held_against_the_new_children():
    script = Script(MAIL, IMAGES)
    script.tell(ev.Booted(1, "old"))
    script.start(*script.forks)
    script.tell(ev.Measured({"w1": ev.Usage(1, 9), "w3": ev.Usage(10, 0)}))
    script.tell(ev.Reload((MAIL, IMAGES), probation_s=10, failure_jump=0.2), ev.Booted(2, "new"))
    script.start("w5", "w6")
    script.tell(ev.Measured({"w5": ev.Usage(1, 9)}))
    assert script.reload_errors == []
    script.tell(ev.Measured({"w6": ev.Usage(5, 4)}))
    assert script.reload_errors == ["4 of 9 jobs failed in new children of images"]


def test_a_reload_without_any_change_keeps_every_child_and_takes_the_new_fork_server():
    script = reloading(CLOCK, MAIL, code="old")
    assert (script.forks, script.drains) == ([], [])
    assert (script.reload_errors, kept(script), script.retired) == ([None], [3], [1])
    script.tell(ev.Exited("w2", KILLED))
    assert script.slots == [("mail/1", 2)]


def test_code_without_a_fingerprint_equals_nothing():
    script = running(ONE)
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    assert script.slots == [("mail/1", 2)]


def test_only_a_group_whose_plan_changed_is_replaced():
    changed = replace(IMAGES, concurrency=9)
    script = reloading(CLOCK, MAIL, IMAGES, code="old", new_plan=(CLOCK, MAIL, changed), probation_s=0)
    assert script.slots == [("images/1", 2)]
    script.start("w6")
    script.start("w7")
    assert script.drains == ["w5"]
    assert (script.reload_errors, kept(script)) == ([None], [3])
    assert script.machine.roster.children["w7"].spec.concurrency == 9


def test_another_number_of_processes_starts_or_stops_children_and_keeps_the_others():
    script = reloading(MAIL, code="old", new_plan=(replace(MAIL, processes=3),))
    assert script.slots == [("mail/3", 2)]
    script.start("w3")
    assert (script.reload_errors, kept(script), script.drains) == ([None], [2], [])
    script.tell(ev.Reload((replace(MAIL, processes=1),)), ev.Booted(3, "old"))
    assert script.drains == ["w2", "w3"]


def test_everything_is_replaced_when_asked_for():
    script = Script(ONE)
    script.tell(ev.Booted(1, "old"))
    script.start("w1")
    script.tell(ev.Reload((ONE,), everything=True), ev.Booted(2, "old"))
    assert script.slots == [("mail/1", 2)]


def test_a_fork_server_that_came_back_with_other_code_does_not_hide_that_its_children_are_older():
    script = Script(ONE)
    script.tell(ev.Booted(1, "old"))
    script.start("w1")
    script.tell(ev.ForkServerLost(1, KILLED), ev.Booted(1, "new"))
    script.tell(ev.Reload((ONE,)), ev.Booted(2, "new"))
    assert script.slots == [("mail/1", 2)]


def test_a_crash_in_a_group_that_is_not_affected_is_answered_from_the_old_generation_and_harms_no_reload():
    changed = replace(IMAGES, concurrency=9)
    script = reloading(MAIL, IMAGES, code="old", new_plan=(MAIL, changed))
    script.tell(ev.Exited("w1", KILLED), after=1)
    assert script.slots == [("mail/1", 1)]
    assert script.machine.reloading


def test_a_new_group_has_a_canary_and_is_not_left_behind_when_it_fails():
    script = reloading(MAIL, code="old", new_plan=(MAIL, IMAGES))
    assert script.slots == [("images/1", 2)]
    script.tell(ev.Exited("w3", ExitCause(code=1)))
    assert script.reload_errors == ["images/1 ended with exit code 1 before it was ready"]
    assert list(script.machine.roster.places) == ["mail/1", "mail/2"]


def test_a_group_that_is_gone_serves_until_the_reload_has_succeeded():
    script = reloading(MAIL, IMAGES, new_plan=(MAIL,))
    script.start("w5")
    assert script.drains == []
    script.wait(10)
    assert script.drains == ["w1"]
    script.start("w6")
    assert script.drains == ["w2", "w3", "w4"]


def crash_looping_images(probation_s: float = 0.0) -> Script:
    script = running(MAIL, IMAGES)
    script.tell(ev.Exited("w3", ExitCause(code=78)), ev.Exited("w4", ExitCause(code=78)))
    script.tell(ev.Reload((MAIL, IMAGES), probation_s=probation_s), ev.Booted(2))
    return script


def test_a_group_that_was_down_before_does_not_keep_the_others_from_their_new_code():
    script = crash_looping_images()
    script.tell(ev.Exited("w6", ExitCause(code=1)))
    assert "group_still_down" in script.reports
    assert script.reload_errors == []
    script.start("w5")
    script.start("w7")
    assert (script.reload_errors, script.machine.roster.generation) == ([None], 2)
    assert script.slots == [("images/1", 2), ("images/2", 2)]


def test_a_reload_brings_a_misconfigured_group_back():
    script = crash_looping_images()
    script.start("w5", "w6")
    script.start(*script.forks)
    script.start(*script.forks)
    assert script.reload_errors == [None]
    assert all(place.current for place in script.machine.roster.places.values())


def test_a_reload_fails_when_the_only_group_of_workers_was_down_and_stays_down():
    script = running(CLOCK, ONE)
    script.tell(ev.Exited("w2", ExitCause(code=78)))
    script.tell(ev.Reload((CLOCK, ONE)), ev.Booted(2))
    script.tell(ev.Exited("w4", ExitCause(code=78)))
    assert script.reload_errors == ["mail/1 ended with exit code 78 before it was ready"]


def test_canaries_wait_for_each_other_where_the_budget_has_room_for_one():
    mail, images = replace(ONE, connections=5), replace(IMAGES, processes=1, connections=5)
    script = Script(mail, images)
    script.tell(ev.Budgeted(15), ev.Booted(1))
    script.start("w1", "w2")
    script.tell(ev.Reload((mail, images), probation_s=10), ev.Booted(2))
    assert script.slots == [("mail/1", 2)]
    script.start("w3")
    script.wait(10)
    assert (script.drains, script.forks) == (["w1"], [])
    script.tell(ev.Exited("w1", CLEAN))
    assert script.slots == [("images/1", 2)]
    script.start("w4")
    script.wait(10)
    assert (script.drains, script.reload_errors) == (["w2"], [None])


def test_a_reload_that_the_budget_has_no_room_for_fails_with_the_numbers():
    mail = replace(ONE, connections=5)
    script = Script(mail)
    script.tell(ev.Budgeted(9), ev.Booted(1))
    script.start("w1")
    script.tell(ev.Reload((mail,)), ev.Booted(2))
    assert script.reload_errors == [
        "a new child of mail needs 5 database connections beside the 5 in use, of 9 that there may be"
    ]
    assert (script.drains, script.machine.roster.generation) == ([], 1)


def test_a_place_that_cannot_be_taken_back_keeps_its_new_child_and_the_reload_ends():
    script = reloading(MAIL, probation_s=0)
    script.start("w3")
    script.tell(ev.Exited("w4", KILLED))
    for _ in range(MAX_TRIES):
        while not script.forks:
            script.wait(1)
        script.tell(ev.Exited(script.forks[0], ExitCause(code=1)))
    assert script.reload_errors == ["mail/2 ended with signal 9 (SIGKILL) before it was ready"]
    assert script.machine.roster.places[Slot("mail/1")].current == "w3"
    script.tell(ev.Exited("w3", KILLED), after=60)
    assert script.slots == [("mail/1", 1)]


def test_going_back_ends_too_when_the_old_generation_cannot_boot_any_more():
    script = reloading(MAIL, probation_s=0)
    script.start("w3")
    script.tell(ev.ForkServerLost(1, KILLED), ev.Exited("w4", KILLED))
    for _ in range(MAX_TRIES):
        assert script.reload_errors == []
        script.tell(ev.BootFailed(1, "SyntaxError", fixable=True))
        if not script.reload_errors:
            script.wait(31)
    crash = "mail/2 ended with signal 9 (SIGKILL) before it was ready"
    assert script.reload_errors == [f"{crash}; generation 1 cannot boot any more either: SyntaxError"]
    assert script.machine.roster.places[Slot("mail/1")].current == "w3"


def test_what_a_superseded_reload_had_replaced_is_kept_by_the_next_one_if_its_code_is_the_same():
    script = reloading(MAIL, probation_s=0)
    script.start("w3")
    script.tell(ev.Reload((MAIL,)))
    assert (script.drains, script.reload_errors, script.retired) == ([], ["a newer reload took its place"], [2])
    script.tell(ev.Forked("w4", 104))
    script.tell(ev.Booted(3, "new"))
    assert script.slots == [("mail/2", 3)]
    script.start("w5")
    assert (script.drains, kept(script)) == (["w2"], [1])


def test_a_crash_of_what_a_superseded_reload_had_replaced_is_answered_from_the_proven_generation():
    script = reloading(MAIL, probation_s=0)
    script.start("w3")
    script.tell(ev.Reload((MAIL,)))
    script.tell(ev.Exited("w3", KILLED))
    assert script.slots == [("mail/1", 1)]


def test_stop_ends_a_reload_in_its_probation_and_drains_old_and_new():
    script = reloading(ONE)
    script.start("w2")
    script.tell(ev.Stop())
    assert (script.drains, script.reload_errors) == (["w1", "w2"], ["the daemon stops"])
    script.tell(ev.Exited("w1", CLEAN), ev.Exited("w2", CLEAN))
    assert script.finish == [0]


def test_pause_reaches_canaries_and_children_of_groups_that_only_the_new_plan_has():
    script = reloading(MAIL, code="old", new_plan=(MAIL, IMAGES))
    script.start("w3")
    script.tell(ev.Pause("images"))
    assert script.seen == [fx.SetPaused("w3", paused=True)]


def test_a_new_child_that_calls_itself_misconfigured_is_followed_by_one_of_the_old_generation():
    script = reloading(MAIL, probation_s=0)
    script.start("w3")
    script.tell(ev.Exited("w3", ExitCause(code=78)))
    assert script.slots == [("mail/1", 1)]


def test_a_place_that_could_not_be_taken_back_is_tried_again_after_a_delay():
    script = reloading(MAIL, probation_s=0)
    script.start("w3")
    script.tell(ev.Exited("w4", KILLED))
    script.tell(ev.Exited("w5", ExitCause(code=1)))
    assert script.forks == []
    assert script.machine.next_deadline_s() == script.now + 0.5
    script.wait(0.5)
    assert script.slots == [("mail/1", 1)]


def test_going_back_ends_where_there_is_no_room_for_it_any_more():
    mail = replace(MAIL, connections=5)
    script = Script(mail)
    script.tell(ev.Budgeted(15), ev.Booted(1))
    script.start("w1", "w2")
    script.tell(ev.Reload((mail,)), ev.Booted(2))
    script.start("w3")
    script.tell(ev.Exited("w1", CLEAN), ev.Budgeted(10), ev.Exited("w4", KILLED))
    assert script.reload_errors == ["mail/2 ended with signal 9 (SIGKILL) before it was ready"]
    assert script.machine.roster.places[Slot("mail/1")].current == "w3"


def test_a_recycling_gives_way_when_a_reload_cannot_boot_and_an_older_ones_work_is_taken_back():
    mail = replace(MAIL, recycling=Recycling(max_jobs=10))
    script = reloading(mail, probation_s=0)
    script.start("w3")
    script.tell(ev.Reload((mail,)))
    script.tell(ev.Measured({"w2": ev.Usage(20, 0)}))
    assert script.slots == [("mail/2", 1)]
    script.tell(ev.Forked("w5", 105), ev.BootFailed(3, "SyntaxError", fixable=True))
    assert (script.drains, script.slots) == (["w5"], [("mail/1", 1)])
    script.start("w6")
    assert script.reload_errors == ["SyntaxError"]


def renamed_where_there_is_room_for_one_more() -> Script:
    mail, post = replace(MAIL, connections=5), replace(MAIL, name="post", connections=5)
    script = Script(mail)
    script.tell(ev.Budgeted(15), ev.Booted(1))
    script.start("w1", "w2")
    script.tell(ev.Reload((post,)), ev.Booted(2))
    script.start("w3")
    return script


def test_places_that_the_new_plan_drops_make_room_for_its_new_ones():
    script = renamed_where_there_is_room_for_one_more()
    assert (script.drains, script.forks) == (["w2"], [])
    script.tell(ev.Exited("w2", CLEAN))
    assert script.slots == [("post/2", 2)]
    script.start("w4")
    assert (script.drains, script.reload_errors) == (["w1"], [None])


def test_a_place_that_was_given_up_for_room_comes_back_when_the_reload_fails():
    script = renamed_where_there_is_room_for_one_more()
    script.tell(ev.Exited("w2", CLEAN), ev.Exited("w4", KILLED))
    assert script.slots == [("post/2", 2), ("mail/2", 1)]
    assert script.drains == ["w3"]
    assert list(script.machine.roster.places) == ["mail/1", "mail/2"]


def test_a_place_that_was_given_up_for_room_is_filled_before_the_going_back_has_ended():
    mail, images, post = (replace(ONE, name=name, connections=5) for name in ("mail", "images", "post"))
    script = Script(mail, images)
    script.tell(ev.Budgeted(15), ev.Booted(1))
    script.start("w1", "w2")
    script.tell(ev.Reload((mail, replace(post, processes=2))), ev.Booted(2))
    script.start("w3")
    script.tell(ev.Exited("w1", CLEAN))
    script.start("w4")
    assert script.drains == ["w2"]
    script.tell(ev.Exited("w2", CLEAN), ev.Exited("w5", KILLED))
    assert script.slots == [("post/2", 2), ("images/1", 1)]
    assert script.drains == ["w4"]
    script.tell(ev.Exited("w4", CLEAN))
    assert (script.slots, script.reload_errors) == ([("mail/1", 1)], [])
    script.start("w7")
    assert (script.drains, len(script.reload_errors)) == (["w3"], 1)
