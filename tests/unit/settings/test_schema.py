from __future__ import annotations

import pytest

from soniqd.settings import DaemonSettings
from soniqd.settings.fields import settings_of
from soniqd.settings.schema import describe_keys, json_schema
from soniqd.settings.variables import VARIABLES


def test_every_key_is_described_once():
    keys = [(key.table, key.name) for key in describe_keys()]
    assert len(set(keys)) == len(keys)
    assert ("", "include") in keys
    assert ("[[workers]]", "hang_timeout") in keys
    assert ("[sweep]", "interval") in keys


def test_every_key_says_what_it_is_for():
    assert [key for key in describe_keys() if not key.description or not key.type] == []


def test_durations_are_written_as_such():
    keys = {(key.table, key.name): key for key in describe_keys()}
    assert (keys["[soniqd]", "drain_timeout"].type, keys["[soniqd]", "drain_timeout"].default) == ("duration", "30s")
    assert (keys["[[workers]]", "drain_timeout"].type, keys["[[workers]]", "drain_timeout"].default) == (
        "duration",
        None,
    )


def test_every_variable_belongs_to_a_key():
    assert {name for key in describe_keys() for name in key.variables} == {
        name for names in VARIABLES.values() for name in names
    }


def test_the_json_schema_takes_durations_as_text_and_as_numbers():
    schema = json_schema()
    drain = schema["$defs"]["SoniqdTable"]["properties"]["drain_timeout"]
    assert {choice["type"] for choice in drain["anyOf"]} == {"number", "string"}
    assert set(schema["properties"]) == set(settings_of(DaemonSettings))


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("max_memory", "size", 0),
        ("max_age", "duration", "0s"),
        ("env", "table of strings", {}),
        ("rlimits", "table of integers", {}),
        ("cpu_affinity", "array of integers", []),
        ("nice", "integer", None),
        ("umask", "string", None),
    ],
)
def test_a_group_s_keys_have_types_and_defaults_as_written(name, kind, default):
    [key] = [key for key in describe_keys() if (key.table, key.name) == ("[[workers]]", name)]
    assert (key.type, key.default) == (kind, default)
