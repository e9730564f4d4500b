"""The words for each reason of :mod:`soniqd.policy.why`, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from soniqd.cli.render import Tone
from soniqd.cli.wording import count, duration, moment
from soniqd.model import JobId
from soniqd.policy.why import Reason

Facts = Mapping[str, Any]
Words = tuple[str, tuple[str, ...]]
"""A sentence, and what to do."""

_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reason in words."""

    code: str
    summary: str
    advice: tuple[str, ...]
    facts: dict[str, Any]
    tone: Tone


def word(reason: Reason, job_id: JobId, *, start: str = "soniqd -c FILE") -> Explanation:
    """Put a reason into words; ``start`` is what starts the daemon of this host."""
    tone, words = _WORDS[reason.code]
    summary, advice = words(reason.facts)
    told = tuple(line.replace("{id}", job_id).replace("{start}", start) for line in advice)
    return Explanation(reason.code, summary, told, reason.facts, tone)


def _scheduled(facts: Facts) -> Words:
    return f"it is to run at {moment(facts['at'])}, in {duration(facts['in_s'])}", ()


def _retry_backoff(facts: Facts) -> Words:
    summary = (
        f"attempt {facts['attempts']} of {facts['max_attempts']} failed; the next one is at {moment(facts['at'])}, "
        f"in {duration(facts['in_s'])}; the error was: {_error(facts)}"
    )
    return summary, ("to give it up: soniqctl jobs cancel {id}",)


def _snoozed(facts: Facts) -> Words:
    return (
        f"its handler put it off until {moment(facts['at'])}, in {duration(facts['in_s'])}: {facts['last_words']}",
        (),
    )


def _due(facts: Facts) -> Words:
    summary = f"its time came {duration(-facts['in_s'])} ago, and it becomes claimable in a moment"
    return summary, ("if it stays so, no soniqd and no worker with tasks is up: soniqctl inspect",)


def _queue_paused(facts: Facts) -> Words:
    return f"its queue {facts['queue']} is paused", (f"soniqctl queues resume {facts['queue']}",)


def _daemon_not_running(facts: Facts) -> Words:
    condition = "stopping" if facts.get("daemon") == "stopping" else "not running"
    summary = f"no worker is up on any host{_lost(facts)}, and soniqd is {condition} on this one"
    return summary, ("here, or on the host that is to run it: {start}",)


def _no_worker(facts: Facts) -> Words:
    advice = "soniqctl status shows why none is up here; where a daemon has to be and is not: {start}"
    return f"no worker is up on any host{_lost(facts)}", (advice,)


def _lost(facts: Facts) -> str:
    return f" ({count(facts['lost_workers'], 'worker')} fell silent)" if facts["lost_workers"] else ""


def _unknown_task(facts: Facts) -> Words:
    up = facts["workers"]
    summary = f"no worker that is up knows the task {facts['job_name']} ({count(up, 'worker is', 'workers are')} up)"
    return summary, (
        "deploy the code that declares it and soniqctl reload, or correct the name where it is enqueued",
        f"of a wrong name: soniqctl jobs list --name {facts['job_name']} lists its jobs, jobs cancel ID takes one back",
        "soniqctl tasks-check lists all such tasks",
    )


def _queue_unserved(facts: Facts) -> Words:
    served = ", ".join(facts["served"])
    summary = f"no worker that is up serves its queue {facts['queue']}; they serve {served}"
    return summary, (f"add {facts['queue']} to the queues of a [[workers]] group and soniqctl reload",)


def _task_elsewhere(facts: Facts) -> Words:
    served = ", ".join(facts["served"])
    summary = f"the workers that know {facts['job_name']} do not serve its queue {facts['queue']}; they serve {served}"
    return summary, (f"add {facts['queue']} to their queues, or enqueue it into one that they serve",)


def _workers_stopping(facts: Facts) -> Words:
    number = facts["workers"]
    summary = "the only worker that could run it is" if number == 1 else f"all {number} workers that could run it are"
    match facts["daemon"]:
        case "stopping":
            return f"{summary} stopping, and so is soniqd on this host", ("when it is gone: {start}",)
        case "absent":
            return f"{summary} stopping, and soniqd is not running on this host", ("{start}",)
    return f"{summary} stopping", (
        "if they are being replaced (reload, restart), their replacements take it in a moment",
        f"if soniqd is being stopped on {', '.join(facts['hosts'])}, it waits until one is started: {{start}}",
    )


