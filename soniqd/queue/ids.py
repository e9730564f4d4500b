"""Job ids: UUIDs of version 7 (RFC 9562, section 5.7), so that new rows land together in an index."""

from __future__ import annotations

import os
import time
from uuid import UUID

from soniqd.model import JobId

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_MASK = (1 << 74) - 1
_RAND_B_MASK = (1 << 62) - 1


def new_job_id() -> JobId:
    """Return a fresh id: 48 bits of Unix milliseconds, then 74 random bits.

    All randomness comes from the kernel at each call, so that a forked process cannot repeat its parent's.
    """
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM_MASK
    value = (
        (time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF) << 80
        | _VERSION
        | (random >> 62) << 64
        | _VARIANT
        | random & _RAND_B_MASK
    )
    text = f"{value:032x}"
    return JobId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")


def parse_job_id(value: str | UUID) -> JobId | None:
    """Return the canonical text of an id; None for what no job can have as its id."""
    try:
        return JobId(str(value if isinstance(value, UUID) else UUID(value)))
    except (ValueError, AttributeError, TypeError):
        return None
