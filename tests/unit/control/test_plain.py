"""Values as plain JSON: whatever goes in comes back, and what cannot be right is refused by its place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NewType

import pytest

from soniqd.control.plain import from_plain, to_plain
from soniqd.errors import ControlError

Name = NewType("Name", str)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    number: int = 3


@dataclass(slots=True)
class Outer:
    name: Name
    when_s: float
    inner: Inner
    colour: Colour
    kind: Literal["a", "b"]
    raw: bytes
    maybe: Inner | None
    pair: tuple[str, int]
    many: tuple[Inner, ...]
    names: set[Name]
    by_number: dict[int, Inner]
    anything: dict[str, Any]
    flags: list[bool] = field(default_factory=list)


OUTER = Outer(
    name=Name("n"),
    when_s=1.5,
    inner=Inner(4),
    colour=Colour.RED,
    kind="b",
    raw=b"\0\xff",
    maybe=None,
    pair=("x", 2),
    many=(Inner(1), Inner(2)),
    names={Name("b"), Name("a")},
    by_number={7: Inner(7)},
    anything={"x": [1, None]},
    flags=[True],
)


def changed(**values: Any) -> dict[str, Any]:
    return {**to_plain(OUTER), **values}


def test_a_value_comes_back_from_json_as_it_was():
    assert from_plain(Outer, json.loads(json.dumps(to_plain(OUTER)))) == OUTER


def test_a_missing_field_takes_its_default():
    plain = changed()
    del plain["flags"]
    plain["inner"] = {}
    read = from_plain(Outer, plain)
    assert read.flags == []
    assert read.inner == Inner(3)


def test_a_whole_number_may_stand_for_a_float():
    assert from_plain(Outer, changed(when_s=2)).when_s == 2.0


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"inner": {"number": 1, "colour": 2}}, r"Outer\.inner: nothing here knows colour"),
        ({"name": 7}, r"Outer\.name: expected str"),
        ({"when_s": True}, r"Outer\.when_s: expected float"),
        ({"when_s": "1"}, r"Outer\.when_s: expected float"),
        ({"inner": {"number": True}}, r"Outer\.inner\.number: expected int"),
        ({"inner": []}, r"Outer\.inner: expected an object"),
        ({"colour": "blue"}, r"Outer\.colour: expected one of \['red'\]"),
        ({"kind": "c"}, r"Outer\.kind: expected one of"),
        ({"raw": "*"}, r"Outer\.raw: expected base64"),
        ({"raw": None}, r"Outer\.raw: expected base64"),
        ({"pair": ["x"]}, r"Outer\.pair: expected 2 values"),
        ({"many": {}}, r"Outer\.many: expected an array"),
        ({"many": [{"number": None}]}, r"Outer\.many\[0\]\.number"),
        ({"by_number": {"seven": {}}}, r"Outer\.by_number: expected whole numbers as keys"),
        ({"by_number": []}, r"Outer\.by_number: expected an object"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_place(values, place):
    with pytest.raises(ControlError, match=place):
        from_plain(Outer, changed(**values))


def test_a_missing_field_without_a_default_is_refused():
    plain = changed()
    del plain["colour"]
    with pytest.raises(ControlError, match="Outer: colour is missing"):
        from_plain(Outer, plain)


def test_what_has_no_plain_form_is_a_mistake_of_the_writer():
    with pytest.raises(TypeError, match="object"):
        to_plain(object())


@dataclass
class Vague:
    what: int | str


@dataclass
class Strange:
    what: complex


@pytest.mark.parametrize("kind", [Vague, Strange])
def test_a_type_that_cannot_be_read_back_is_a_mistake_of_the_reader(kind):
    with pytest.raises(TypeError, match=r"\.what"):
        from_plain(kind, {"what": 1})
