from __future__ import annotations

import asyncio
import json
import re
import uuid

import pytest

from soniqd.backends.factory import create_backend
from soniqd.control.identity import current_identity
from soniqd.model import DeadLettered, Done, TaskDefaults, WorkerId, WorkerRecord
from soniqd.queue.payload import args_hash

NO_JOB = "01a203cf-0000-7000-8000-000000000000"


@pytest.fixture
def database(soniqctl, tmp_path):
    """Give a fresh database, and a function that does something to it."""
    soniqctl("setup")

    def act(action):
        async def with_backend():
            backend = create_backend(f"sqlite:///{tmp_path / 'jobs.db'}")
            await backend.open()
            try:
                return await action(backend)
            finally:
                await backend.close()

        return asyncio.run(with_backend())

    return act


async def claim_all(backend, names=("mail.send",)):
    record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), (), 10, version="1")
    await backend.register_worker(record, names=names)
    return await backend.claim(record.id, names=None, queues=None, limit=10)


@pytest.fixture
def enqueue(soniqctl, database):
    def store(*arguments):
        return json.loads(soniqctl("enqueue", *arguments, "--json").stdout)["id"]

    return store


@pytest.fixture
def dead(enqueue, database):
    """Give the id of a dead letter."""
    job_id = enqueue("mail.send")

    async def fail(backend):
        [claimed] = await claim_all(backend)
        await backend.complete([DeadLettered(claimed.fence, "max_retries_exceeded", "RuntimeError: \x1b[31mno\nmore")])

    database(fail)
    return job_id


def test_setup_can_be_repeated(soniqctl):
    assert re.search(r"jobs.db: database created, \d migrations applied: 0001", soniqctl("setup").stdout)
    assert soniqctl("setup").stdout.endswith("jobs.db: ready, no migration was pending\n")
    answer = json.loads(soniqctl("setup", "--json").stdout)
    assert (answer["created"], answer["applied"]) == (False, [])


def test_migrate_status(soniqctl, database):
    status = json.loads(soniqctl("migrate-status", "--json").stdout)
    assert status["applied"]
    assert (status["pending"], status["foreign"]) == ([], [])
    assert soniqctl("migrate-status").stdout.splitlines()[1].split() == [status["applied"][0], "applied"]


def test_a_database_that_was_never_set_up_is_one_clear_line(soniqctl):
    (line,) = soniqctl("jobs", "list", expect=1).stderr.splitlines()
    assert line.endswith("there is no such file; soniqctl setup makes it")


def test_a_database_server_that_is_away_is_one_clear_line(soniqctl):
    result = soniqctl("--database-url", "postgresql://u:secret@127.0.0.1:1/d", "jobs", "list", expect=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith("soniqctl: ")
    assert "secret" not in line


def test_memory_is_refused(soniqctl):
    assert "gone with soniqctl itself" in soniqctl("--database-url", "memory://", "jobs", "list", expect=1).stderr


def test_an_unknown_scheme_is_refused_without_its_password(soniqctl):
    result = soniqctl("--database-url", "mysql://u:secret@h/d", "jobs", "list", expect=1)
    assert "secret" not in result.stderr


# -- enqueue and jobs


def test_enqueue_stores_what_it_was_told(soniqctl, enqueue):
    arguments = ["--args", '{"to": "ü"}', "--queue", "mail", "--priority", "-5", "--dedup-key", "k", "--unique"]
    job_id = enqueue("mail.send", *arguments)
    job = json.loads(soniqctl("jobs", "show", job_id, "--json").stdout)
    told = {
        "job_name": "mail.send",
        "args": {"to": "ü"},
        "queue": "mail",
        "priority": -5,
        "dedup_key": "k",
        "unique_job": True,
        "status": "queued",
    }
    assert {key: job[key] for key in told} == told
    assert (job["max_attempts"], job["producer_id"]) == (4, "soniqctl")


MAIL = TaskDefaults(queue="mail", priority=7, max_attempts=9, unique=True)


@pytest.fixture
def mail_worker(database):
    """Register a worker that knows mail.send and says how it is declared."""
    record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), (), 10, version="1")

    async def register(backend):
        await backend.register_worker(record, names=["mail.send", "plain"], defaults={"mail.send": MAIL})

    database(register)


