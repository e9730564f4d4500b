"""Whether a connection pool can serve a worker's concurrency."""

from __future__ import annotations


def pool_problem(*, concurrency: int, pool_max_size: int, pool_headroom: int) -> str | None:
    """Word what is wrong, or return None: each concurrent job may hold one connection, ``pool_headroom`` are ours."""
    needed = concurrency + pool_headroom
    if pool_max_size >= needed:
        return None
    return (
        f"Connection pool too small: concurrency {concurrency} and pool_headroom {pool_headroom} need {needed} "
        f"connections, and pool_max_size is {pool_max_size}"
    )
