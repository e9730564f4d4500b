"""Hand the daemon's settings to another process as plain JSON: secrets included, so over a private socket only."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from soniqd.errors import ConfigurationError
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.problems import dotted
from soniqd.settings.reading import MistakesError, read_settings


def dump_settings(settings: DaemonSettings) -> dict[str, Any]:
    """Return the settings as JSON values."""
    plain: dict[str, Any] = dump(settings)
    return plain


def restore_settings(values: dict[str, Any]) -> DaemonSettings:
    """Read what ``dump_settings`` gave; raises ConfigurationError, as when a daemon of another release wrote it."""
    try:
        return read_settings(DaemonSettings, values, strict=True)
    except MistakesError as error:
        problems = tuple(f"{dotted(mistake.loc)}: {mistake.text}" for mistake in error.mistakes)
        raise ConfigurationError("cannot read the daemon's settings: " + "; ".join(problems), problems) from None


def dump(value: Any) -> Any:
    """Return settings, a table of them or one value as JSON values."""
    if is_dataclass(value):
        return {field.name: dump(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list | tuple):
        return [dump(item) for item in value]
    return str(value) if isinstance(value, Path) else value
