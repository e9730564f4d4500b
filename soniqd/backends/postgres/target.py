"""What a database URL says: how to connect, and how to speak of it without its password."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from soniqd.errors import ConfigurationError
from soniqd.log.redact import redact

# Half-open connections are found within about 25 s of silence, unsent data within 15 s (tcp(7)).
_DEFAULTS: Mapping[str, Any] = {
    "application_name": "soniqd",
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_PREPARE_AFTER = 2
_NEVER = ("none", "off", "disable", "0")


@dataclass(frozen=True, slots=True)
class Target:
    """Connection parameters. ``prepare_threshold`` None: nothing is prepared.

    ``keeps_sessions`` is what the URL says by its ``prepare_threshold``: sessions are whole if there is a number, a
    pooler in transaction mode is in between if there is none. None: to be found out.
    """

    parameters: Mapping[str, Any] = field(repr=False)
    prepare_threshold: int | None
    location: str
    keeps_sessions: bool | None = None

    @property
    def database(self) -> str:
        """The database's name, found as libpq finds it (PostgreSQL manual, section 34.1.2)."""
        name = self.parameters.get("dbname") or os.environ.get("PGDATABASE")
        return str(name or self.parameters.get("user") or os.environ.get("PGUSER") or getpass.getuser())

    def for_database(self, name: str) -> Target:
        return replace(self, parameters=MappingProxyType({**self.parameters, "dbname": name}))


def parse_target(url: str, *, connect_timeout_s: float) -> Target:
    """Read a URL; raises ConfigurationError. What the URL says wins over our defaults."""
    _refuse_unescaped(url)
    url, prepare_threshold, is_given = _split_threshold(url)
    try:
        given = conninfo_to_dict(url)
    except (psycopg.ProgrammingError, UnicodeError) as error:
        raise ConfigurationError(f"cannot use the database url: {_harmless(error, url)}") from None
    timeout_s = max(1, round(connect_timeout_s))
    parameters = {**_DEFAULTS, "connect_timeout": timeout_s, **given, "client_encoding": "utf8"}
    keeps_sessions = prepare_threshold is not None if is_given else None
    return Target(MappingProxyType(parameters), prepare_threshold, _location(given), keeps_sessions)


def _refuse_unescaped(url: str) -> None:
    """Refuse what libpq would cut in the middle of a password, whose rest would then be shown as a host or a name."""
    authority, _, path = url.partition("://")[2].partition("?")[0].partition("/")
    if authority.count("@") > 1 or "@" in path:
        raise ConfigurationError(
            'cannot use the database url: there is an "@" or "/" in the user, password or name; write %40 and %2F'
        )


def _split_threshold(url: str) -> tuple[str, int | None, bool]:
    """Return the URL without our own option, the option, and whether it was there."""
    base, question_mark, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True) if question_mark else []
    given = [value for key, value in pairs if key == "prepare_threshold"]
    if not given:
        return url, _PREPARE_AFTER, False
    others = [(key, value) for key, value in pairs if key != "prepare_threshold"]
    return f"{base}?{urlencode(others, quote_via=quote)}" if others else base, _threshold(given[-1]), True


def _threshold(value: str) -> int | None:
    if value.lower() in _NEVER:
        return None
    if value.isdigit():
        return int(value)
    raise ConfigurationError(
        f'cannot use the database url: prepare_threshold is {value!r}, expected a number or "none"'
    )


def _harmless(error: Exception, url: str) -> str:
    """Keep a reason only if it repeats nothing of what stands where a password could be."""
    reason = str(error).strip() or type(error).__name__
    secret_part = url.partition("://")[2].rpartition("@")[0]
    repeats = any(piece in reason for piece in secret_part.replace(":", " ").split() if len(piece) > 2)
    return "it cannot be parsed" if repeats else redact(reason)


def _location(given: Mapping[str, Any]) -> str:
    hosts = str(given.get("host") or given.get("hostaddr") or "localhost").split(",")
    ports = str(given.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = ",".join(
        quote(host, safe=":[]") + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=False)
    )
    user = f"{quote(str(given['user']), safe='')}@" if given.get("user") else ""
    return f"postgresql://{user}{places}/{quote(str(given.get('dbname') or ''), safe='')}"
