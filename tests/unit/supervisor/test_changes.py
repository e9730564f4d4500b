"""Each key of soniq.toml is applied by a reload, or named as needing a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from soniqd.policy.plan_diff import needs_replacement
from soniqd.settings import dump_settings, restore_settings
from soniqd.settings.daemon import DaemonSettings, WorkerGroup
from soniqd.settings.fields import settings_of
from soniqd.supervisor.changes import CHILDREN, GROUPS, MASTER, RESTART, SOURCES, compare_settings
from soniqd.supervisor.plan import make_plan
from soniqd.supervisor.preview import fingerprint_of

CODE = {"shop": "0123456789ab"}
BEFORE = restore_settings({"database": {"url": "postgresql:///jobs", "max_connections": 100}})
OTHER: dict[str, Any] = {
    "socket": "/elsewhere",
    "socket_group": "adm",
    "log_level": "DEBUG",
    "log_format": "json",
    "url": "postgresql:///others",
    "url_file": "/run/url",
    "pool_max_size": 5,
    "modules": ["shop.jobs"],
    "path": ["/srv"],
    "python": "/usr/bin/python3",
    "name": "mail",
    "queues": ["mail"],
    "env": {"A": "b"},
    "cpu_affinity": [0],
    "rlimits": {"nofile": 64},
    "user": "nobody",
    "group": "nogroup",
    "umask": "077",
    "max_memory": "512MB",
    "enabled": False,
}
"""Another value for each key whose own cannot simply be added to."""

Kind = Literal["restart", "children", "group", "master", "source"]
_KINDS: dict[Kind, frozenset[tuple[str, str]]] = {
    "restart": RESTART,
    "children": CHILDREN,
    "group": GROUPS,
    "master": MASTER,
    "source": SOURCES,
}
assert set(_KINDS) == set(get_args(Kind))


def keys_outside_of_groups() -> Iterator[tuple[str, str]]:
    for table in settings_of(DaemonSettings):
        if table not in ("workers", "include"):
            yield from ((table, key) for key in settings_of(type(getattr(BEFORE, table))))


def kind_of(key: tuple[str, str]) -> Kind:
    [kind] = [kind for kind, keys in _KINDS.items() if key in keys]
    return kind


def another(key: str, value: Any) -> Any:
    if key in OTHER:
        return OTHER[key]
    if value is None:
        return 7
    assert isinstance(value, int | float), f"say another value for {key}"
    return value / 2 or 1.0 if isinstance(value, float) else value + 1


def changed(table: str, key: str) -> DaemonSettings:
    document = dump_settings(BEFORE)
    document[table][key] = another(key, getattr(getattr(BEFORE, table), key))
    after = restore_settings(document)
    assert after != BEFORE
    return after


@pytest.mark.parametrize("key", list(keys_outside_of_groups()), ids=".".join)
def test_a_key_outside_of_groups_has_exactly_the_effect_that_it_is_said_to_have(key: tuple[str, str]):
    after = changed(*key)
    differences = compare_settings(BEFORE, after)
    label = f"[{key[0]}] {key[1]}"
    kind = kind_of(key)
    assert [change.key for change in differences.restart] == ([label] if kind == "restart" else [])
    assert [change.key for change in differences.children] == ([label] if kind == "children" else [])
    assert [change.key for change in differences.master] == ([label] if kind == "master" else [])
    assert (fingerprint_of(CODE, after) != fingerprint_of(CODE, BEFORE)) == (kind == "children")
    assert (make_plan(after) != make_plan(BEFORE)) == (kind == "group")


def test_no_key_is_said_to_have_an_effect_that_does_not_exist():
    assert {key for keys in _KINDS.values() for key in keys} == set(keys_outside_of_groups())


@pytest.mark.parametrize("key", list(settings_of(WorkerGroup)))
def test_each_key_of_a_group_changes_its_plan(key: str):
    values = dump_settings(BEFORE)["workers"][0]
    values[key] = another(key, getattr(BEFORE.workers[0], key))
    after = replace(BEFORE, workers=restore_settings({"workers": [values]}).workers)
    [_, old], [_, new] = make_plan(BEFORE), make_plan(after)
    assert old != new
    if key != "name":
        assert needs_replacement(old, new) == (key != "processes")


def test_a_secret_is_not_shown():
    after = replace(BEFORE, database=replace(BEFORE.database, url="postgresql://a:hunter2@db/jobs"))
    [change] = compare_settings(BEFORE, after).restart
    assert "hunter2" not in str(change)
    assert change.key == "[database] url"


def test_values_read_as_in_the_file():
    after = changed("jobs", "timeout")
    assert [str(change) for change in compare_settings(BEFORE, after).children] == ["[jobs] timeout: 5m -> 150s"]


def test_fingerprints_survive_the_way_through_json():
    restored = restore_settings(json.loads(json.dumps(dump_settings(BEFORE))))
    assert fingerprint_of(dict(CODE), restored) == fingerprint_of(CODE, BEFORE)


def test_unknown_code_equals_nothing():
    assert fingerprint_of({}, BEFORE) == ""


def test_paths_are_words():
    after = replace(BEFORE, jobs=replace(BEFORE.jobs, path=(Path("/a"), Path("/b"))))
    assert [str(change) for change in compare_settings(BEFORE, after).children] == ["[jobs] path: [] -> [/a, /b]"]
