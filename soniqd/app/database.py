"""Which database an application means: the forms of its constructor, and whether two URLs name the same one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from soniqd.errors import ConfigurationError
from soniqd.log.redact import redact

DEFAULT_SQLITE_URL = "sqlite:///soniq.db"
MEMORY_URL = "memory://"

_POSTGRES_SCHEMES = frozenset({"postgresql", "postgres"})
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def url_for(backend: str, database_url: str | None) -> str | None:
    """Return the URL that ``Soniq(database_url, backend="...")`` means; None leaves it to the settings."""
    kind = None if database_url is None else kind_of(database_url)
    match backend:
        case "memory" if kind in (None, "memory"):
            return MEMORY_URL
        case "sqlite" if database_url is None:
            return DEFAULT_SQLITE_URL
        case "sqlite" if kind == "sqlite":
            return database_url
        case "sqlite" if kind is None and database_url is not None and "://" not in database_url:
            return f"sqlite:///{quote(database_url)}"
        case "postgres" if kind in (None, "postgres"):
            return database_url
        case "memory" | "sqlite" | "postgres":
            raise ConfigurationError(f"cannot use backend {backend!r} with database_url {redact(str(database_url))!r}")
    raise ConfigurationError(f'cannot use backend {backend!r}: expected "postgres", "sqlite", "memory" or an instance')


def check_url(url: str, backend: object) -> None:
    """Raise ConfigurationError for a URL that stands for nothing, or not for what ``backend`` says."""
    if kind_of(url) is None:
        raise ConfigurationError(
            f'cannot use database_url {redact(url)!r}: expected "postgresql://...", "sqlite:///PATH", '
            'a path that ends in .db, .sqlite or .sqlite3, or "memory://"'
        )
    if backend == "postgres":
        url_for("postgres", url)


def kind_of(url: str) -> str | None:
    """Tell what a URL or path stands for: "postgres", "sqlite", "memory", or None if that cannot be told."""
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme in _POSTGRES_SCHEMES:
        return "postgres"
    if scheme == "sqlite" or (not scheme and url.endswith(_SQLITE_SUFFIXES)):
        return "sqlite"
    return "memory" if scheme == "memory" else None


def same_database(one: str, other: str) -> bool:
    """Whether two URLs name the same database; how one logs in to it does not matter."""
    return one == other or (kind_of(one) == kind_of(other) and _place(one) == _place(other))


def _place(url: str) -> object:
    match kind_of(url):
        case "sqlite":
            _, separator, path = url.partition("://")
            return Path(unquote(path.partition("?")[0].removeprefix("/")) if separator else url).resolve()
        case "postgres":
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query))
            user = unquote(parts.username or "") or options.get("user", "")
            host = parts.netloc.rpartition("@")[2]
            name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "")
            database = unquote(parts.path.removeprefix("/")) or options.get("dbname") or user
            place = unquote(name) or options.get("host") or "localhost"
            return place.lower(), port or options.get("port") or "5432", database, options.get("options", "")
    return url