def _group_drained(facts: Facts) -> Words:
    groups, hosts = ", ".join(facts["groups"]), ", ".join(facts["hosts"])
    advice = tuple(f"on {hosts}: soniqctl resume {group}" for group in facts["groups"])
    return f"the workers that could run it are drained: {groups} on {hosts}", advice


def _workers_busy(facts: Facts) -> Words:
    summary = (
        f"all {count(facts['slots'], 'slot')} of the {count(facts['workers'], 'worker')} that could run it are in use; "
        f"{_ahead(facts)}"
    )
    return summary, ("wait, or give the group more processes or concurrency; soniqctl top shows what takes so long",)


def _claimable(facts: Facts) -> Words:
    return f"it can be claimed now: {_ahead(facts)}, {count(facts['free_slots'], 'slot')} free", ()


def _overdue(facts: Facts) -> Words:
    summary = (
        f"it is the first of its queue, {count(facts['free_slots'], 'slot')} are free, and yet nobody has taken it "
        f"for {duration(facts['waited_s'])}"
    )
    return summary, (
        "soniqctl health --ready tells which group does not look for work, soniqctl stacks WORKER what it does",
        "for handlers without async: all threads of the workers may be in use ([jobs] sync_handler_pool_size)",
    )


def _ahead(facts: Facts) -> str:
    if not facts["ahead"]:
        return "it is the first of its queue"
    number = f"{facts['ahead']}+ jobs are" if facts["ahead_more"] else f"{count(facts['ahead'], 'job')} "
    verb = "" if facts["ahead_more"] else ("is" if facts["ahead"] == 1 else "are")
    return f"{number}{verb} ahead of it in its queue"


def _suspect(facts: Facts) -> Words:
    crashes = count(facts["crashes"], "worker")
    summary = f"{crashes} died while running it: it runs alone, and after {facts['max_crashes']} it is a dead letter"
    return summary, ()


def _failed_before(facts: Facts) -> Words:
    return f"{facts['attempts']} of {facts['max_attempts']} attempts failed, the last with: {_error(facts)}", ()


def _holds_key(facts: Facts) -> Words:
    keys = []
    if facts["dedup_key"] is not None:
        keys.append(f"with the dedup key {facts['dedup_key']}")
    if facts["unique"]:
        keys.append("of the same task with the same arguments, if it asks to be unique,")
    return f"as long as it is queued, an enqueue {' or '.join(keys)} stores nothing and gets this job's id", ()


def _running(facts: Facts) -> Words:
    return (
        f"it runs {_where(facts)} since {moment(facts['since'])}, for {duration(facts['ran_s'])} ({_limit(facts)})",
        (),
    )


def _running_too_long(facts: Facts) -> Words:
    summary = (
        f"it runs {_where(facts)} for {duration(facts['ran_s'])}, {duration(facts['over_s'])} beyond its timeout of "
        f"{duration(facts['timeout_s'])}: its code does not let itself be stopped"
    )
    return summary, (f"on {facts['hostname']}: soniqctl stacks {_name(facts)} shows where it is",)


def _limit(facts: Facts) -> str:
    if facts["timeout_s"] is None:
        return "it has no timeout" if facts["limit_known"] else "its timeout is not known here"
    return f"its timeout of {duration(facts['timeout_s'])} is over in {duration(-facts['over_s'])}"


def _suspect_waiting(facts: Facts) -> Words:
    summary = (
        f"it is held {_where(facts)} and waits to run alone, since {count(facts['crashes'], 'worker')} died while "
        f"running it: {count(facts['others'], 'other job')} there must end before"
    )
    return summary, ()


def _worker_draining(facts: Facts) -> Words:
    return f"worker {_name(facts)} is draining: what has not ended when it leaves goes back to the queue", ()


def _worker_gone(facts: Facts) -> Words:
    summary = f"its worker {facts['worker_id'] or '(unknown)'} is gone, and nobody has requeued it yet"
    return summary, ("soniqd does that the moment it can reach the database; soniqctl inspect --cleanup does it now",)


