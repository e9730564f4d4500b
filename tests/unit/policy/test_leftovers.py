from dataclasses import replace
from typing import Any

import pytest

from soniqd.model import ProcessIdentity, WorkerId, WorkerRecord, WorkerStatus
from soniqd.policy.leftovers import decide_leftovers

HERE = ProcessIdentity("machine", "host", "boot", pid_namespace=1, pid=10, start_ticks=5)


def a_worker(*, age_s: float | None = 0.0, **process) -> WorkerRecord:
    identity = replace(HERE, pid=77, start_ticks=900, **process)
    return WorkerRecord(WorkerId("w"), identity, queues=(), concurrency=1, heartbeat_age_s=age_s)


def decide(worker: WorkerRecord, *, alive: bool = False, heartbeat_interval_s: float = 5.0) -> bool:
    decision = decide_leftovers([worker], HERE, alive=lambda _: alive, heartbeat_interval_s=heartbeat_interval_s)
    return decision.crashed == (worker,)


def mastered(worker: WorkerRecord, *, pid: int, start_ticks: int = 700) -> WorkerRecord:
    return replace(worker, metadata={"master": {"pid": pid, "start_ticks": start_ticks}})


def test_a_dead_process_of_this_namespace_is_dead_at_once():
    assert decide(a_worker(age_s=0.0), alive=False)


def test_a_living_process_of_this_namespace_is_left_alone_however_silent_it_is():
    assert not decide(a_worker(age_s=100_000), alive=True)


def test_another_boot_counts_only_after_three_silent_intervals():
    assert not decide(a_worker(boot_id="before", age_s=29.9), heartbeat_interval_s=10)
    assert decide(a_worker(boot_id="before", age_s=30.1), heartbeat_interval_s=10)


def test_a_short_heartbeat_interval_still_leaves_fifteen_seconds():
    assert not decide(a_worker(pid_namespace=2, age_s=14.9), heartbeat_interval_s=0.1)
    assert decide(a_worker(pid_namespace=2, age_s=15.1), heartbeat_interval_s=0.1)


def test_another_namespace_is_never_judged_by_this_ones_pids():
    assert not decide(a_worker(pid_namespace=2, age_s=1.0), alive=False)
    assert decide(a_worker(pid_namespace=2, age_s=60.0), alive=True)


def test_other_machines_and_other_host_names_are_left_to_the_sweep():
    assert not decide(a_worker(machine_id="other", age_s=100_000))
    assert not decide(a_worker(hostname="other", age_s=100_000))


def test_a_worker_of_another_boot_without_a_known_heartbeat_is_left_to_the_sweep():
    assert not decide(a_worker(boot_id="before", age_s=None))


def test_only_the_dead_of_several_are_named():
    living, dead = a_worker(), replace(a_worker(), id=WorkerId("d"), process=replace(HERE, pid=78))
    decision = decide_leftovers([living, dead], HERE, alive=lambda p: p.pid == 77, heartbeat_interval_s=5)
    assert (decision.crashed, decision.awaited) == ((dead,), (living.process,))


def test_a_dead_worker_whose_master_lives_is_left_to_it_until_that_ends_too():
    worker = mastered(a_worker(), pid=50)
    decision = decide_leftovers([worker], HERE, alive=lambda p: p.pid == 50, heartbeat_interval_s=5)
    assert decision.crashed == ()
    assert [(process.pid, process.start_ticks) for process in decision.awaited] == [(50, 700)]


def test_a_dead_worker_whose_master_is_dead_too_is_released():
    assert decide(mastered(a_worker(), pid=50))


def test_a_dead_worker_of_the_master_that_asks_is_released():
    worker = mastered(a_worker(), pid=HERE.pid, start_ticks=HERE.start_ticks)
    decision = decide_leftovers([worker], HERE, alive=lambda p: p.pid == HERE.pid, heartbeat_interval_s=5)
    assert decision.crashed == (worker,)


def test_a_worker_that_drained_when_it_ended_crashed_nothing():
    worker = replace(a_worker(), status=WorkerStatus.STOPPING)
    decision = decide_leftovers([worker], HERE, alive=lambda _: False, heartbeat_interval_s=5)
    assert (decision.crashed, decision.interrupted) == ((), (worker,))


@pytest.mark.parametrize("master", [None, "50", {}, {"pid": "50", "start_ticks": 1}, {"pid": 50}])
def test_what_is_no_master_counts_as_none(master: Any):
    assert decide(replace(a_worker(), metadata={"master": master}))
