"""What the master knows, beyond what the machine says, of why a reload or a restart was taken back."""

from __future__ import annotations

from soniqd.policy.supervision.failure_jump import FAILED_IN
from soniqd.policy.supervision.life import NOT_READY


def explained(reason: str, *, database_error: str | None) -> str:
    """Add the cause, or where it can be read; ``database_error`` is why the database is down, None while it is up."""
    if NOT_READY in reason and database_error is not None:
        return f"{reason}: the database is down: {database_error}"
    if FAILED_IN in reason:
        return f"{reason}; their errors are in soniqd's log, those without another attempt in soniqctl dead-letter list"
    return reason
