"""``soniqctl jobs why``: in plain words why a job is where it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from soniqd.backends import StorageBackend
from soniqd.cli.explanations import Explanation, word
from soniqd.cli.known import similar_job
from soniqd.cli.options import JOB_ID, json_option
from soniqd.cli.render import print_fields, print_json, print_line
from soniqd.cli.session import Session
from soniqd.errors import ConfigurationError, ControlError, DaemonUnreachableError, DatabaseUnavailableError
from soniqd.log.redact import redact
from soniqd.model import JobFacts, JobId
from soniqd.policy.why import DaemonPresence, Limits, Reason, explain

_FAILED = frozenset({"unknown_job", "database_unreachable"})
_DAEMON_PATIENCE_S = 2.0
_LEAVING = frozenset({"stopping", "leaving"})


@dataclass(frozen=True, slots=True)
class _Found:
    facts: JobFacts | None
    similar: str


@click.command(short_help="Explain why a job is where it is.")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@json_option
@click.pass_obj
def why(session: Session, job_id: JobId) -> None:
    """Explain why a job waits, what runs it, or what became of it, and what to do about it.

    Fails if there is no such job, or if the database cannot be asked.
    """
    facts, reasons = _find_out(session, job_id)
    explanations = [word(reason, job_id, start=session.start_command) for reason in reasons]
    if session.as_json:
        print_json(_as_json(job_id, facts, explanations))
    else:
        _print(facts, explanations)
    if reasons[0].code in _FAILED:
        click.get_current_context().exit(1)


def _find_out(session: Session, job_id: JobId) -> tuple[JobFacts | None, tuple[Reason, ...]]:
    async def ask(backend: StorageBackend) -> _Found:
        facts = await backend.job_facts(job_id)
        return _Found(facts, "" if facts else await similar_job(backend, job_id))

    try:
        found = session.with_backend(ask)
    except DatabaseUnavailableError as error:
        return None, (Reason("database_unreachable", {"error": redact(str(error))}),)
    if found.facts is None:
        return None, (Reason("unknown_job", {"hint": found.similar} if found.similar else {}),)
    database = session.database
    limits = Limits(heartbeat_timeout_s=database.heartbeat_timeout_s, max_crashes=database.max_crashes)
    daemon = _presence(session) if found.facts.record["status"] == "queued" else "unknown"
    return found.facts, explain(found.facts, limits=limits, daemon=daemon)


def _presence(session: Session) -> DaemonPresence:
    """Look whether a daemon answers here, where one was set up to; a host without its configuration has none."""
    if session.config_path is None and not session.socket_named:
        return "unknown"
    try:
        answer = session.daemon().call("status", timeout_s=_DAEMON_PATIENCE_S)
    except DaemonUnreachableError as error:
        absent = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError | ConnectionRefusedError)
        return "absent" if absent else "unknown"
    except (ControlError, ConfigurationError):
        return "unknown"
    return "stopping" if answer.get("state") in _LEAVING else "running"


def _print(facts: JobFacts | None, explanations: list[Explanation]) -> None:
    first, *others = explanations
    if facts is not None:
        record = facts.record
        print_fields([("job", f"{record['job_name']} in queue {record['queue']}, {record['status']}")])
    print_line(first.summary, tone=first.tone)
    for other in others:
        print_line(f"also: {other.summary}", tone=other.tone)
    for explanation in explanations:
        for advice in explanation.advice:
            print_line(f"-> {advice}")


def _as_json(job_id: JobId, facts: JobFacts | None, explanations: list[Explanation]) -> dict[str, Any]:
    first = explanations[0]
    return {
        "id": job_id,
        "code": first.code,
        "summary": first.summary,
        "advice": list(dict.fromkeys(advice for explanation in explanations for advice in explanation.advice)),
        "reasons": [
            {"code": one.code, "summary": one.summary, "advice": list(one.advice), "facts": one.facts}
            for one in explanations
        ],
        "job": None if facts is None else facts.record,
    }
