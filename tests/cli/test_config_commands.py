from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from soniqd.cli.soniqctl import main
from soniqd.settings import load_daemon_settings
from soniqd.settings.durations import parse_duration_s


@pytest.fixture
def config(tmp_path):
    """Write a soniq.toml and run `soniqctl config ...` on it."""

    def run(text, *arguments, expect=0):
        path = tmp_path / "soniq.toml"
        path.write_text(text)
        result = CliRunner().invoke(main, ["-c", str(path), "config", *arguments])
        assert result.exit_code == expect, result.output
        return result

    return run


def test_check_finds_nothing(config, tmp_path):
    assert config("", "check").stdout == f"{tmp_path / 'soniq.toml'}: no problems\n"


def test_check_tells_every_problem_on_a_line_of_its_own(config, tmp_path):
    path = tmp_path / "soniq.toml"
    assert config("[soniqd]\na = 1\nb = 2\n", "check", expect=1).stderr.splitlines() == [
        f"soniqctl: {path}: soniqd.a: unknown key",
        f"soniqctl: {path}: soniqd.b: unknown key",
    ]


def test_show_writes_a_group_s_tables_sizes_and_cpus_so_that_they_can_be_read_back(config, tmp_path):
    text = (
        "[[workers]]\nmax_memory = '512MiB'\ncpu_affinity = '0-2'\numask = '0027'\n"
        "env = {'a.b' = 'x', C = '1'}\nrlimits = {nofile = 9, core = 'unlimited'}\n"
    )
    shown = config(text, "show").stdout
    assert 'max_memory = "512MiB"' in shown
    again = tmp_path / "again.toml"
    again.write_text(shown)
    assert load_daemon_settings(again, environ={}) == load_daemon_settings(tmp_path / "soniq.toml", environ={})


def test_show_can_be_read_back_and_names_origins(config, tmp_path, monkeypatch):
    monkeypatch.setenv("SONIQ_RESULT_TTL", "90")
    text = '[jobs]\nmodules = ["a", "b"]\n[[workers]]\nname = "mail"\n[[workers]]\n'
    shown = config(text, "show").stdout
    assert "SONIQ_RESULT_TTL" in shown
    assert f"{tmp_path / 'soniq.toml'}: jobs.modules" in shown
    again = tmp_path / "again.toml"
    again.write_text(shown)
    monkeypatch.delenv("SONIQ_RESULT_TTL")
    assert load_daemon_settings(again, environ={}) == load_daemon_settings(
        tmp_path / "soniq.toml", environ={"SONIQ_RESULT_TTL": "90"}
    )


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_show_leaves_passwords_out(config, form):
    output = config('[database]\nurl = "postgresql://u:secret@h/d?password=secret"', "show", *form).stdout
    assert "secret" not in output
    assert "postgresql://u:***@h/d?password=***" in output


def test_show_as_json(config):
    shown = json.loads(config("[jobs]\nmax_retries = 1\n", "show", "--json").stdout)
    assert shown["settings"]["jobs"]["max_retries"] == 1
    assert list(shown["origins"]) == ["jobs.max_retries"]


def test_schema_explains_every_key(config):
    lines = config("", "schema").stdout.splitlines()
    assert any(line.startswith("[[workers]] hang_timeout") and '"1m"' in line for line in lines)


def test_schema_as_json_schema(config):
    assert json.loads(config("", "schema", "--json").stdout)["title"] == "DaemonSettings"


def test_the_annotated_example_shows_every_key_with_its_default():
    """Its commented keys are the defaults: uncommented, they load, and change nothing."""
    from soniqd.settings.schema import describe_keys

    text = (Path(__file__).parents[2] / "etc" / "soniq.toml").read_text()
    table = ""
    shown = {}
    for line in text.splitlines():
        if line.startswith("["):
            table = line.split("]")[0] + ("]]" if line.startswith("[[") else "]")
        elif line.lstrip("#").split(" = ")[0].isidentifier() and " = " in line:
            name, _, value = line.lstrip("#").partition(" = ")
            shown[table, name] = tomllib.loads(f"x = {value}")["x"]
    keys = {(key.table, key.name): key for key in describe_keys()}
    assert set(shown) == set(keys)
    for place, key in keys.items():
        if key.default is not None:
            written, default = shown[place], key.default
            if key.type == "duration":
                written, default = parse_duration_s(written), parse_duration_s(default)
            assert written == default, place


def test_without_a_configuration_the_defaults_are_shown(soniqctl, tmp_path):
    shown = tomllib.loads(soniqctl("config", "show").stdout)
    assert shown["soniqd"]["socket"] == str(tmp_path / "s.sock")
