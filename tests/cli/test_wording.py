from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from soniqd.cli.soniqctl import main
from soniqd.cli.wording import count, duration, moment, printable, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (0.04, "0.0s"),
        (9.96, "10.0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3605, "1h"),
        (3661, "1h 1m"),
        (93784, "1d 2h"),
    ],
)
def test_a_span_has_its_two_biggest_units(seconds, text):
    assert duration(seconds) == text


def test_an_instant_that_cannot_be_read_is_shown_as_it_is():
    assert moment("soon\x07") == "soon\\x07"
    assert moment(None) == "-"


def test_a_number_has_its_noun():
    assert [count(n, "process", "processes") for n in (0, 1, 2)] == ["0 processes", "1 process", "2 processes"]


@given(st.text())
def test_nothing_printed_steers_a_terminal(text):
    shown = printable(text)
    assert not any(c in shown for c in "\x1b\x07\x08\r\n\x9b\u202e\u2028")
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0K"),
        (900 * 1024, "900K"),
        (1000 * 1024, "1.0M"),
        (34 * 1024**2, "34M"),
        (1229 * 1024**2, "1.2G"),
        (2000 * 1024**3, "2000G"),
    ],
)
def test_bytes_have_a_unit_that_fits(number, text):
    assert size(number) == text


def every_command(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(every_command(main)), ids=" ".join)
def test_help_is_whole(path):
    """No summary that was cut, and no default in brackets of its own."""
    text = CliRunner().invoke(main, [*path, "--help"]).stdout
    assert "..." not in text.replace("ID...", "").replace("[ARGS]...", "").replace("[ID]...", "")
    assert "default: (" not in " ".join(text.split())