def test_enqueue_uses_what_the_task_declares(soniqctl, enqueue, mail_worker):
    job_id = enqueue("mail.send")
    job = json.loads(soniqctl("jobs", "show", job_id, "--json").stdout)
    assert (job["queue"], job["priority"], job["max_attempts"], job["unique_job"]) == ("mail", 7, 9, True)
    again = json.loads(soniqctl("enqueue", "mail.send", "--json").stdout)
    assert (again["id"], again["created"], again["queue"]) == (job_id, False, "mail")


def test_what_is_said_on_the_command_line_wins(soniqctl, enqueue, mail_worker):
    job_id = enqueue("mail.send", "--queue", "bulk", "--priority", "1")
    job = json.loads(soniqctl("jobs", "show", job_id, "--json").stdout)
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("bulk", 1, 9)


def test_a_task_that_no_live_worker_describes_has_the_general_defaults(soniqctl, enqueue, mail_worker):
    result = soniqctl("enqueue", "plain")
    assert result.stderr == ""
    job = json.loads(soniqctl("jobs", "show", result.stdout.strip(), "--json").stdout)
    assert (job["queue"], job["priority"], job["max_attempts"], job["unique_job"]) == ("default", 100, 4, False)


@pytest.fixture
def telling_worker(database):
    """Register a worker that says which arguments mail.send takes, and serves the queue mail only."""
    record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), ("mail",), 10, version="1")
    said = TaskDefaults(queue="mail", required=("to",), accepted=("copies", "to"))

    async def register(backend):
        await backend.register_worker(record, names=["mail.send"], defaults={"mail.send": said})

    database(register)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("{}", 'the argument "to" is missing'),
        ('{"to": "a", "copy": 2}', 'there is no argument "copy"; did you mean "copies"?'),
        ('{"x": 1}', 'the argument "to" is missing, there is no argument "x"'),
    ],
)
def test_enqueue_refuses_arguments_that_the_task_cannot_be_called_with(soniqctl, telling_worker, args, reason):
    result = soniqctl("enqueue", "mail.send", "--args", args, expect=1)
    assert result.stderr == f"soniqctl: cannot enqueue mail.send: {reason}\n"
    assert soniqctl("jobs", "list").stdout == "no jobs\n"


async def lose_all(backend):
    await backend._access.write(lambda tx: tx.connection.execute("UPDATE soniq_workers SET last_heartbeat = 0"))


def register(database, name, said):
    record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), (), 10, version="1")
    database(lambda backend: backend.register_worker(record, names=[name], defaults={name: said}))


@pytest.mark.parametrize("is_another_up", [False, True])
def test_what_lost_workers_said_refuses_nothing(soniqctl, telling_worker, database, is_another_up):
    database(lose_all)
    if is_another_up:
        register(database, "another.task", TaskDefaults())
    result = soniqctl("enqueue", "mail.send", "--args", '{"text": "a"}')
    said = 'the argument "to" is missing, there is no argument "text"'
    assert result.stderr == f"note: no worker that knows mail.send is up; by what those said that are lost, {said}\n"
    assert result.stdout.strip() in soniqctl("jobs", "list").stdout


def test_what_lost_workers_said_counts_no_more_beside_the_word_of_those_that_are_up(soniqctl, telling_worker, database):
    database(lose_all)
    register(database, "mail.send", TaskDefaults(required=("text",), accepted=("text",)))
    assert soniqctl("enqueue", "mail.send", "--args", '{"text": "a"}').stderr == ""
    refused = soniqctl("enqueue", "mail.send", "--args", '{"to": "a"}', expect=1).stderr
    assert 'the argument "text" is missing, there is no argument "to"' in refused


def test_enqueue_stores_arguments_that_the_task_can_be_called_with(soniqctl, telling_worker):
    for args in ('{"to": "a"}', '{"to": "a", "copies": 2}'):
        assert soniqctl("enqueue", "mail.send", "--args", args).stderr == ""


def test_a_refusal_of_arguments_has_its_code_for_programs(soniqctl, telling_worker):
    error = json.loads(soniqctl("enqueue", "mail.send", "--json", expect=1).stderr)["error"]
    assert error["code"] == "SONIQ_TASK_ARGS_INVALID"


def test_enqueue_tells_that_nobody_serves_the_queue(soniqctl, telling_worker):
    result = soniqctl("enqueue", "mail.send", "--args", '{"to": "a"}', "--queue", "maill")
    job_id = result.stdout.strip()
    assert result.stderr == (
        f'note: no worker that is up serves the queue maill; did you mean "mail"? soniqctl jobs why {job_id}\n'
    )


