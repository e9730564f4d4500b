"""Every place where a job can be has its reason, and the decisive one comes first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from soniqd.model import JobFacts, JobRecord, ProcessIdentity, TaskDefaults, WorkerId, WorkerRecord, WorkerStatus
from soniqd.policy.why import Limits, Reason, explain

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LIMITS = Limits(heartbeat_timeout_s=300.0, max_crashes=3)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def record(**changes: Any) -> JobRecord:
    values: dict[str, Any] = {
        "id": "j1",
        "job_name": "send",
        "args": {},
        "status": "queued",
        "queue": "mail",
        "priority": 100,
        "attempts": 0,
        "max_attempts": 4,
        "crashes": 0,
        "interruptions": 0,
        "unique_job": False,
        "dedup_key": None,
        "producer_id": None,
        "worker_id": None,
        "last_error": None,
        "result": None,
        "created_at": ago(1),
        "updated_at": ago(1),
        "scheduled_at": None,
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
    }
    return cast("JobRecord", values | changes)


def worker(number: int = 1, **changes: Any) -> WorkerRecord:
    process = ProcessIdentity("m", "host1", "b", 1, 4700 + number, 1)
    values: dict[str, Any] = {
        "id": WorkerId(f"w{number}"),
        "process": process,
        "queues": (),
        "concurrency": 2,
        "slot": f"default/{number}",
        "heartbeat_age_s": 1.0,
    }
    return WorkerRecord(**values | changes)


def facts(*workers: WorkerRecord, knowers: str | None = None, ahead: int | None = 0, **changes: Any) -> JobFacts:
    known = {w.id for w in workers} if knowers is None else {WorkerId(one) for one in knowers.split()}
    own = {
        key: changes.pop(key)
        for key in ("queue_paused", "defaults", "dead_letter_reason", "replayed")
        if key in changes
    }
    return JobFacts(record(**changes), NOW, ahead=ahead, workers=workers, knowers=frozenset(known), **own)


def reasons(found: JobFacts, daemon: Any = "running") -> list[Reason]:
    return list(explain(found, limits=LIMITS, daemon=daemon))


def codes(found: JobFacts, daemon: Any = "running") -> list[str]:
    return [reason.code for reason in reasons(found, daemon)]


HELD: dict[str, Any] = {"status": "processing", "worker_id": "w1", "started_at": ago(90), "ahead": None}


STATES: list[tuple[JobFacts, list[str]]] = [
    (facts(worker()), ["claimable"]),
    (facts(worker(), ahead=3), ["claimable"]),
    (facts(worker(), updated_at=ago(60)), ["overdue"]),
    (facts(worker(), ahead=1, updated_at=ago(60)), ["claimable"]),
    (facts(worker(jobs_processing=2)), ["workers_busy"]),
    (facts(worker(jobs_processing=2), worker(2)), ["claimable"]),
    (facts(worker(), queue_paused=True), ["queue_paused"]),
    (facts(queue_paused=True), ["queue_paused", "no_worker"]),
    (facts(), ["no_worker"]),
    (facts(worker(heartbeat_age_s=301.0)), ["no_worker"]),
    (facts(worker(), knowers=""), ["unknown_task"]),
    (facts(worker(queues=("a",))), ["queue_unserved"]),
    (facts(worker(queues=("mail",))), ["claimable"]),
    (facts(worker(queues=("a",)), worker(2, queues=("mail",)), knowers="w1"), ["task_elsewhere"]),
    (facts(worker(queues=("a",)), knowers=""), ["unknown_task", "queue_unserved"]),
    (facts(worker(status=WorkerStatus.STOPPING)), ["workers_stopping"]),
    (facts(worker(metadata={"paused": True})), ["group_drained"]),
    (facts(worker(metadata={"paused": True}), worker(2)), ["claimable"]),
    (facts(worker(), ahead=None, scheduled_at=ago(-60)), ["scheduled"]),
    (facts(ahead=None, scheduled_at=ago(-60)), ["scheduled", "no_worker"]),
    (facts(worker(jobs_processing=2), ahead=None, scheduled_at=ago(-60)), ["scheduled"]),
    (facts(worker(), ahead=None, scheduled_at=ago(-60), attempts=1, last_error="no"), ["retry_backoff"]),
    (facts(worker(), ahead=None, scheduled_at=ago(-60), last_error="not yet"), ["snoozed"]),
    (
        facts(worker(), ahead=None, scheduled_at=ago(-60), last_error="signal 9", crashes=1),
        ["scheduled", "suspect"],
    ),
    (facts(worker(), ahead=None, scheduled_at=ago(2)), ["due"]),
    (facts(worker(), scheduled_at=ago(2)), ["claimable"]),
    (facts(worker(), crashes=2), ["claimable", "suspect"]),
    (facts(worker(), attempts=1, last_error="no"), ["claimable", "failed_before"]),
    (facts(worker(), dedup_key="k"), ["claimable", "holds_key"]),
    (facts(worker(), unique_job=True), ["claimable", "holds_key"]),
    (facts(worker(jobs_processing=1), **HELD), ["running"]),
    (facts(worker(jobs_processing=1), **HELD, defaults=TaskDefaults(timeout_s=60.0)), ["running_too_long"]),
    (facts(worker(jobs_processing=1), **HELD, defaults=TaskDefaults(timeout_s=100.0)), ["running"]),
    (facts(worker(jobs_processing=2), **HELD, crashes=1), ["suspect_waiting"]),
    (facts(worker(jobs_processing=1), **HELD, crashes=1), ["running"]),
    (facts(worker(status=WorkerStatus.STOPPING), **HELD), ["running", "worker_draining"]),
    (facts(worker(heartbeat_age_s=301.0), **HELD), ["worker_lost"]),
    (facts(**HELD), ["worker_gone"]),
    (facts(worker(2), **HELD), ["worker_gone"]),
    (facts(status="done", finished_at=ago(5), ahead=None), ["done"]),
    (facts(status="cancelled", finished_at=ago(5), ahead=None), ["cancelled"]),
    (facts(status="dead_letter", ahead=None, dead_letter_reason="worker_lost"), ["dead_letter"]),
]


@pytest.mark.parametrize(("found", "expected"), STATES)
def test_each_state_has_its_reasons(found: JobFacts, expected: list[str]) -> None:
    assert codes(found) == expected


@pytest.mark.parametrize(
    ("daemon", "code"),
    [
        ("running", "no_worker"),
        ("stopping", "daemon_not_running"),
        ("absent", "daemon_not_running"),
        ("unknown", "no_worker"),
    ],
)
def test_without_any_worker_the_daemon_of_this_host_matters(daemon: str, code: str) -> None:
    assert codes(facts(), daemon) == [code]


def test_a_daemon_that_is_absent_here_does_not_matter_while_others_work() -> None:
    assert codes(facts(worker()), "absent") == ["claimable"]


def test_a_retry_tells_when_and_what_for() -> None:
    [reason] = reasons(facts(worker(), ahead=None, scheduled_at=ago(-60), attempts=2, last_error="no"))
    assert reason.facts == {
        "at": ago(-60),
        "in_s": 60.0,
        "attempts": 2,
        "max_attempts": 4,
        "last_error": "no",
    }


def test_a_place_in_the_queue_says_when_it_is_a_lower_bound() -> None:
    [reason] = reasons(facts(worker(), ahead=10_001))
    assert (reason.facts["ahead"], reason.facts["ahead_more"]) == (10_000, True)
    [reason] = reasons(facts(worker(jobs_processing=2), ahead=10_000))
    assert (reason.facts["ahead"], reason.facts["ahead_more"]) == (10_000, False)


def test_a_run_tells_where_since_when_and_how_it_stands_with_its_timeout() -> None:
    [reason] = reasons(facts(worker(jobs_processing=1), **HELD, defaults=TaskDefaults(timeout_s=60.0)))
    assert reason.facts == {
        "worker_id": "w1",
        "slot": "default/1",
        "hostname": "host1",
        "pid": 4701,
        "since": ago(90),
        "ran_s": 90.0,
        "limit_known": True,
        "timeout_s": 60.0,
        "over_s": 30.0,
        "attempt": 1,
        "max_attempts": 4,
    }


@pytest.mark.parametrize(("defaults", "known"), [(None, False), (TaskDefaults(timeout_s=0.0), True)])
def test_no_timeout_and_an_unknown_one_are_different(defaults: TaskDefaults | None, known: bool) -> None:
    [reason] = reasons(facts(worker(jobs_processing=1), **HELD, defaults=defaults))
    assert (reason.facts["timeout_s"], reason.facts["over_s"], reason.facts["limit_known"]) == (None, None, known)


def test_drained_groups_are_named_with_their_hosts() -> None:
    drained = worker(metadata={"paused": True}), worker(2, metadata={"paused": True}, slot="bulk/1")
    [reason] = reasons(facts(*drained))
    assert reason.facts == {"groups": ["bulk", "default"], "hosts": ["host1"]}


def test_a_worker_without_a_slot_is_named_by_its_id() -> None:
    [reason] = reasons(facts(worker(metadata={"paused": True}, slot="")))
    assert reason.facts["groups"] == ["w1"]
