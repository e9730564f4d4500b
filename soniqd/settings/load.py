"""Load the daemon's settings: merge the sources, check everything, and refuse with every problem at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from soniqd.errors import ConfigurationError
from soniqd.settings.checks import find_problems
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.document import Document, Origin
from soniqd.settings.env import Environment
from soniqd.settings.files import read_files
from soniqd.settings.host import Host, find_host_problems
from soniqd.settings.paths import absolute_paths, absolute_url
from soniqd.settings.problems import Loc, dotted, expectation, nearest
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
    if not isinstance(database, dict) or not isinstance(database.get("url_file"), str):
        return
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
        settings = _model(document.values)
    except ValidationError as error:
        for entry in error.errors():
            bad.add(entry["loc"])
            document.problems.append(_problem(document, entry))
        try:
            settings = _model(_without(document.values, bad))
        except ValidationError:
            return DaemonSettings()
    for finding in (*find_problems(settings), *(find_host_problems(settings, host) if host else ())):
        if not any(_overlaps(loc, wrong) for loc in (finding.loc, *finding.depends) for wrong in bad):
            document.problems.append(f"{_where(document, finding.loc)}: {finding.text}")
    return settings


def _model(values: Mapping[str, Any]) -> DaemonSettings:
    # As JSON, because strict mode then takes strings as paths and arrays as tuples, yet no "4" or true as a number.
    return DaemonSettings.model_validate_json(json.dumps(values, default=str), strict=True)


def _problem(document: Document, error: Any) -> str:
    loc: Loc = error["loc"]
    where = _where(document, loc)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{_did_you_mean(loc)}"
    if loc == ("workers",):
        return f"{where}: {_MODULES_EXPECTED}"
    return f"{where}: {expectation(error)}"


def _where(document: Document, loc: Loc) -> str:
    origin = document.origin(loc)
    return str(origin) if origin else dotted(loc)


def _did_you_mean(loc: Loc) -> str:
    name = str(loc[-1])
    table = _table(loc[:-1])
    if near := nearest(name, table.model_fields):
        return f'; did you mean "{near}"?'
    if near := nearest(name, (n for n in DaemonSettings.model_fields if len(loc) > 1)):
        return f'; did you mean "{near}", which belongs above the first [table]?'
    for other, fields in _tables():
        if name in fields:
            return f"; did you mean {other}.{name}?"
    return ""


def _table(loc: Loc) -> type[BaseModel]:
    if not loc:
        return DaemonSettings
    return WorkerGroup if loc[0] == "workers" else type(getattr(DaemonSettings(), str(loc[0])))


def _tables() -> Iterator[tuple[str, set[str]]]:
    for name, value in DaemonSettings():
        if isinstance(value, BaseModel):
            yield f"[{name}]", set(type(value).model_fields)
    yield "[[workers]]", set(WorkerGroup.model_fields)


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
    for name, value in settings:
        if isinstance(value, BaseModel):
            yield from ((name, key) for key, _ in value)
        elif name == "workers":
            yield from (("workers", index, key) for index, group in enumerate(settings.workers) for key, _ in group)
        else:
            yield (name,)


def _absolute_defaults(settings: DaemonSettings, base: Path) -> DaemonSettings:
    values = absolute_paths(settings.model_dump(mode="json", exclude_none=True), base=base, credentials=None)
    return DaemonSettings.model_validate(values)


def _refused(path: Path | None, problems: list[str]) -> ConfigurationError:
    unique = tuple(dict.fromkeys(problems))
    count = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
    source = str(path) if path else "these settings"
    return ConfigurationError(f"cannot use {source}: {count}: " + "; ".join(unique), problems=unique)
