"""The annotated soniq.toml says what the settings are."""

import re
import tomllib
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from soniqd.settings import restore_settings
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.fields import settings_of
from soniqd.settings.reading import read_settings
from soniqd.settings.variables import VARIABLES

ROOT = Path(__file__).parents[2]
ANNOTATED = (ROOT / "etc/soniq.toml").read_text()
KEY_LINE = re.compile(r"^#?([a-z_]+) = ", re.MULTILINE)


def keys_of(table: Any) -> list[str]:
    return list(settings_of(table))


def as_written() -> dict[str, Any]:
    """The document with every setting in force."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", ANNOTATED))


TABLES = {name: setting.type for name, setting in settings_of(DaemonSettings).items() if is_dataclass(setting.type)}


def test_it_changes_nothing_as_it_is() -> None:
    assert restore_settings(tomllib.loads(ANNOTATED)) == DaemonSettings()


def test_it_has_every_table() -> None:
    assert set(as_written()) == set(settings_of(DaemonSettings))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_every_key_with_its_default(table: str) -> None:
    written = as_written()[table]
    assert list(written) == keys_of(TABLES[table])
    check_defaults(TABLES[table], written)


def test_a_worker_group_has_every_key_with_its_default() -> None:
    [group] = as_written()["workers"]
    assert list(group) == keys_of(WorkerGroup)
    check_defaults(WorkerGroup, group)


def check_defaults(table: Any, written: dict[str, Any]) -> None:
    """A key without a default shows an example, and its comment says so."""
    defaults, parsed = table(), read_settings(table, written, strict=True)
    for key in settings_of(table):
        if getattr(defaults, key) is None:
            assert "Unset:" in comment_of(key, written[key]) or key == "url_file"
        else:
            assert getattr(parsed, key) == getattr(defaults, key), key


def test_every_key_has_a_comment() -> None:
    assert [key for key in KEY_LINE.findall(ANNOTATED) if not comment_of(key)] == []


@pytest.mark.parametrize(("loc", "names"), VARIABLES.items(), ids=lambda value: str(value[-1]))
def test_each_variable_is_named_at_its_setting(loc: tuple[str, ...], names: tuple[str, ...]) -> None:
    section = ANNOTATED.partition(f"[{loc[0]}]")[2].partition("\n[")[0]
    assert all(name in comment_of(loc[-1], section=section) for name in names)


def comment_of(key: str, value: object = None, *, section: str = ANNOTATED) -> str:
    """The comment above a key, or above the keys directly before it."""
    lines = section.splitlines()
    wanted = [n for n, line in enumerate(lines) if re.match(rf"#?{key} = ", line)]
    if value is not None and len(wanted) > 1:
        wanted = [n for n in wanted if f'"{value}"' in lines[n]]
    index = wanted[0]
    while index and KEY_LINE.match(lines[index]):
        index -= 1
    comment = []
    while index >= 0 and lines[index].startswith("# "):
        comment.append(lines[index])
        index -= 1
    return "\n".join(reversed(comment))
