"""Hand the daemon's settings to another process as plain JSON: secrets included, so over a private socket only."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from soniqd.errors import ConfigurationError
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.problems import dotted, expectation


def dump_settings(settings: DaemonSettings) -> dict[str, Any]:
    """Return the settings as JSON values."""
    return settings.model_dump(mode="json")


def restore_settings(values: dict[str, Any]) -> DaemonSettings:
    """Read what ``dump_settings`` gave; raises ConfigurationError, as when a daemon of another release wrote it."""
    try:
        return DaemonSettings.model_validate(values)
    except ValidationError as error:
        problems = tuple(f"{dotted(e['loc'])}: {expectation(e)}" for e in error.errors())
        raise ConfigurationError("cannot read the daemon's settings: " + "; ".join(problems), problems) from None
