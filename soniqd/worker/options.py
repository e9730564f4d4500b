"""How one worker process runs jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Settings of one worker; the defaults are those of soniq.toml, and of the measurements behind the rest.

    ``queues`` empty claims from all. ``job_timeout_s`` counts for tasks without one of their own, 0 is no limit.
    ``result_ttl_s`` 0 keeps no row of a finished job. ``sync_threads`` is how many handlers without ``async`` run at
    once. ``max_crashes`` is what a release of this worker's leftovers passes on.
    """

    concurrency: int = 4
    queues: tuple[str, ...] = ()
    job_timeout_s: float = 300.0
    result_ttl_s: float = 300.0
    poll_interval_s: float = 5.0
    poll_turn: int = 1
    poll_turns: int = 1
    """Where so many workers of a group take turns at polling: the how manieth this one is."""
    sync_threads: int = 8
    max_crashes: int = 3
    snooze_max_s: float = 86400.0
    """Longest snooze; what a handler asks for beyond it is cut, before the database cannot hold it."""
    error_retry_s: float = 1.0
    """Longest pause before the next try while the database is away."""

    prefetch_max: int = 2000
    """Most jobs held ready beyond the free slots."""
    prefetch_s: float = 0.08
    """How much work is held ready, in seconds at the current rate. Half of it is claimed at a time: a claim or a write
    of 500 costs a third of what five of 100 do."""
    prefetch_ttl_s: float = 1.0
    """Jobs that were held ready for so long without a free slot go back for other workers."""

    write_batch: int = 500
    """Most outcomes in one write."""
    write_backlog_max: int = 2000
    """With so many outcomes unwritten, nothing more is claimed."""
    write_linger_s: float = 0.008
    """How long a batch may wait for company while many jobs are ending; a few are written at once."""
    write_grace_s: float = 10.0
    """How long the last outcomes may take to be written after a drain's deadline."""

    cancel_grace_s: float = 1.0
    """How long a cancelled handler may clean up before its job is given back all the same."""
    hook_timeout_s: float = 30.0
    """How long hooks after a run may hold its slot."""