def test_enqueue_tells_the_task_that_may_be_meant_by_what_the_daemon_has_imported(soniqctl, database, master):
    master.answers["tasks"] = {"tasks": ["mail.send"]}
    note = soniqctl("enqueue", "mail.sned").stderr
    assert 'no live worker has registered mail.sned; did you mean "mail.send"? the job waits for one' in note


def test_enqueue_tells_the_task_that_may_be_meant_by_what_workers_know(soniqctl, telling_worker):
    assert 'did you mean "mail.send"?' in soniqctl("enqueue", "mail.sned").stderr


def test_enqueue_with_a_delay(soniqctl, enqueue):
    job_id = enqueue("mail.send", "--delay", "1h")
    assert json.loads(soniqctl("jobs", "show", job_id, "--json").stdout)["scheduled_at"] is not None


@pytest.mark.parametrize("arguments", [("--unique",), ("--dedup-key", "k")])
def test_enqueue_tells_when_the_job_is_queued_already(soniqctl, enqueue, arguments):
    job_id = enqueue("mail.send", *arguments)
    assert soniqctl("enqueue", "mail.send", *arguments).stdout == f"{job_id} is queued already\n"


def test_enqueue_hashes_arguments_as_producers_do(soniqctl, enqueue, database):
    enqueue("mail.send", "--args", '{"b": 1, "a": [2]}', "--unique")
    twin = soniqctl("enqueue", "mail.send", "--args", '{"a": [2], "b": 1}', "--unique").stdout
    assert "is queued already" in twin
    assert args_hash({"a": [2], "b": 1}) == args_hash({"b": 1, "a": [2]})


def test_enqueue_says_that_nobody_knows_the_name_yet(soniqctl, database):
    assert "no live worker has registered mail.send" in soniqctl("enqueue", "mail.send").stderr


def test_enqueue_says_nothing_where_a_worker_knows_the_name(soniqctl, database):
    database(claim_all)
    assert soniqctl("enqueue", "mail.send").stderr == ""


@pytest.mark.parametrize("args", ["{", "[1]", "3", '{"a": NaN}x'])
def test_enqueue_refuses_what_is_no_json_object(soniqctl, database, args):
    assert "Invalid value for '--args'" in soniqctl("enqueue", "n", "--args", args, expect=2).stderr


@pytest.mark.parametrize("args", ['{"a": NaN}', '{"a": "\\u0000"}'])
def test_enqueue_refuses_what_a_database_cannot_store(soniqctl, database, args):
    (line,) = soniqctl("enqueue", "n", "--args", args, expect=1).stderr.splitlines()
    assert line.startswith("soniqctl: cannot encode args")


def test_jobs_are_listed_newest_first_and_filtered(soniqctl, enqueue):
    first, second, third = enqueue("a"), enqueue("b"), enqueue("a", "--queue", "mail")
    assert [job["id"] for job in json.loads(soniqctl("jobs", "list", "--json").stdout)] == [third, second, first]
    for arguments, ids in {
        ("--name", "a"): [third, first],
        ("--queue", "mail"): [third],
        ("--limit", "1"): [third],
        ("--limit", "1", "--offset", "2"): [first],
        ("--status", "done"): [],
    }.items():
        assert [job["id"] for job in json.loads(soniqctl("jobs", "list", *arguments, "--json").stdout)] == ids


def test_jobs_as_text(soniqctl, enqueue):
    job_id = enqueue("mail.send")
    header, row = soniqctl("jobs", "list").stdout.splitlines()
    assert header.split()[:4] == ["ID", "TASK", "QUEUE", "STATUS"]
    assert row.split()[:6] == [job_id, "mail.send", "default", "queued", "100", "0/4"]


def test_no_jobs_are_said_to_be_none(soniqctl, database):
    assert soniqctl("jobs", "list").stdout == "no jobs\n"
    assert soniqctl("jobs", "list", "--json").stdout == "[]\n"


def test_a_job_is_shown_line_by_line(soniqctl, enqueue):
    job_id = enqueue("mail.send", "--args", '{"a": "\\u001b[31m"}')
    lines = dict(line.split(None, 1) for line in soniqctl("jobs", "show", job_id).stdout.splitlines())
    assert lines["id"] == job_id
    assert lines["args"] == '{"a": "\\u001b[31m"}'
    assert lines["last_error"] == "-"


def test_an_unknown_job_is_one_clear_line(soniqctl, database):
    expected = f"soniqctl: cannot show {NO_JOB}: there is no such job\n"
    assert soniqctl("jobs", "show", NO_JOB, expect=1).stderr == expected


