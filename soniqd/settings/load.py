"""Load the daemon's settings: merge the sources, check everything, and refuse with every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from soniqd.errors import ConfigurationError
from soniqd.settings.checks import find_problems
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.document import Document, Origin
from soniqd.settings.env import Environment
from soniqd.settings.fields import settings_of
from soniqd.settings.files import read_files
from soniqd.settings.host import Host, find_host_problems
from soniqd.settings.paths import absolute_paths, absolute_url
from soniqd.settings.problems import Loc, dotted, nearest
from soniqd.settings.reading import Mistake, MistakesError, read_settings
from soniqd.settings.transfer import dump_settings, restore_settings
from soniqd.settings.variables import read_variables

DEFAULT_PATH = Path("/etc/soniq.toml")

_MODULES_EXPECTED = "expected an array of tables, each written as [[workers]]"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, the files that were read for them, and the origin of each value that is not a default.

    ``origins`` has locations as people write them (``workers[0].concurrency``).
    """

    settings: DaemonSettings
    files: tuple[Path, ...]
    origins: Mapping[str, str]


def load_daemon_settings(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    host: Host | None = None,
) -> DaemonSettings:
    """Return the settings of ``load_configuration``."""
    return load_configuration(path, environ=environ, overrides=overrides, host=host).settings


def load_configuration(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    host: Host | None = None,
) -> Configuration:
    """Read a soniq.toml (None: none) and everything that goes over it.

    ``overrides`` come from the command line and win: locations such as ``database.url`` and
    ``workers.*.concurrency``. A daemon gives its ``host``, which has to allow what is asked of it.
    Raises ConfigurationError with every problem.
    """
    base = Path() if path is None else path.parent
    environment = Environment.read(environ, base / ".env")
    document = Document()
    files = () if path is None else read_files(path, environment, document)
    read_variables(environment, document)
    for key, value in (overrides or {}).items():
        document.set(tuple(key.split(".")), value, Origin("command line"))
    _read_url_file(document)
    settings = _validated(document, host)
    if document.problems:
        raise _refused(path, document.problems)
    origins = {dotted(loc): str(document.origins[loc]) for loc in _leaves(settings) if loc in document.origins}
    return Configuration(_absolute_defaults(settings, base), files, origins)


def _read_url_file(document: Document) -> None:
    database = document.values.get("database")
    if not isinstance(database, dict) or not isinstance(database.get("url_file"), str) or "\0" in database["url_file"]:
        return  # what is no path is told with the other values
    origin = document.origins[("database", "url_file")]
    if url_origin := document.origins.get(("database", "url")):
        if url_origin.loc:
            document.problems.append(f"{origin}: expected either url or url_file; url is given at {url_origin}")
        return
    path = Path(database["url_file"])
    try:
        url = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        document.problems.append(f"{origin}: cannot read {path}: {reason}")
    except UnicodeDecodeError:
        document.problems.append(f"{origin}: cannot read {path}: it is not UTF-8")
    else:
        document.set(("database", "url"), absolute_url(url, base=path.parent), Origin(f"{origin} ({path})"))


def _validated(document: Document, host: Host | None) -> DaemonSettings:
    """Return the settings; wrong values are reported and left out, so that what depends on others is still checked."""
    bad: set[Loc] = set()
    try:
        settings = read_settings(DaemonSettings, document.values, strict=True)
    except MistakesError as error:
        for mistake in error.mistakes:
            bad.add(mistake.loc)
            document.problems.append(_problem(document, mistake))
        try:
            settings = read_settings(DaemonSettings, _without(document.values, bad), strict=True)
        except MistakesError:
            return DaemonSettings()
    for finding in (*find_problems(settings), *(find_host_problems(settings, host) if host else ())):
        if not any(_overlaps(loc, wrong) for loc in (finding.loc, *finding.depends) for wrong in bad):
            document.problems.append(f"{_where(document, finding.loc)}: {finding.text}")
    return settings


def _problem(document: Document, mistake: Mistake) -> str:
    where = _where(document, mistake.loc)
    if mistake.is_unknown:
        return f"{where}: unknown key{_did_you_mean(mistake.loc)}"
    if mistake.loc == ("workers",):
        return f"{where}: {_MODULES_EXPECTED}"
    return f"{where}: {mistake.text}"


def _where(document: Document, loc: Loc) -> str:
    origin = document.origin(loc)
    return str(origin) if origin else dotted(loc)


def _did_you_mean(loc: Loc) -> str:
    name = str(loc[-1])
    table = _table(loc[:-1])
    if near := nearest(name, settings_of(table)):
        return f'; did you mean "{near}"?'
    if near := nearest(name, (n for n in settings_of(DaemonSettings) if len(loc) > 1)):
        return f'; did you mean "{near}", which belongs above the first [table]?'
    for other, fields in _tables():
        if name in fields:
            return f"; did you mean {other}.{name}?"
    return ""


def _table(loc: Loc) -> type[Any]:
    if not loc:
        return DaemonSettings
    return WorkerGroup if loc[0] == "workers" else type(getattr(DaemonSettings(), str(loc[0])))


def _tables() -> Iterator[tuple[str, Iterable[str]]]:
    defaults = DaemonSettings()
    for name in settings_of(DaemonSettings):
        if is_dataclass(table := getattr(defaults, name)):
            yield f"[{name}]", settings_of(type(table))
    yield "[[workers]]", settings_of(WorkerGroup)


def _without(values: Any, bad: set[Loc], loc: Loc = ()) -> Any:
    if isinstance(values, dict):
        return {k: _without(v, bad, (*loc, k)) for k, v in values.items() if (*loc, k) not in bad}
    if isinstance(values, list):
        return [_without(v, bad, (*loc, i)) for i, v in enumerate(values) if (*loc, i) not in bad]
    return values


def _overlaps(loc: Loc, wrong: Loc) -> bool:
    shorter = min(len(loc), len(wrong))
    return loc[:shorter] == wrong[:shorter]


def _leaves(settings: DaemonSettings) -> Iterator[Loc]:
    for name in settings_of(DaemonSettings):
        value = getattr(settings, name)
        if is_dataclass(value):
            yield from ((name, key) for key in settings_of(type(value)))
        elif name == "workers":
            yield from ((name, index, key) for index in range(len(value)) for key in settings_of(WorkerGroup))
        else:
            yield (name,)


def _absolute_defaults(settings: DaemonSettings, base: Path) -> DaemonSettings:
    return restore_settings(absolute_paths(dump_settings(settings), base=base, credentials=None))


def _refused(path: Path | None, problems: list[str]) -> ConfigurationError:
    unique = tuple(dict.fromkeys(problems))
    count = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
    source = str(path) if path else "these settings"
    return ConfigurationError(f"cannot use {source}: {count}: " + "; ".join(unique), problems=unique)
