"""The supervision machine's daily life: starts, crashes, hangs, plain reloads, leaving."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soniqd.model.child import ExitCause, Slot
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.life import ABORT_GRACE_S, NOW_GRACE_S, START_TIMEOUT_S
from soniqd.policy.supervision.restarts import (
    BACKOFF_MAX_S,
    CRASH_LOOP_AT,
    STABLE_AFTER_S,
    decide_restart,
    next_delay_s,
)
from soniqd.policy.supervision.starts import MOST_STARTING
from tests.support.supervision_script import CLEAN, CLOCK, KILLED, MAIL, ONE, Script, running


def test_nothing_is_forked_before_the_first_generation_has_booted():
    script = Script(MAIL)
    assert script.seen == [fx.Boot(1)]
    script.wait(10)
    assert script.forks == []


def test_every_place_of_the_plan_gets_a_child_once_booted():
    script = Script(CLOCK, MAIL)
    script.tell(ev.Booted(1))
    slots = [effect.spec.slot for effect in script.seen if isinstance(effect, fx.Fork)]
    assert slots == ["scheduler/1", "mail/1", "mail/2"]


def test_a_large_group_starts_in_portions_and_holds_up_no_other():
    large = replace(ONE, name="large", processes=MOST_STARTING + 3)
    script = Script(large, MAIL)
    script.tell(ev.Booted(1))
    assert len(script.forks) == MOST_STARTING + 2
    script.tell(*(ev.Forked(f"w{number}", 100 + number) for number in range(1, MOST_STARTING + 1)))
    assert script.forks == []
    script.tell(ev.Ready("w1"), ev.Exited("w2", KILLED))
    assert len(script.forks) == 2
    script.tell(*(ev.Ready(f"w{number}") for number in range(3, MOST_STARTING + 1)))
    assert len([c for c in script.machine.roster.children.values() if c.spec.group == "large"]) == large.processes


def test_a_first_boot_that_fails_on_the_modules_ends_with_the_configuration_exit_code():
    script = Script(MAIL)
    script.tell(ev.BootFailed(1, "no module named jobs", fixable=True))
    assert script.finish == [78]


def test_a_first_boot_that_fails_by_accident_ends_with_the_internal_exit_code():
    script = Script(MAIL)
    script.tell(ev.BootFailed(1, "signal 9", fixable=False))
    assert script.finish == [70]


@pytest.mark.parametrize("code", [0, 75, 78])
def test_a_worker_that_vanishes_without_a_goodbye_has_crashed_whatever_its_exit_code(code):
    script = running(ONE)
    script.tell(ev.Exited("w1", ExitCause(code=code), announced=False), after=1)
    assert script.releases == [("w1", "crash")]
    assert script.reports == ["child_died"]
    assert script.forks == ["w2"]


def test_workers_that_vanish_with_exit_code_0_again_and_again_are_a_crash_loop():
    script = running(ONE)
    for number in range(1, CRASH_LOOP_AT + 1):
        script.tell(ev.Exited(f"w{number}", CLEAN, announced=False))
        script.wait(BACKOFF_MAX_S * 2)
        script.start(*script.forks)
    assert script.machine.roster.places[Slot("mail/1")].failures == CRASH_LOOP_AT


def test_a_dead_workers_jobs_are_released_as_a_crash_before_its_replacement_is_forked():
    script = running(ONE)
    script.tell(ev.Exited("w1", KILLED), after=1)
    kinds = [type(effect) for effect in script.seen]
    assert script.releases == [("w1", "crash")]
    assert script.forks == ["w2"]
    assert kinds.index(fx.Release) < kinds.index(fx.Fork)


@pytest.mark.parametrize("code", [0, 75])
def test_a_worker_that_left_in_good_order_by_itself_is_replaced_without_a_crash(code):
    script = running(ONE)
    script.tell(ev.Exited("w1", ExitCause(code=code)), after=60)
    assert script.releases == [("w1", "interrupted")]
    assert script.forks == ["w2"]


def test_a_scheduler_holds_no_jobs_to_release():
    script = running(CLOCK)
    script.tell(ev.Exited("w1", KILLED), after=1)
    assert script.releases == []
    assert script.forks == ["w2"]


def test_further_crashes_back_off_and_a_crash_loop_is_reported_once():
    script = running(ONE)
    delays, reports = [], []
    for number in range(1, CRASH_LOOP_AT + 3):
        script.tell(ev.Exited(f"w{number}", KILLED))
        reports += script.reports
        begun = script.now
        while not script.forks:
            deadline = script.machine.next_deadline_s()
            assert deadline is not None
            script.wait(deadline - script.now)
        delays.append(round(script.now - begun, 3))
        script.start(f"w{number + 1}")
    assert delays == [0, 0.5, 1, 2, 4, 8, 16]
    assert reports.count("crash_loop") == 1


def test_one_crash_looping_place_does_not_hold_up_another():
    script = running(MAIL)
    script.tell(ev.Exited("w1", KILLED))
    script.tell(ev.Exited("w3", KILLED))
    assert script.forks == []
    script.tell(ev.Exited("w2", KILLED))
    assert script.forks == ["w4"]


def test_a_configuration_error_of_a_child_is_not_tried_again_before_a_reload():
    script = running(ONE)
    script.tell(ev.Exited("w1", ExitCause(code=78)))
    assert script.forks == []
    assert "child_misconfigured" in script.reports
    script.wait(1000)
    assert script.forks == []
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    assert script.forks == ["w2"]


def test_a_child_that_never_says_anything_is_killed():
    script = Script(ONE)
    script.tell(ev.Booted(1))
    script.tell(ev.Forked("w1", 101))
    script.wait(START_TIMEOUT_S)
    assert script.kills == [("w1", "KILL")]


def test_a_child_that_waits_for_its_database_is_not_killed_for_it():
    script = Script(ONE)
    script.tell(ev.Booted(1))
    script.tell(ev.Forked("w1", 101), ev.Reported("w1"))
    script.wait(START_TIMEOUT_S * 10)
    assert script.kills == []


def test_stop_drains_everyone_and_finishes_when_all_are_gone():
    script = running(MAIL)
    script.tell(ev.Stop())
    assert script.drains == ["w1", "w2"]
    script.tell(ev.Exited("w1", CLEAN))
    assert script.finish == []
    script.tell(ev.Exited("w2", CLEAN))
    assert script.finish == [0]
    assert script.forks == []


def test_a_child_past_its_drain_deadline_is_killed_and_its_jobs_count_no_crash():
    script = running(ONE)
    script.tell(ev.Stop())
    script.wait(ONE.drain_timeout_s + ONE.stop_signal_timeout_s - 0.1)
    assert script.kills == []
    script.wait(0.2)
    assert script.kills == [("w1", "KILL")]
    script.tell(ev.Exited("w1", KILLED))
    assert script.releases == [("w1", "interrupted")]
    assert script.finish == [0]


def test_a_second_stop_means_now():
    script = running(ONE)
    script.tell(ev.Stop())
    script.tell(ev.Stop(now=True))
    assert script.kills == [("w1", "QUIT")]
    script.wait(NOW_GRACE_S)
    assert script.kills == [("w1", "KILL")]


@pytest.mark.parametrize("now", [False, True])
def test_a_child_that_is_being_forked_when_stop_comes_is_sent_away_as_soon_as_it_exists(now):
    script = Script(ONE)
    script.tell(ev.Booted(1))
    script.tell(ev.Stop(now=now))
    assert script.finish == []
    script.tell(ev.Forked("w1", 101))
    assert (script.drains, script.kills) == (([], [("w1", "QUIT")]) if now else (["w1"], []))


def test_stop_while_booting_leaves_at_once():
    script = Script(MAIL)
    script.tell(ev.Stop())
    assert script.finish == [0]


def test_a_reload_replaces_place_by_place_successor_first():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)))
    assert script.seen == [fx.Boot(2)]
    script.tell(ev.Booted(2))
    assert (script.forks, script.drains) == (["w3"], [])
    script.start("w3")
    assert (script.drains, script.forks) == (["w1"], ["w4"])
    script.start("w4")
    assert script.drains == ["w2"]
    assert script.reload_errors == [None]
    assert fx.Retire(1) in script.seen
    assert script.machine.roster.generation == 2


def test_a_generation_that_cannot_import_leaves_the_old_one_alone():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)))
    script.tell(ev.BootFailed(2, "SyntaxError", fixable=True))
    assert script.reload_errors == ["SyntaxError"]
    assert (script.drains, script.kills, script.forks) == ([], [], [])
    assert script.machine.roster.generation == 1
    assert fx.Retire(1) not in script.seen


def test_a_successor_that_dies_before_it_is_ready_rolls_back_what_was_replaced():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.start("w3")
    script.tell(ev.Exited("w1", CLEAN), ev.Exited("w4", ExitCause(code=1)))
    assert script.drains == []
    assert script.forks == ["w5"]
    spec = next(effect.spec for effect in script.seen if isinstance(effect, fx.Fork))
    assert (spec.slot, spec.generation) == ("mail/1", 1)
    script.start("w5")
    assert script.drains == ["w3"]
    assert script.reload_errors == ["mail/2 ended with exit code 1 before it was ready"]
    assert fx.Retire(2) in script.seen
    assert script.machine.roster.generation == 1


def test_a_reload_with_a_smaller_plan_drains_the_places_that_are_gone():
    script = running(MAIL)
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    script.start("w3")
    assert script.drains == ["w1", "w2"]
    assert script.reload_errors == [None]


def test_a_reload_with_a_larger_plan_fills_the_new_places():
    script = running(ONE)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.start("w2")
    assert script.forks == ["w3"]
    script.start("w3")
    assert script.reload_errors == [None]


def test_a_failed_reload_takes_its_new_places_away_again():
    script = running(ONE)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.start("w2")
    script.tell(ev.Exited("w3", KILLED))
    assert script.forks == ["w4"]
    script.start("w4")
    assert [len(script.machine.roster.places), script.machine.roster.generation] == [1, 1]


def test_a_worker_that_crashes_during_a_reload_is_replaced_from_the_generation_it_had():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.tell(ev.Exited("w2", KILLED))
    spec = next(effect.spec for effect in script.seen if isinstance(effect, fx.Fork))
    assert (spec.slot, spec.generation) == ("mail/2", 1)


def test_a_newer_reload_takes_the_place_of_one_that_is_still_importing():
    script = running(ONE)
    script.tell(ev.Reload((ONE,)))
    script.tell(ev.Reload((ONE,)))
    assert script.reload_errors == ["a newer reload took its place"]
    assert {fx.Retire(2), fx.Boot(3)} <= {effect for effect in script.seen if isinstance(effect, (fx.Retire, fx.Boot))}
    script.tell(ev.Booted(2))
    assert script.forks == []
    script.tell(ev.Booted(3))
    assert script.forks == ["w2"]
    script.start("w2")
    assert script.reload_errors == [None]
    assert [effect.generation for effect in script.seen if isinstance(effect, fx.Retire)] == [1]


def test_a_newer_reload_sends_the_successor_of_the_older_one_away():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.tell(ev.Forked("w3", 103), ev.Reported("w3"))
    script.tell(ev.Reload((MAIL,)))
    assert script.drains == ["w3"]
    script.tell(ev.Booted(3))
    script.start("w4")
    assert script.drains == ["w1"]


def test_a_newer_reload_that_fails_goes_back_to_the_generation_before_both_and_to_its_plan():
    script = running(ONE)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.start("w2")
    script.tell(ev.Reload((MAIL,)))
    script.tell(ev.BootFailed(3, "SyntaxError", fixable=True))
    spec = next(effect.spec for effect in script.seen if isinstance(effect, fx.Fork))
    assert (spec.slot, spec.generation) == ("mail/1", 1)
    script.start(spec.worker_id)
    assert "SyntaxError" in script.reload_errors
    assert (len(script.machine.roster.places), script.machine.roster.generation) == (1, 1)


def test_a_reload_helps_where_the_old_generation_cannot_come_back():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.start("w3")
    script.tell(ev.ForkServerLost(1, KILLED), ev.Exited("w4", KILLED))
    script.tell(ev.BootFailed(1, "SyntaxError", fixable=True))
    assert script.machine.reloading
    script.tell(ev.Reload((MAIL,)), ev.Booted(3))
    script.start(*script.forks)
    script.start(*script.forks)
    assert script.reload_errors == [None]
    assert script.machine.roster.generation == 3


def test_a_superseded_generation_that_cannot_boot_is_not_tried_again():
    script = running(ONE)
    script.tell(ev.Reload((ONE,)))
    script.tell(ev.Reload((ONE,)))
    script.tell(ev.BootFailed(2, "SyntaxError", fixable=True))
    script.wait(60)
    assert fx.Boot(2) not in script.seen
    assert 2 not in script.machine.roster.fork_servers


def test_a_fork_server_lost_while_stopping_is_not_booted_again_and_asks_for_no_time():
    script = running(ONE)
    script.tell(ev.Stop())
    script.tell(ev.ForkServerLost(1, KILLED), after=1)
    assert "fork_server_lost" not in script.reports
    deadline = script.machine.next_deadline_s()
    assert deadline is not None
    assert deadline > script.now + 1


def test_a_fork_server_that_ran_long_enough_is_booted_again_at_once_however_often_it_was_lost():
    script = running(ONE)
    for _ in range(8):
        script.tell(ev.ForkServerLost(1, KILLED), after=STABLE_AFTER_S)
        assert fx.Boot(1) in script.seen
        script.tell(ev.Booted(1))


def test_a_fork_server_that_is_lost_again_and_again_asks_for_the_time_of_its_next_boot():
    script = running(ONE)
    for _ in range(3):
        script.tell(ev.ForkServerLost(1, KILLED), after=0.1)
    boots = script.machine.next_deadline_s()
    assert boots is not None
    assert boots > script.now
    assert fx.Boot(1) not in script.seen
    script.wait(boots - script.now)
    assert fx.Boot(1) in script.seen


def test_a_child_that_hangs_while_it_starts_is_found_too():
    script = Script(ONE)
    script.tell(ev.Booted(1))
    script.tell(ev.Forked("w1", 101), ev.Reported("w1"))
    for _ in range(62):
        script.tell(ev.Ticks({"w1": 5}), after=1)
    assert script.machine.roster.children["w1"].state == "hung"


def test_stop_does_not_wait_for_a_fork_that_is_never_answered():
    script = Script(ONE)
    script.tell(ev.Booted(1))
    script.tell(ev.Stop())
    script.wait(NOW_GRACE_S)
    assert fx.Forget("w1") in script.seen
    assert script.finish == [0]


def test_a_disowned_worker_drains_while_its_place_is_filled_anew():
    script = running(ONE)
    script.tell(ev.Disowned("w1"))
    assert (script.drains, script.forks) == (["w1"], ["w2"])
    script.tell(ev.Disowned("w1"))
    assert (script.drains, script.forks) == ([], [])
    script.tell(ev.Exited("w1", CLEAN))
    assert script.forks == []


def test_a_new_fork_server_lost_in_the_middle_of_a_reload_ends_the_reload():
    script = running(MAIL)
    script.tell(ev.Reload((MAIL,)), ev.Booted(2))
    script.tell(ev.ForkServerLost(2, KILLED))
    assert script.machine.roster.generation == 1
    assert script.reload_errors == ["its fork server ended with signal 9 (SIGKILL)"]


def test_stop_abandons_a_reload():
    script = running(ONE)
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    script.tell(ev.Stop())
    assert script.reload_errors == ["the daemon stops"]
    assert script.retired == [2]


def test_a_canary_that_a_stop_leaves_unforked_is_nobodys_business():
    script = running(ONE)
    script.tell(ev.Reload((ONE,)), ev.Booted(2))
    assert script.forks == ["w2"]
    script.tell(ev.Stop())
    script.tell(ev.ForkFailed("w2", "the fork server was retired"))
    assert (script.reports, script.releases) == ([], [("w2", "interrupted")])


@pytest.mark.parametrize(
    "end", [ev.BootFailed(2, "SyntaxError", fixable=True), ev.ForkServerLost(2, KILLED), ev.Booted(2)]
)
def test_nothing_is_heard_of_the_fork_server_of_a_reload_that_a_stop_has_ended(end):
    script = running(ONE)
    script.tell(ev.Reload((ONE,)), ev.Stop())
    assert script.retired == [2]
    assert script.tell(end) == []
    script.tell(ev.Exited("w1", CLEAN))
    assert script.retired == [1]


def test_a_lost_fork_server_is_booted_again_and_its_children_stay():
    script = running(ONE)
    script.tell(ev.ForkServerLost(1, KILLED))
    assert fx.Boot(1) in script.seen
    assert (script.kills, script.drains) == ([], [])


def test_a_crash_while_the_fork_server_is_away_is_made_good_when_it_is_back():
    script = running(ONE)
    script.tell(ev.ForkServerLost(1, KILLED))
    script.tell(ev.Exited("w1", KILLED))
    assert script.forks == []
    script.tell(ev.Booted(1))
    assert script.forks == ["w2"]


def test_a_fork_request_lost_with_its_fork_server_is_forgotten_and_asked_again():
    script = Script(ONE)
    script.tell(ev.Booted(1))
    script.tell(ev.ForkServerLost(1, KILLED))
    assert fx.Forget("w1") in script.seen
    script.tell(ev.Booted(1))
    assert script.forks == ["w2"]


def test_pause_reaches_running_children_and_those_that_start_later():
    script = running(ONE)
    script.tell(ev.Pause(None))
    assert script.seen == [fx.SetPaused("w1", paused=True)]
    script.tell(ev.Exited("w1", KILLED))
    script.tell(ev.Forked("w2", 102))
    assert fx.SetPaused("w2", paused=True) in script.seen
    script.tell(ev.Ready("w2"), ev.Resume("mail"))
    assert fx.SetPaused("w2", paused=False) in script.seen


def test_a_loop_that_stands_still_past_the_hang_timeout_is_aborted_then_killed():
    script = running(ONE)
    script.tell(ev.Ticks({"w1": 5}), after=1)
    for _ in range(60):
        script.tell(ev.Ticks({"w1": 5}), after=1)
        assert script.kills == []
    script.tell(ev.Ticks({"w1": 5}), after=1)
    assert script.kills == [("w1", "ABRT")]
    script.wait(ABORT_GRACE_S)
    assert script.kills == [("w1", "KILL")]
    script.tell(ev.Exited("w1", KILLED))
    assert script.releases == [("w1", "crash")]


def test_a_loop_that_moves_is_left_alone():
    script = running(ONE)
    for tick in range(200):
        script.tell(ev.Ticks({"w1": tick}), after=1)
        assert script.kills == []


def test_a_suspended_master_does_not_call_its_workers_hung():
    script = running(ONE)
    script.tell(ev.Ticks({"w1": 5}), after=1)
    script.tell(ev.Ticks({"w1": 5}), after=3600)
    assert script.kills == []


@pytest.mark.parametrize(("failures", "delay"), [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (50, BACKOFF_MAX_S)])
def test_the_delay_doubles_up_to_its_bound(failures, delay):
    assert next_delay_s(failures, random=0.5) == delay


def test_the_delay_is_spread_by_a_quarter_either_way():
    assert (next_delay_s(2, random=0.0), next_delay_s(2, random=1.0)) == (0.375, 0.625)


def test_a_stable_run_resets_the_count_of_failures():
    decision = decide_restart(failures_before=7, ready_for_s=STABLE_AFTER_S, clean=False, random=0.5)
    assert (decision.failures, decision.delay_s) == (1, 0.0)