def test_what_is_no_id_is_wrong_usage(soniqctl, database):
    assert "is not the id of a job: ids are UUIDs" in soniqctl("jobs", "show", "17", expect=2).stderr


def test_queued_jobs_can_be_cancelled_and_deleted(soniqctl, enqueue):
    job_id = enqueue("a")
    assert soniqctl("jobs", "cancel", job_id).stdout == f"{job_id} cancelled\n"
    assert soniqctl("jobs", "delete", job_id).stdout == f"{job_id} deleted\n"
    soniqctl("jobs", "show", job_id, expect=1)


def test_of_several_ids_each_is_told_and_one_refusal_fails(soniqctl, enqueue):
    job_id = enqueue("a")
    result = soniqctl("jobs", "cancel", NO_JOB, job_id, expect=1)
    assert result.stdout == f"{job_id} cancelled\n"
    assert result.stderr == f"soniqctl: cannot cancel {NO_JOB}: there is no such job\n"


def test_a_running_job_can_neither_be_cancelled_nor_deleted(soniqctl, enqueue, database):
    job_id = enqueue("mail.send")
    database(claim_all)
    for verb in ("cancel", "delete"):
        assert f"cannot {verb} {job_id}: it is running" in soniqctl("jobs", verb, job_id, expect=1).stderr


def test_a_finished_job_cannot_be_cancelled(soniqctl, enqueue, database):
    job_id = enqueue("mail.send")

    async def finish(backend):
        [claimed] = await claim_all(backend)
        await backend.complete([Done(claimed.fence, '"ok"', 60)])

    database(finish)
    assert "it has finished" in soniqctl("jobs", "cancel", job_id, expect=1).stderr
    assert json.loads(soniqctl("jobs", "show", job_id, "--json").stdout)["result"] == "ok"


# -- queues


@pytest.mark.parametrize("queue", ["", "a\udcff", "q" * 300])
def test_a_queue_that_cannot_be_is_not_paused(soniqctl, database, queue):
    assert "queue must" in soniqctl("queues", "pause", queue, expect=2).stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("n" * 300,), "255 bytes"),
        (("a\udcff",), "Unicode"),
        (("mail.send", "--queue", "q" * 300), "255 bytes"),
        (("mail.send", "--dedup-key", ""), "dedup_key must"),
        (("mail.send", "--delay", "99999999999999"), "100 years"),
    ],
)
def test_enqueue_refuses_what_producers_are_refused(soniqctl, database, arguments, problem):
    assert problem in soniqctl("enqueue", *arguments, expect=2).stderr


def test_queues_are_paused_and_resumed(soniqctl, enqueue):
    enqueue("a", "--queue", "mail")
    assert soniqctl("queues", "pause", "mail").stdout == "mail is paused\n"
    assert soniqctl("queues", "pause", "mail").stdout == "mail was paused already\n"
    [queue] = json.loads(soniqctl("queues", "list", "--json").stdout)
    assert (queue["queue"], queue["paused"], queue["queued"]) == ("mail", True, 1)
    assert soniqctl("queues", "list").stdout.splitlines()[1].split()[:3] == ["mail", "paused", "1"]
    assert soniqctl("queues", "resume", "mail").stdout == "mail is open\n"


# -- dead letters


def test_dead_letters_are_listed_without_control_characters(soniqctl, dead):
    header, row = soniqctl("dead-letter", "list").stdout.splitlines()
    assert header.split()[0] == "ID"
    assert row.split()[:4] == [dead, "mail.send", "default", "max_retries_exceeded"]
    assert row.endswith("RuntimeError: \\x1b[31mno")
    assert soniqctl("dead-letter", "list", "--name", "other").stdout == "no dead letters\n"


def test_further_lines_of_an_error_are_indented_below_its_first(soniqctl, dead):
    lines = soniqctl("jobs", "show", dead).stdout.splitlines()
    [at] = [at for at, line in enumerate(lines) if line.startswith("last_error")]
    assert lines[at].endswith("  RuntimeError: \\x1b[31mno")
    assert lines[at + 1] == " " * lines[at].index("RuntimeError") + "more"


def test_a_dry_run_replays_nothing(soniqctl, dead):
    assert soniqctl("dead-letter", "replay", "--all", "--dry-run").stdout.endswith("1 dead letter would be replayed\n")
    assert json.loads(soniqctl("jobs", "list", "--status", "queued", "--json").stdout) == []


