"""An event's definition, and how it reaches the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("soniqd")


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of event: its stable name, its level (as in ``logging``) and its wording, with fields in braces."""

    name: str
    level: int
    wording: str


def emit(event: Event, *, exc_info: bool | BaseException = False, **fields: Any) -> None:
    """Log one event. ``fields`` fill the wording and travel with the record as ``record.fields``."""
    if not logger.isEnabledFor(event.level):
        return
    message = event.wording.format_map(fields)
    logger.log(event.level, "%s", message, exc_info=exc_info or None, extra={"event": event.name, "fields": fields})
