"""Somebody mistyped a name: the one that was meant is told."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from soniqd.control.identity import current_identity
from soniqd.model import ScheduleSpec, TaskDefaults, WorkerId, WorkerRecord
from tests.cli.test_database_commands import database, dead, enqueue

__all__ = ["database", "dead", "enqueue"]  # fixtures


def mistyped(job_id: str) -> str:
    """Another digit at the end."""
    return job_id[:-1] + ("1" if job_id[-1] == "0" else "0")


@pytest.fixture
def schedule(database):
    async def declare(backend):
        spec = ScheduleSpec("shop.monthly_report", "shop.monthly_report", "interval", "60", queue="reports")
        await backend.put_schedules([spec], {spec.name: datetime(2030, 1, 1, tzinfo=UTC)})

    database(declare)


@pytest.fixture
def mail_worker(database):
    async def register(backend):
        record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), ("mail",), 10, version="1")
        await backend.register_worker(
            record, names=["mail.send"], defaults={"mail.send": TaskDefaults(queue="mail", priority=7)}
        )

    database(register)


@pytest.mark.parametrize("command", ["show", "cancel", "delete"])
def test_a_job(soniqctl, enqueue, command):
    job_id, _ = enqueue("a"), enqueue("a")
    wrong = mistyped(job_id)
    [line] = soniqctl("jobs", command, wrong, expect=1).stderr.splitlines()
    assert line == f'soniqctl: cannot {command} {wrong}: there is no such job; did you mean "{job_id}"?'


@pytest.mark.parametrize("command", ["cancel", "delete"])
def test_of_many_jobs_the_first_few(soniqctl, enqueue, command):
    job_id = enqueue("a")
    wrong = [job_id[:-2] + f"{number:02}" for number in range(10, 20) if not job_id.endswith(str(number))]
    lines = soniqctl("jobs", command, *wrong, expect=1).stderr.splitlines()
    assert [job_id in line for line in lines] == [True] * 5 + [False] * (len(wrong) - 5)
    assert all("there is no such job" in line for line in lines)


def test_a_job_to_be_explained(soniqctl, enqueue):
    job_id = enqueue("a")
    assert f'did you mean "{job_id}"?' in soniqctl("jobs", "why", mistyped(job_id), expect=1).stdout


def test_an_id_that_is_like_no_other_gets_no_hint(soniqctl, enqueue):
    for _ in range(5):
        enqueue("a")
    stranger = str(uuid.uuid4())
    assert "did you mean" not in soniqctl("jobs", "show", stranger, expect=1).stderr


@pytest.mark.parametrize("command", ["replay", "delete"])
def test_a_dead_letter(soniqctl, dead, command):
    [line] = soniqctl("dead-letter", command, mistyped(dead), expect=1).stderr.splitlines()
    assert line.endswith(f'there is no such dead letter; did you mean "{dead}"?')


def test_a_filter_of_dead_letters(soniqctl, dead):
    result = soniqctl("dead-letter", "list", "--name", "mail.sned", "--reason", "max_retry_exceeded", "--queue", "no")
    assert result.stdout == "no dead letters\n"
    assert result.stderr.splitlines() == [
        'note: there is no dead letter of mail.sned; did you mean "mail.send"?',
        'note: there is no dead letter of max_retry_exceeded; did you mean "max_retries_exceeded"?',
    ]


@pytest.mark.parametrize("command", ["pause", "resume", "remove"])
def test_a_schedule(soniqctl, schedule, command):
    [line] = soniqctl("schedules", command, "shop.montly_report", expect=1).stderr.splitlines()
    assert line == (
        f'soniqctl: cannot {command} shop.montly_report: there is no such schedule; did you mean "shop.monthly_report"?'
    )


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_queue_is_paused_all_the_same(soniqctl, schedule, command):
    """It may be one that is to come."""
    result = soniqctl("queues", command, "report")
    assert result.stdout.startswith("report ")
    assert result.stderr == (
        'note: nothing is in a queue report yet, nor served by that name; did you mean "reports"?\n'
    )


def test_a_queue_that_is_there_gets_no_note(soniqctl, schedule, enqueue):
    enqueue("a", "--queue", "mail")
    for queue in ("mail", "reports", "default"):
        assert soniqctl("queues", "pause", queue).stderr == ""


def test_a_list_of_nothing_tells_what_may_be_mistyped(soniqctl, enqueue, mail_worker):
    enqueue("mail.send")
    result = soniqctl("jobs", "list", "--queue", "maill", "--name", "mail.sned")
    assert result.stdout == "no jobs\n"
    assert result.stderr.splitlines() == [
        'note: there is nothing in a queue maill; did you mean "mail"?',
        'note: there is no job of mail.sned; did you mean "mail.send"?',
    ]


def test_a_task_that_is_known_is_not_mistyped(soniqctl, database, enqueue, mail_worker):
    enqueue("mail.send")

    async def register(backend):
        record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), (), 10, version="1")
        await backend.register_worker(record, names=["mail.sent"])

    database(register)
    assert soniqctl("jobs", "list", "--name", "mail.sent").stderr == ""


def test_a_list_for_programs_has_no_notes(soniqctl, enqueue):
    enqueue("a", "--queue", "mail")
    assert soniqctl("jobs", "list", "--queue", "maill", "--json").stderr == ""