@pytest.mark.parametrize("by_id", [True, False])
def test_replay_stores_a_new_job_and_keeps_the_dead_letter(soniqctl, dead, by_id):
    result = soniqctl("dead-letter", "replay", dead if by_id else "--all", "--json")
    new = json.loads(result.stdout)["replayed"][dead]
    assert json.loads(soniqctl("jobs", "show", new, "--json").stdout)["status"] == "queued"
    [letter] = json.loads(soniqctl("dead-letter", "list", "--json").stdout)
    assert letter["resurrection_count"] == 1


def test_all_replays_each_once_only(soniqctl, dead):
    soniqctl("dead-letter", "replay", "--all")
    assert soniqctl("dead-letter", "replay", "--all").stdout == "nothing to replay\n"


def test_replay_of_an_unknown_id_fails(soniqctl, database):
    assert "there is no such dead letter" in soniqctl("dead-letter", "replay", NO_JOB, expect=1).stderr


@pytest.mark.parametrize("arguments", [(), (NO_JOB, "--all"), (NO_JOB, "--queue", "q")])
def test_ambiguous_replays_are_wrong_usage(soniqctl, database, arguments):
    soniqctl("dead-letter", "replay", *arguments, expect=2)


def test_dead_letters_are_deleted(soniqctl, dead):
    assert soniqctl("dead-letter", "delete", dead).stdout == f"{dead} deleted\n"
    assert soniqctl("dead-letter", "list").stdout == "no dead letters\n"
    soniqctl("dead-letter", "delete", dead, expect=1)


# -- workers and schedules


def test_workers_are_inspected(soniqctl, database):
    database(claim_all)
    [worker] = json.loads(soniqctl("inspect", "--json").stdout)
    assert (worker["status"], worker["stale"], worker["concurrency"]) == ("active", False, 10)
    assert soniqctl("inspect", "--stale").stdout == "no stale workers\n"
    assert soniqctl("inspect", "--cleanup").stdout == "no stale workers\n"


def test_cleanup_requeues_the_jobs_of_lost_workers(soniqctl, enqueue, database, monkeypatch):
    job_id = enqueue("mail.send")
    database(claim_all)
    monkeypatch.setenv("SONIQ_HEARTBEAT_TIMEOUT", "1ms")
    assert "1 worker without a heartbeat" in soniqctl("inspect").stdout
    report = json.loads(soniqctl("inspect", "--cleanup", "--json").stdout)
    assert (report["requeued"], len(report["workers"])) == ([job_id], 1)
    assert json.loads(soniqctl("jobs", "show", job_id, "--json").stdout)["status"] == "queued"


def test_tasks_check_fails_while_nobody_knows_a_task(soniqctl, enqueue, database):
    assert "every queued job has a worker" in soniqctl("tasks-check").stdout
    enqueue("mail.send")
    assert json.loads(soniqctl("tasks-check", "--json", expect=1).stdout) == {"unclaimable": {"mail.send": 1}}
    database(claim_all)


def test_no_schedules(soniqctl, database):
    assert soniqctl("schedules", "list").stdout == "no schedules\n"
    assert soniqctl("inspect", "--schedules", "--json").stdout == "[]\n"
    for verb in ("pause", "resume", "remove"):
        assert "there is no such schedule" in soniqctl("schedules", verb, "x", expect=1).stderr


def test_schedules_are_paused_resumed_and_removed(soniqctl, database):
    from datetime import UTC, datetime

    from soniqd.model import ScheduleSpec

    spec = ScheduleSpec("nightly", "mail.send", "interval", "3600")
    database(lambda backend: backend.put_schedules([spec], {"nightly": datetime(2030, 1, 1, tzinfo=UTC)}))
    assert soniqctl("schedules", "pause", "nightly").stdout == "nightly is paused\n"
    [schedule] = json.loads(soniqctl("schedules", "list", "--json").stdout)
    assert (schedule["paused"], schedule["next_run"]) == (True, "2030-01-01T00:00:00+00:00")
    assert soniqctl("schedules", "list").stdout.splitlines()[1].split()[:5] == [
        "nightly",
        "mail.send",
        "every",
        "1h",
        "paused",
    ]
    assert soniqctl("schedules", "resume", "nightly").stdout == "nightly is active\n"
    assert soniqctl("schedules", "remove", "nightly").stdout == (
        "nightly removed; if it is still declared, it comes back with the next start: pause lasts\n"
    )
