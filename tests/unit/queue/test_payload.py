from __future__ import annotations

import datetime as dt
import hashlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from soniqd.errors import InvalidArgumentsError
from soniqd.queue import payload

_TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    max_leaves=20,
)


@given(st.dictionaries(_TEXT, _JSON))
def test_what_is_encoded_is_decoded_to_the_same(args):
    assert payload.decode_args(payload.encode_args(args)) == args


@given(_JSON)
def test_results_of_every_json_kind_survive(result):
    assert payload.decode(payload.encode_result(result)) == result


class Model(BaseModel):
    number: int


@pytest.mark.parametrize(
    ("args", "path", "reason"),
    [
        ({"a": float("nan")}, "args['a']", "nan"),
        ({"a": [1, {"b": float("-inf")}]}, "args['a'][1]['b']", "-inf"),
        ({"a": {"b": "x\x00y"}}, "args['a']['b']", "NUL"),
        ({"a\x00": 1}, "key 'a\\x00' of args", "NUL"),
        ({"a": "\ud800"}, "args['a']", "surrogate"),
        ({"a": {1, 2}}, "args['a']", "pass a list"),
        ({"a": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "args['a']", ".isoformat()"),
        ({"a": Decimal(1)}, "args['a']", "pass str(...)"),
        ({"a": b"x"}, "args['a']", "base64"),
        ({"a": Model(number=1)}, "args['a']", "model_dump"),
        ({"a": [{"b": {1: "x"}}]}, "args['a'][0]['b']", "key 1 is not a string"),
        ({"a": ({2: 1},)}, "args['a'][0]", "key 2 is not a string"),
        ({"a": "x", None: 1}, "args", "key None is not a string"),
        ({3: "no { and no ["}, "args", "key 3 is not a string"),
        ({"a": object}, "args['a']", "builtins.type is not JSON"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(args, path, reason):
    with pytest.raises(InvalidArgumentsError) as caught:
        payload.encode_args(args)
    assert caught.value.context["path"] == path
    assert str(caught.value).startswith(f"cannot encode {path}: ")
    assert reason in str(caught.value)


def test_a_backslash_u0000_that_is_plain_text_is_allowed():
    args = {"a": r"\u0000"}
    assert payload.decode_args(payload.encode_args(args)) == args


def test_a_payload_that_contains_itself_is_refused():
    args: dict[str, object] = {}
    args["me"] = args
    with pytest.raises(InvalidArgumentsError, match="contains itself"):
        payload.encode_args(args)


def test_a_payload_nested_too_deeply_is_refused():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidArgumentsError, match="nested too deeply"):
        payload.encode_result(nested)


def test_ten_megabytes_fit_and_twenty_do_not():
    assert len(payload.encode_args({"a": "x" * 10_000_000})) > 10_000_000
    with pytest.raises(InvalidArgumentsError, match="20000008 bytes"):
        payload.encode_args({"a": "x" * 20_000_000})


@pytest.mark.parametrize("depth", [300, 500, 900, 5000])
def test_whatever_the_depth_the_answer_is_json_or_a_refusal(depth):
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    try:
        assert payload.decode(payload.encode_result(value)) == value
    except InvalidArgumentsError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017  both answers are right


def test_the_size_counts_bytes_not_characters():
    with pytest.raises(InvalidArgumentsError, match="bytes of JSON"):
        payload.encode_args({"a": "\N{SNOWMAN}" * 6_000_000})


@pytest.mark.parametrize("text", ["", "{", "nan", "[" * 100_000])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(InvalidArgumentsError, match="cannot decode"):
        payload.decode(text)


def test_arguments_must_be_an_object():
    with pytest.raises(InvalidArgumentsError, match="expected a JSON object, got list"):
        payload.decode_args("[1]")


def test_the_hash_is_the_one_that_soniq_producers_compute():
    args = {"b": 2, "a": ["\N{SNOWMAN}", 1.5, None]}
    soniq = hashlib.sha256(json.dumps(args, sort_keys=True, separators=(",", ":")).encode("utf-8")).hexdigest()
    assert payload.args_hash(args) == soniq


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert payload.args_hash({"a": 1, "b": 2}) == payload.args_hash({"b": 2, "a": 1})
