"""``soniqctl jobs why``: its words, its advice, its codes."""

from __future__ import annotations

import ast
import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soniqd.cli import explanations
from soniqd.cli.wording import moment
from soniqd.control import surroundings
from soniqd.control.identity import current_identity
from soniqd.model import (
    DeadLettered,
    Done,
    JobStatus,
    Retry,
    Snoozed,
    TaskDefaults,
    WorkerId,
    WorkerRecord,
    WorkerStatus,
)
from soniqd.policy import why as policy
from tests.cli.test_database_commands import NO_JOB, database, enqueue
from tests.unit.policy.test_why import STATES

__all__ = ["database", "enqueue"]  # fixtures


def worker(**changes: Any) -> WorkerRecord:
    record = WorkerRecord(WorkerId(str(uuid.uuid4())), current_identity(), (), 2, version="1", slot="default/1")
    return replace(record, **changes)


@pytest.fixture
def up(database):
    """Register workers, and give back what they are."""

    def register(*names: str, defaults: TaskDefaults | None = None, **changes: Any) -> WorkerRecord:
        record = worker(**changes)

        async def act(backend):
            said = dict.fromkeys(names, defaults) if defaults else None
            await backend.register_worker(record, names=names, defaults=said)

        database(act)
        return record

    return register


@pytest.fixture
def claim(database):
    def take(record: WorkerRecord):
        async def act(backend):
            [claimed] = await backend.claim(record.id, names=None, queues=None, limit=1)
            return claimed

        return database(act)

    return take


@pytest.fixture
def complete(database):
    def write(outcome):
        async def act(backend):
            await backend.complete([outcome])

        database(act)

    return write


@pytest.fixture
def why(soniqctl):
    """Ask in both ways: the words for people, and the answer for programs."""

    def ask(job_id: str, expect: int = 0) -> tuple[str, dict[str, Any]]:
        text = soniqctl("jobs", "why", job_id, expect=expect).stdout
        answer = json.loads(soniqctl("jobs", "why", job_id, "--json", expect=expect).stdout)
        assert answer["id"] == job_id
        assert answer["reasons"][0]["code"] == answer["code"]
        return text, answer

    return ask


def test_every_reason_has_words_and_every_word_a_reason() -> None:
    tree = ast.parse(Path(policy.__file__).read_text())
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    of_the_command = {"database_unreachable", "unknown_job"}
    of_the_status = {JobStatus.DONE.value, JobStatus.CANCELLED.value}
    assert set(explanations._WORDS) <= constants | of_the_command | of_the_status
    codes = {code for parameters in STATES for code in parameters[1]} | of_the_command | {"daemon_not_running"}
    assert codes == set(explanations._WORDS)


def test_a_job_that_can_be_claimed_says_its_place(why, enqueue, up):
    enqueue("mail.send")
    second = enqueue("mail.send")
    up("mail.send")
    text, answer = why(second)
    assert text.splitlines() == [
        "job  mail.send in queue default, queued",
        "it can be claimed now: 1 job is ahead of it in its queue, 2 slots free",
    ]
    assert answer["code"] == "claimable"
    assert answer["reasons"][0]["facts"]["ahead"] == 1


def test_a_paused_queue_and_how_to_resume_it(why, enqueue, up, soniqctl):
    job_id = enqueue("mail.send", "--queue", "mail")
    up("mail.send")
    soniqctl("queues", "pause", "mail")
    text, answer = why(job_id)
    assert "its queue mail is paused" in text
    assert "-> soniqctl queues resume mail" in text
    assert answer["code"] == "queue_paused"
    assert answer["advice"] == ["soniqctl queues resume mail"]
    assert "it can be claimed now" not in text


def test_no_worker_and_no_daemon_here(why, enqueue):
    text, answer = why(enqueue("mail.send"))
    assert "no worker is up on any host, and soniqd is not running on this one" in text
    assert "-> here, or on the host that is to run it: soniqd -c FILE (or start its container, " in text
    assert answer["code"] == "daemon_not_running"


def test_no_worker_though_the_daemon_runs(why, enqueue, master):
    master.answers["status"] = {}
    text, answer = why(enqueue("mail.send"))
    assert "no worker is up on any host" in text
    assert answer["code"] == "no_worker"


