"""What each key of soniq.toml needs to take effect: a reload that replaces children, a reload alone, or a restart.

Every key is in exactly one of these sets; a test walks the settings and holds them against what happens.
"""

from __future__ import annotations

from dataclasses import dataclass

from soniqd.policy.plan_diff import KeyChange
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.durations import format_duration

Key = tuple[str, str]

RESTART: frozenset[Key] = frozenset(
    {
        ("soniqd", "socket"),
        ("soniqd", "socket_group"),
        ("database", "url"),
        ("database", "connect_timeout"),
        ("database", "statement_timeout"),
    }
)
"""What the master holds for its whole life: its socket, and its connections."""

CHILDREN: frozenset[Key] = frozenset(
    {
        ("soniqd", "log_level"),
        ("soniqd", "log_format"),
        ("database", "pool_min_size"),
        ("jobs", "modules"),
        ("jobs", "path"),
        ("jobs", "python"),
        ("jobs", "timeout"),
        ("jobs", "result_ttl"),
        ("jobs", "max_retries"),
        ("jobs", "max_crashes"),
        ("jobs", "sync_handler_pool_size"),
        ("jobs", "poll_interval"),
        ("sweep", "heartbeat_interval"),
    }
)
"""What every child has from its start: a change replaces all of them."""

GROUPS: frozenset[Key] = frozenset(
    {
        ("soniqd", "drain_timeout"),
        ("database", "pool_max_size"),
        ("database", "pool_headroom"),
        ("scheduler", "enabled"),
    }
)
"""What groups' plans are made of, beside all of [[workers]]: a change replaces the groups that it reaches."""

MASTER: frozenset[Key] = frozenset(
    {
        ("soniqd", "probation"),
        ("soniqd", "failure_jump"),
        ("jobs", "import_timeout"),
        ("database", "max_connections"),
        ("sweep", "heartbeat_timeout"),
        ("sweep", "interval"),
    }
)
"""What the master goes by from the reload on, without a child that would have to know."""

SOURCES: frozenset[Key] = frozenset({("database", "url_file")})
"""Where values come from, like ``include``: what counts is the values."""

_SECRET = frozenset({("database", "url")})


@dataclass(frozen=True, slots=True)
class SettingsDiff:
    """The keys that differ, by what they need."""

    restart: tuple[KeyChange, ...]
    children: tuple[KeyChange, ...]
    master: tuple[KeyChange, ...]


def compare_settings(old: DaemonSettings, new: DaemonSettings) -> SettingsDiff:
    """Sort the keys that differ; those of groups are the plan's to compare (soniqd.policy.plan_diff)."""
    return SettingsDiff(*(_differing(old, new, keys) for keys in (RESTART, CHILDREN, MASTER)))


def _differing(old: DaemonSettings, new: DaemonSettings, keys: frozenset[Key]) -> tuple[KeyChange, ...]:
    return tuple(
        _change((table, name), getattr(getattr(old, table), name), getattr(getattr(new, table), name))
        for table, name in sorted(keys)
        if getattr(getattr(old, table), name) != getattr(getattr(new, table), name)
    )


def _change(key: Key, old: object, new: object) -> KeyChange:
    label = f"[{key[0]}] {key[1]}"
    if key in _SECRET:
        return KeyChange(label, "(not shown)", "(not shown)")
    return KeyChange(label, _worded(old), _worded(new))


def _worded(value: object) -> str:
    match value:
        case None:
            return "unset"
        case float():
            return format_duration(value)
        case tuple():
            return f"[{', '.join(str(item) for item in value)}]"
    return str(value)
