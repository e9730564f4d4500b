"""Reading settings: strictly as a file is, or as what a variable's text looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from soniqd.settings.durations import Duration
from soniqd.settings.fields import Written, setting
from soniqd.settings.reading import MistakesError, read_settings


@dataclass(frozen=True, slots=True)
class Inner:
    share: float = setting(0.5, "a share", ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    count: int = setting(1, "a number", gt=0)
    maybe: int | None = setting(None, "a number or none", ge=1)
    flag: bool = setting(False, "yes or no")
    name: str = setting("a", "a name", pattern=r"^[a-z]+$")
    text: str = setting("t", "some text", min_length=1)
    wait: Duration | None = setting(None, "a time")
    place: Path = setting(Path("/"), "a place")
    kind: Annotated[Literal["LEFT", "RIGHT"], Written(lambda value: str(value).upper())] = setting("LEFT", "a side")
    many: list[str] = setting(["x"], "names")
    table: dict[str, int] = setting({}, "numbers")


def mistakes(values: dict[str, Any], *, strict: bool = True) -> list[tuple[str, str]]:
    with pytest.raises(MistakesError) as caught:
        read_settings(Outer, values, strict=strict)
    return [(".".join(map(str, mistake.loc)), mistake.text) for mistake in caught.value.mistakes]


def test_nothing_written_is_every_default():
    assert read_settings(Outer, {}, strict=True) == Outer()


def test_each_instance_has_containers_of_its_own():
    assert Outer().many is not Outer().many
    assert Outer().table is not Outer().table


def test_values_become_what_is_declared():
    read = read_settings(
        Outer,
        {"inner": {"share": 1}, "inners": [{}], "wait": "2m", "place": "/a", "kind": "right", "table": {"a": 1}},
        strict=True,
    )
    assert read == Outer(
        inner=Inner(1.0), inners=(Inner(),), wait=120.0, place=Path("/a"), kind="RIGHT", table={"a": 1}
    )
    assert isinstance(read.inner.share, float)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ({"count": "3"}, Outer(count=3)),
        ({"count": " 3 "}, Outer(count=3)),
        ({"count": 3.0}, Outer(count=3)),
        ({"flag": "yes"}, Outer(flag=True)),
        ({"flag": "OFF"}, Outer(flag=False)),
        ({"inner": {"share": "0.25"}}, Outer(inner=Inner(0.25))),
        ({"maybe": None}, Outer()),
        ({"inner": Inner(0.75)}, Outer(inner=Inner(0.75))),
    ],
)
def test_text_is_read_as_what_it_looks_like_if_that_is_wanted(values: dict[str, Any], read: Outer):
    assert read_settings(Outer, values, strict=False) == read


@pytest.mark.parametrize(
    ("values", "place", "text"),
    [
        ({"count": "3"}, "count", 'expected a whole number, got "3"'),
        ({"count": True}, "count", "expected a whole number, got true"),
        ({"count": 1.5}, "count", "expected a whole number, got 1.5"),
        ({"count": 0}, "count", "expected more than 0, got 0"),
        ({"maybe": 0}, "maybe", "expected 1 or more, got 0"),
        ({"flag": "maybe"}, "flag", 'expected true or false, got "maybe"'),
        ({"inner": {"share": math.nan}}, "inner.share", "expected 0 or more, got NaN"),
        ({"inner": {"share": "x"}}, "inner.share", 'expected a number, got "x"'),
        ({"inner": {"share": 10**400}}, "inner.share", f"expected a smaller number, got 1{'0' * 76}..."),
        ({"inner": 3}, "inner", "expected a table, got 3"),
        ({"inners": [{}, {"share": 2}]}, "inners.1.share", "expected 1 or less, got 2"),
        ({"name": "a\n"}, "name", 'expected text that matches ^[a-z]+$, got "a\\n"'),
        ({"text": ""}, "text", 'expected some text, got ""'),
        (
            {"wait": "soon"},
            "wait",
            'expected a duration such as "500ms", "30s", "5m" or a number of seconds, got "soon"',
        ),
        ({"place": 3}, "place", "expected a path, got 3"),
        ({"place": "a\0b"}, "place", 'expected a path, got "a\\u0000b"'),
        ({"kind": "up"}, "kind", 'expected one of "LEFT" or "RIGHT", got "UP"'),
        ({"many": "x"}, "many", 'expected an array, got "x"'),
        ({"table": {"a": "b"}}, "table.a", 'expected a whole number, got "b"'),
        ({"nothing": 1}, "nothing", "unknown key"),
    ],
)
def test_a_mistake_has_its_place_and_what_was_expected(values: dict[str, Any], place: str, text: str):
    assert mistakes(values) == [(place, text)]


def test_every_mistake_is_told_in_the_order_of_the_class():
    found = mistakes({"nothing": 1, "text": "", "count": 0, "inner": {"share": 2, "other": 1}})
    assert [place for place, _ in found] == ["inner.share", "inner.other", "count", "text", "nothing"]


def test_text_that_looks_like_nothing_is_a_mistake_either_way():
    assert mistakes({"count": "many", "flag": "?"}, strict=False) == [
        ("count", 'expected a whole number, got "many"'),
        ("flag", 'expected true or false, got "?"'),
    ]