def test_without_systemd_the_configuration_that_was_named_starts_it(why, enqueue, soniqctl, tmp_path, monkeypatch):
    config = tmp_path / "soniq.toml"
    config.write_text("")
    job_id = enqueue("mail.send")
    assert f": soniqd -c {config} (" in soniqctl("-c", str(config), "jobs", "why", job_id).stdout
    monkeypatch.setattr(surroundings, "BOOTED", tmp_path)
    assert f": soniqd -c {config} (" in soniqctl("-c", str(config), "jobs", "why", job_id).stdout
    of_a_service = ("-c", str(config), "--socket", "/run/soniq-of-nobody/s.sock")
    assert ": systemctl start soniqd\n" in soniqctl(*of_a_service, "jobs", "why", job_id).stdout


def test_after_stop_a_job_waits_for_another_daemon(why, enqueue, up, master):
    up("mail.send", status=WorkerStatus.STOPPING)
    master.answers["status"] = {"state": "stopping"}
    text, answer = why(enqueue("mail.send"))
    assert "the only worker that could run it is stopping, and so is soniqd on this host\n-> when it is gone: " in text
    assert answer["code"] == "workers_stopping"


def test_after_the_last_worker_has_left_a_stopping_daemon(why, enqueue, master):
    master.answers["status"] = {"state": "stopping"}
    text, answer = why(enqueue("mail.send"))
    assert "no worker is up on any host, and soniqd is stopping on this one" in text
    assert answer["code"] == "daemon_not_running"


def test_workers_of_a_daemon_that_has_died_and_stop(why, enqueue, up):
    up("mail.send", status=WorkerStatus.STOPPING)
    up("mail.send", status=WorkerStatus.STOPPING)
    text, _ = why(enqueue("mail.send"))
    assert "all 2 workers that could run it are stopping, and soniqd is not running on this host\n-> soniqd -c" in text


def test_workers_that_stop_may_be_replaced_or_not(why, enqueue, up, master):
    """Nobody knows what happens on other hosts: both causes are told."""
    up("mail.send", status=WorkerStatus.STOPPING)
    master.answers["status"] = {"state": "running"}
    text, answer = why(enqueue("mail.send"))
    host = current_identity().hostname
    assert "the only worker that could run it is stopping\n" in text
    assert answer["advice"][0] == "if they are being replaced (reload, restart), their replacements take it in a moment"
    assert answer["advice"][1].startswith(f"if soniqd is being stopped on {host}, it waits until one is started: ")


def test_a_task_that_nobody_knows(why, enqueue, up):
    up("other")
    text, answer = why(enqueue("mail.send"))
    assert "no worker that is up knows the task mail.send (1 worker is up)" in text
    assert answer["code"] == "unknown_task"


def test_a_queue_that_nobody_serves(why, enqueue, up):
    up("mail.send", queues=("bulk", "default"))
    text, answer = why(enqueue("mail.send", "--queue", "mail"))
    assert "no worker that is up serves its queue mail; they serve bulk, default" in text
    assert answer["code"] == "queue_unserved"


def test_a_drained_group_and_how_to_resume_it(why, enqueue, up):
    up("mail.send", metadata={"paused": True}, slot="bulk/1")
    text, answer = why(enqueue("mail.send"))
    host = current_identity().hostname
    assert f"the workers that could run it are drained: bulk on {host}" in text
    assert answer["advice"] == [f"on {host}: soniqctl resume bulk"]
    assert answer["code"] == "group_drained"


def test_busy_workers(why, enqueue, up, claim):
    record = up("mail.send", concurrency=1)
    enqueue("mail.send")
    claim(record)
    text, answer = why(enqueue("mail.send"))
    assert "all 1 slot of the 1 worker that could run it are in use; it is the first of its queue" in text
    assert answer["code"] == "workers_busy"


def test_a_time_to_come(why, enqueue, up):
    up("mail.send")
    text, answer = why(enqueue("mail.send", "--delay", "1h"))
    at = answer["reasons"][0]["facts"]["at"]
    assert f"it is to run at {moment(at)}, in 59m" in text or f"it is to run at {moment(at)}, in 1h" in text
    assert answer["code"] == "scheduled"


def test_a_retry_backoff_tells_attempt_error_and_time(why, enqueue, up, claim, complete):
    job_id = enqueue("mail.send")
    claimed = claim(up("mail.send"))
    complete(Retry(claimed.fence, 600.0, "Traceback (most recent call last):\n  ...\nRuntimeError: no \x1b[31m"))
    text, answer = why(job_id)
    assert "attempt 1 of 4 failed; the next one is at " in text
    assert "the error was: RuntimeError: no \\x1b[31m" in text
    assert answer["code"] == "retry_backoff"
    assert answer["advice"] == [f"to give it up: soniqctl jobs cancel {job_id}"]


