"""``soniqctl config``: check, show and explain soniq.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import click

from soniqd.cli.options import json_option
from soniqd.cli.render import print_json, print_line, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import printable
from soniqd.log.redact import redact
from soniqd.settings.daemon import DaemonSettings
from soniqd.settings.fields import settings_of
from soniqd.settings.schema import describe_keys, json_schema, plain_value
from soniqd.settings.transfer import dump_settings

_DEFAULT = "default"


@click.group()
def config() -> None:
    """Check, show and explain the daemon's configuration."""


@config.command()
@json_option
@click.pass_obj
def check(session: Session) -> None:
    """Check the configuration; `soniqd -t` imports the jobs modules, too."""
    files = [str(file) for file in session.configuration.files]
    if session.as_json:
        print_json({"ok": True, "files": files})
    else:
        print_line(f"{', '.join(files) or 'defaults and environment'}: no problems")


@config.command(short_help="Print the effective settings as TOML.")
@json_option
@click.pass_obj
def show(session: Session) -> None:
    """Print the effective settings as TOML, with where each of them comes from; passwords are left out."""
    settings = session.configuration.settings
    origins = session.configuration.origins
    if session.as_json:
        print_json({"settings": _redacted(dump_settings(settings)), "origins": dict(origins)})
        return
    for line in _toml(settings, origins):
        click.echo(printable(line))


@config.command()
@json_option
@click.pass_obj
def schema(session: Session) -> None:
    """Explain every key; a JSON Schema with --json."""
    if session.as_json:
        print_json(json_schema())
        return
    rows = [
        (f"{key.table} {key.name}".strip(), key.type, _written(key.default), key.description, " ".join(key.variables))
        for key in describe_keys()
    ]
    print_table(("key", "type", "default", "description", "variable"), rows, empty="")


def _toml(settings: DaemonSettings, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a soniq.toml that says the same; keys without a value are comments."""
    tables: list[tuple[str, str, Any]] = []
    for name in settings_of(DaemonSettings):
        value = getattr(settings, name)
        if is_dataclass(value):
            tables.append((f"[{name}]", name, value))
        elif name == "workers":
            tables += [("[[workers]]", f"workers[{index}]", group) for index, group in enumerate(value)]
        else:
            yield _line(name, _written(list(value)), origins.get(name))
    for header, loc, table in tables:
        yield ""
        yield header
        yield from _keys(loc, table, origins)


def _keys(loc: str, table: Any, origins: Mapping[str, str]) -> Iterator[str]:
    for name, setting in settings_of(type(table)).items():
        value = plain_value(setting, getattr(table, name))
        yield _line(name, _written(value), origins.get(f"{loc}.{name}"))


def _line(name: str, written: str, origin: str | None) -> str:
    line = f"{name} = {written}" if written else f"#{name} ="
    return f"{line:<48}  # {redact(origin or _DEFAULT)}"


def _written(value: Any) -> str:
    import tomli_w  # noqa: PLC0415  for two commands only

    if value is None:
        return ""
    if isinstance(value, list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)} = {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        value = redact(value)
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list) else value
