"""Paths in a configuration are relative to the file that they stand in, never to where the daemon was started."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

_SQLITE = "sqlite:///"
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def absolute_paths(values: dict[str, Any], *, base: Path, credentials: Path | None) -> dict[str, Any]:
    """Return a document whose relative paths start at ``base``, and ``url_file`` at the credentials if there are."""
    result = copy.deepcopy(values)
    _change(result, "soniqd", "socket", base)
    _change(result, "jobs", "python", base)
    _change(result, "jobs", "path", base)
    _change(result, "database", "url_file", credentials or base)
    database = result.get("database")
    if isinstance(database, dict) and isinstance(database.get("url"), str):
        database["url"] = absolute_url(database["url"], base=base)
    return result


def absolute_url(url: str, *, base: Path) -> str:
    """Return the url of a database with the path of an SQLite file made absolute."""
    if url.startswith(_SQLITE) and ":memory:" not in url:
        return _SQLITE + str(_absolute(url.removeprefix(_SQLITE), base))
    if "://" not in url and url.endswith(_SQLITE_SUFFIXES):
        return str(_absolute(url, base))
    return url


def _change(values: dict[str, Any], table: str, key: str, base: Path) -> None:
    inner = values.get(table)
    if not isinstance(inner, dict) or key not in inner:
        return
    match inner[key]:
        case str(path):
            inner[key] = str(_absolute(path, base))
        case [*paths]:
            inner[key] = [str(_absolute(path, base)) if isinstance(path, str) else path for path in paths]


def _absolute(path: str, base: Path) -> Path:
    return base.absolute() / path if path else Path()