def test_a_job_that_its_handler_put_off(why, enqueue, up, claim, complete):
    job_id = enqueue("mail.send")
    claimed = claim(up("mail.send"))
    complete(Snoozed(claimed.fence, 600.0, "the mail server asks to come later"))
    text, answer = why(job_id)
    assert "the mail server asks to come later" in text
    assert answer["code"] == "snoozed"


def test_a_key_tells_what_later_enqueues_get(why, enqueue, up):
    up("mail.send")
    text, answer = why(enqueue("mail.send", "--dedup-key", "k1"))
    assert "an enqueue with the dedup key k1 stores nothing and gets this job's id" in text
    assert [reason["code"] for reason in answer["reasons"]] == ["claimable", "holds_key"]


def test_a_run_tells_where_and_since_when(why, enqueue, up, claim):
    job_id = enqueue("mail.send")
    record = up("mail.send", defaults=TaskDefaults(timeout_s=60.0))
    claim(record)
    text, answer = why(job_id)
    process = record.process
    assert f"it runs in worker default/1 on {process.hostname} (pid {process.pid}) since " in text
    assert "its timeout of 1m is over in 59s" in text or "its timeout of 1m is over in 1m" in text
    assert answer["code"] == "running"
    assert answer["reasons"][0]["facts"]["timeout_s"] == 60.0


def test_a_suspect_waits_to_run_alone(why, enqueue, up, claim, database):
    job_id, _ = enqueue("mail.send"), enqueue("mail.send")
    dead = up("mail.send")
    claim(dead)

    async def crash(backend):
        await backend.release_workers([dead.id], cause="crash", max_crashes=3, error="signal 9")

    database(crash)
    record = up("mail.send")
    assert "1 worker died while running it: it runs alone, and after 3 it is a dead letter" in why(job_id)[0]
    claim(record)
    claim(record)
    text, answer = why(job_id)
    assert "waits to run alone, since 1 worker died while running it: 1 other job there must end before" in text
    assert answer["code"] == "suspect_waiting"


def test_a_run_whose_worker_is_gone(why, enqueue, up, claim, database):
    job_id = enqueue("mail.send")
    record = up("mail.send")
    claim(record)

    async def stop(backend):
        await backend.set_worker_status([record.id], WorkerStatus.STOPPED)

    database(stop)
    text, answer = why(job_id)
    assert f"its worker {record.id} is gone" in text
    assert answer["code"] == "worker_gone"


def test_what_became_of_it(why, enqueue, up, claim, complete, soniqctl):
    record = up("mail.send")
    done, dead, cancelled = enqueue("mail.send"), enqueue("mail.send"), enqueue("mail.send")
    complete(Done(claim(record).fence, None, 300.0))
    complete(DeadLettered(claim(record).fence, "max_retries_exceeded", "RuntimeError: no\n  File mail.py"))
    soniqctl("jobs", "cancel", cancelled)
    assert why(done)[1]["code"] == "done"
    assert "it was done at " in why(done)[0]
    assert why(cancelled)[1]["code"] == "cancelled"
    text, answer = why(dead)
    assert (
        "all its attempts failed (max_retries_exceeded; 1 of 4 attempts, 0 crashes); the last error: RuntimeError: no"
        in text
    )
    assert answer["advice"][0].endswith(f"soniqctl dead-letter replay {dead}")
    assert answer["code"] == "dead_letter"


def test_an_unknown_job_may_have_expired(why, database):
    text, answer = why(NO_JOB, expect=1)
    assert "there is no such job: it never was, was deleted, or is done and its result has expired" in text
    assert answer["code"] == "unknown_job"
    assert answer["job"] is None


def test_a_database_that_cannot_be_asked(soniqctl):
    arguments = ["--database-url", "postgresql://u:secret@127.0.0.1:1/d", "jobs", "why", NO_JOB]
    answer = json.loads(soniqctl(*arguments, "--json", expect=1).stdout)
    assert answer["code"] == "database_unreachable"
    text = soniqctl(*arguments, expect=1).stdout
    assert text.startswith("the database cannot be asked: ")
    assert "secret" not in text
