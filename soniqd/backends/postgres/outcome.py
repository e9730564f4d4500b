"""Writing what became of jobs, each under its fence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal, assert_never

import psycopg
from psycopg import errors

from soniqd.backends.postgres.arrays import numbers, repeated, texts, words
from soniqd.backends.postgres.database import Database, Transaction
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.backends.postgres.failure import reason_of
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.records import storable_text
from soniqd.errors import DatabaseError, OutcomeRefusedError
from soniqd.model import DeadLettered, Done, JobId, Outcome, Released, Retry, Snoozed

_TWIN_ROUNDS = 3
"""How often a batch is repeated because a twin committed at the same moment, before its jobs give their keys up."""

# What the content of one row can make PostgreSQL say; a lost connection or a full disk is none of it.
_REFUSALS = (psycopg.DataError, psycopg.NotSupportedError, errors.ProgramLimitExceeded, errors.StatementTooComplex)

_JOB_ID = attrgetter("fence.job_id")
_COMPLETE_DONE = DirectStatement(SQL["complete_done"])


@dataclass(frozen=True, slots=True)
class Move:
    """One row of the statement ``complete_mixed``: where a job goes and what is counted.

    ``delay_s`` None: claimable at once, as if it had not been claimed. ``outcome_no`` None: not its claimant's word.
    ``words``: the result of a done job, the error of any other.
    """

    kind: Literal["done", "back", "dead"]
    job_id: JobId
    worker_id: str | None
    claim_no: int
    outcome_no: int | None = None
    attempts: int = 0
    crashes: int = 0
    interruptions: int = 0
    delay_s: float | None = None
    words: str | None = None
    reason: str | None = None
    ttl_s: float = 0.0


class PostgresOutcome:
    """The protocol's ``complete`` and ``settled``."""

    _database: Database

    async def complete(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        # In the order of their ids, so that two batches about the same jobs do not wait for each other in a circle.
        ordered = sorted(outcomes, key=_JOB_ID)
        if not ordered:
            return frozenset()
        try:
            return await self._write(ordered)
        except (DatabaseError, UnicodeEncodeError) as error:
            if not _is_refusal(error):
                raise
        return await self._write_one_by_one(ordered)

    async def settled(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        parameters = {
            "ids": [outcome.fence.job_id for outcome in outcomes],
            "claim_nos": [outcome.fence.claim_no for outcome in outcomes],
            "kept": [not isinstance(outcome, Done) or outcome.result_ttl_s > 0 for outcome in outcomes],
        }
        rows = await self._database.fetch(SQL["settled"], parameters, repeat=True)
        return frozenset(JobId(row[0]) for row in rows)

    async def _write_done(self, outcomes: Sequence[Done]) -> frozenset[JobId]:
        [(changed, ids)] = await self._database.run(_COMPLETE_DONE, _done_columns(outcomes))
        return frozenset([outcome.fence.job_id for outcome in outcomes] if changed == len(outcomes) else ids or ())

    async def _write(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        if done := _of_one_worker(outcomes):
            return await self._write_done(done)
        return await self._write_mixed([_move(outcome) for outcome in outcomes])

    async def _write_mixed(self, moves: Sequence[Move]) -> frozenset[JobId]:
        for last_round in (*[False] * _TWIN_ROUNDS, True):
            try:
                rows = await self._database.fetch(SQL["complete_mixed"], columns(moves, give_up_keys=last_round))
            except DatabaseError as error:
                if last_round or not isinstance(error.__cause__, errors.UniqueViolation):
                    raise
            else:
                return frozenset(JobId(row[0]) for row in rows)
        raise AssertionError

    async def _write_one_by_one(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        changed: set[JobId] = set()
        refused: dict[str, str] = {}
        for outcome in outcomes:
            try:
                changed |= await self._write_plainly(outcome)
            except (DatabaseError, UnicodeEncodeError) as error:
                if not _is_refusal(error):
                    raise
                refused[outcome.fence.job_id] = reason_of(error.__cause__ or error)
        if refused:
            raise OutcomeRefusedError(
                f"cannot store the outcome of {len(refused)} jobs: {next(iter(refused.values()))}",
                refused=refused,
                changed=frozenset(changed),
            )
        return frozenset(changed)

    async def _write_plainly(self, outcome: Outcome) -> frozenset[JobId]:
        if isinstance(outcome, Done):
            return await self._write([outcome])
        return await self._write_mixed([_plain(_move(outcome))])


async def write_moves(transaction: Transaction, moves: Sequence[Move], *, give_up_keys: bool) -> frozenset[JobId]:
    """Write moves within a transaction at hand; return the jobs that were changed."""
    rows = await transaction.fetch(SQL["complete_mixed"], columns(moves, give_up_keys=give_up_keys))
    return frozenset(JobId(row[0]) for row in rows)


def columns(moves: Iterable[Move], *, give_up_keys: bool) -> dict[str, Any]:
    """Return the parameters of ``complete_mixed``."""
    moves = list(moves)
    return {
        "kinds": words(move.kind for move in moves),
        "ids": words(move.job_id for move in moves),
        "worker_ids": words(move.worker_id for move in moves),
        "claim_nos": numbers(move.claim_no for move in moves),
        "outcome_nos": numbers(move.outcome_no for move in moves),
        "attempts": numbers(move.attempts for move in moves),
        "crashes": numbers(move.crashes for move in moves),
        "interruptions": numbers(move.interruptions for move in moves),
        "delays_s": numbers(move.delay_s for move in moves),
        "texts": texts(move.words for move in moves),
        "reasons": texts(move.reason for move in moves),
        "ttls_s": numbers(move.ttl_s for move in moves),
        "give_up_keys": give_up_keys,
    }


def _of_one_worker(outcomes: Sequence[Outcome]) -> list[Done]:
    """Return the outcomes if ``complete_done`` can write them: nothing but success, of one incarnation."""
    worker_id = outcomes[0].fence.worker_id
    done = [outcome for outcome in outcomes if isinstance(outcome, Done) and outcome.fence.worker_id == worker_id]
    return done if len(done) == len(outcomes) else []


def _done_columns(outcomes: Sequence[Done]) -> dict[str, str | None]:
    fences, results, ttls_s = zip(*outcomes, strict=True)
    ids, worker_ids, claim_nos = zip(*fences, strict=True)
    return {
        "worker_id": worker_ids[0],
        "ids": words(ids),
        "claim_nos": numbers(claim_nos),
        "results": texts(results),
        "ttls_s": repeated(ttls_s[0], len(ttls_s)) if len(set(ttls_s)) == 1 else numbers(ttls_s),
    }


def _move(outcome: Outcome) -> Move:
    fence = outcome.fence
    key = (fence.job_id, fence.worker_id, fence.claim_no, fence.claim_no)
    match outcome:
        case Done():
            return Move("done", *key, attempts=1, words=outcome.result_json, ttl_s=outcome.result_ttl_s)
        case Retry():
            return Move("back", *key, attempts=1, delay_s=outcome.delay_s, words=storable_text(outcome.error))
        case Snoozed():
            words = None if outcome.reason is None else storable_text(outcome.reason)
            return Move("back", *key, delay_s=outcome.delay_s, words=words)
        case DeadLettered():
            reason, words = storable_text(outcome.reason), storable_text(outcome.error)
            return Move("dead", *key, attempts=1, words=words, reason=reason)
        case Released():
            return Move("back", *key, interruptions=int(outcome.interrupted))
        case _:
            assert_never(outcome)


def _plain(move: Move) -> Move:
    """Spell an error text in ASCII, which a database of any encoding can store; a result stays what it is."""
    if move.kind == "done" or move.words is None:
        return move
    return replace(move, words=move.words.encode("ascii", "backslashreplace").decode())


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, UnicodeEncodeError) or isinstance(error.__cause__, _REFUSALS)