def _worker_lost(facts: Facts) -> Words:
    summary = (
        f"it is held {_where(facts)}, which has been silent for {duration(facts['silent_s'])}, more than the "
        f"{duration(facts['timeout_s'])} after which a worker counts as lost"
    )
    return summary, ("the next sweep requeues it; soniqctl inspect --cleanup does it now",)


def _done(facts: Facts) -> Words:
    kept = f", kept until {moment(facts['kept_until'])}" if facts["kept_until"] else ""
    return f"it was done at {moment(facts['at'])} after {duration(facts['ran_s'])}{kept}", (
        "soniqctl jobs show {id} shows its result",
    )


def _cancelled(facts: Facts) -> Words:
    return f"it was cancelled at {moment(facts['at'])}; it will not run", ()


_BURIALS = {
    "max_retries_exceeded": "all its attempts failed",
    "timeout": "its last attempt took longer than its timeout",
    "permanent_failure": "its retry policy gave up",
    "invalid_arguments": "its handler cannot be called with its arguments",
    "worker_lost": "the workers that ran it died",
}


def _dead_letter(facts: Facts) -> Words:
    because = _BURIALS.get(facts["reason"], str(facts["reason"]))
    counted = f"{facts['attempts']} of {facts['max_attempts']} attempts, {count(facts['crashes'], 'crash', 'crashes')}"
    replayed = f"; it was replayed {count(facts['replayed'], 'time')}" if facts["replayed"] else ""
    summary = (
        f"it is a dead letter since {moment(facts['at'])}: {because} ({facts['reason']}; {counted}){replayed}; "
        f"the last error: {_error(facts)}"
    )
    return summary, (
        "when the cause is removed: soniqctl dead-letter replay {id}",
        "or: soniqctl dead-letter delete {id}",
    )


def _unknown_job(facts: Facts) -> Words:
    summary = "there is no such job: it never was, was deleted, or is done and its result has expired"
    return f"{summary}{facts.get('hint', '')}", (
        "a finished job is kept for [jobs] result_ttl (five minutes by default), or for what its task says",
        "is this the right database? soniqctl config show tells which one is used",
    )


def _database_unreachable(facts: Facts) -> Words:
    return f"the database cannot be asked: {facts['error']}", (
        "nothing is claimed until it is back, and nothing is lost; soniqctl status shows what the daemon sees",
    )


def _where(facts: Facts) -> str:
    return f"in worker {_name(facts)} on {facts['hostname']} (pid {facts['pid']})"


def _name(facts: Facts) -> str:
    return str(facts["slot"] or facts["worker_id"])


def _error(facts: Facts) -> str:
    """The first line is the exception, or how the worker ended; a plain traceback has its exception last."""
    lines = str(facts["last_error"] or "").strip().splitlines()
    if not lines:
        return "-"
    line = lines[-1] if lines[0].startswith("Traceback ") else lines[0]
    return line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}..."


_WORDS: dict[str, tuple[Tone, Callable[[Facts], Words]]] = {
    "cancelled": ("plain", _cancelled),
    "claimable": ("good", _claimable),
    "daemon_not_running": ("bad", _daemon_not_running),
    "database_unreachable": ("bad", _database_unreachable),
    "dead_letter": ("bad", _dead_letter),
    "done": ("good", _done),
    "due": ("good", _due),
    "failed_before": ("plain", _failed_before),
    "group_drained": ("warn", _group_drained),
    "holds_key": ("plain", _holds_key),
    "no_worker": ("bad", _no_worker),
    "overdue": ("bad", _overdue),
    "queue_paused": ("warn", _queue_paused),
    "queue_unserved": ("bad", _queue_unserved),
    "retry_backoff": ("warn", _retry_backoff),
    "running": ("good", _running),
    "running_too_long": ("bad", _running_too_long),
    "scheduled": ("good", _scheduled),
    "snoozed": ("good", _snoozed),
    "suspect": ("warn", _suspect),
    "suspect_waiting": ("warn", _suspect_waiting),
    "task_elsewhere": ("bad", _task_elsewhere),
    "unknown_job": ("bad", _unknown_job),
    "unknown_task": ("bad", _unknown_task),
    "worker_draining": ("warn", _worker_draining),
    "worker_gone": ("bad", _worker_gone),
    "worker_lost": ("bad", _worker_lost),
    "workers_busy": ("warn", _workers_busy),
    "workers_stopping": ("warn", _workers_stopping),
}
