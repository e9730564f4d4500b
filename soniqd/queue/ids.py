"""Job ids: UUIDs of version 7 (RFC 9562, section 5.7), so that new rows land together in an index."""

from __future__ import annotations

import os
import time
from uuid import UUID

from soniqd.model import JobId

_VARIANTS = "89ab"


def new_job_id() -> JobId:
    """Return a fresh id: 48 bits of Unix milliseconds, then 74 random bits.

    All randomness comes from the kernel at each call, so that a forked process cannot repeat its parent's.
    """
    random = os.urandom(10)
    return _formatted(f"{time.time_ns() // 1_000_000:012x}", random[0] & 3, random.hex())


def new_job_ids(count: int) -> list[JobId]:
    """Return fresh ids of one moment, for which the kernel and the clock are asked once.

    They are in order, so that jobs of a bulk sort by id as they do by arrival: lists are found by the one and sorted
    by the other.
    """
    millis = f"{time.time_ns() // 1_000_000:012x}"
    random = os.urandom(10 * count)
    digits = random.hex()
    return sorted(
        _formatted(millis, random[start] & 3, digits[2 * start : 2 * start + 20]) for start in range(0, 10 * count, 10)
    )


def _formatted(millis: str, variant: int, digits: str) -> JobId:
    """Put version and variant where they belong; of 20 random digits the first one is left out."""
    return JobId(f"{millis[:8]}-{millis[8:]}-7{digits[2:5]}-{_VARIANTS[variant]}{digits[5:8]}-{digits[8:20]}")


def parse_job_id(value: str | UUID) -> JobId | None:
    """Return the canonical text of an id; None for what no job can have as its id."""
    try:
        return JobId(str(value if isinstance(value, UUID) else UUID(value)))
    except (ValueError, AttributeError, TypeError):
        return None
