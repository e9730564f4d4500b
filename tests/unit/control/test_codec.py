from __future__ import annotations

import json

import pytest

from soniqd.control.codec import (
    MAX_LINE,
    LineBuffer,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from soniqd.control.message import Failed, Request, Succeeded
from soniqd.errors import ControlError


def test_a_request_comes_back_from_its_line():
    request = Request(7, "drain", {"group": "mail", "text": "zwei\nZeilen"})
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_request(line.rstrip(b"\n")) == request


@pytest.mark.parametrize("response", [Succeeded(1, {"state": "running"}), Failed(2, "X", "cannot", ("a", "b"))])
def test_a_response_comes_back_from_its_line(response):
    assert decode_response(encode_response(response)) == response


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"protocol": 1}', "needs id, command and params"),
        (b'{"protocol": 1, "id": 1, "command": 2, "params": {}}', "needs id, command and params"),
        (b'{"id": 1, "command": "status", "params": {}}', "speaks protocol none"),
    ],
)
def test_what_is_no_request_is_refused(line, reason):
    with pytest.raises(ControlError, match=reason):
        decode_request(line)


@pytest.mark.parametrize(("protocol", "behind"), [(0, "upgrade soniqctl"), (2, "upgrade soniqd")])
def test_the_older_side_of_a_request_is_told_to_upgrade(protocol, behind):
    line = json.dumps({"protocol": protocol, "id": 1, "command": "status", "params": {}}).encode()
    with pytest.raises(ControlError, match=behind):
        decode_request(line)


@pytest.mark.parametrize(("protocol", "behind"), [(0, "upgrade soniqd"), (2, "upgrade soniqctl")])
def test_the_older_side_of_a_response_is_told_to_upgrade(protocol, behind):
    line = json.dumps({"protocol": protocol, "id": 1, "ok": True, "result": {}}).encode()
    with pytest.raises(ControlError, match=behind):
        decode_response(line)


def test_a_refusal_is_understood_in_any_protocol():
    line = json.dumps({"protocol": 9, "id": 0, "ok": False, "error": {"code": "X", "message": "upgrade"}}).encode()
    assert decode_response(line) == Failed(0, "X", "upgrade")


def test_a_request_that_is_too_long_is_not_sent():
    with pytest.raises(ControlError, match="are more than 1048576"):
        encode_request(Request(1, "x" * MAX_LINE))


def test_a_response_that_is_too_long_becomes_an_error():
    response = decode_response(encode_response(Succeeded(1, {"blob": "x" * MAX_LINE})))
    assert isinstance(response, Failed)
    assert "are more than" in response.message


def test_lines_come_out_of_any_pieces():
    buffer = LineBuffer()
    lines = []
    for byte in b"one\ntwo\n\nthr":
        buffer.feed(bytes([byte]))
        while (line := buffer.next_line()) is not None:
            lines.append(line)
    assert lines == [b"one", b"two", b""]
    assert buffer.pending == 3


def test_a_line_is_refused_as_soon_as_it_is_too_long():
    buffer = LineBuffer(limit=4)
    buffer.feed(b"1234")
    with pytest.raises(ControlError, match="longer than 4 bytes"):
        buffer.feed(b"5")


def test_a_long_second_line_of_one_piece_is_refused():
    buffer = LineBuffer(limit=4)
    buffer.feed(b"1234\n12345\n")
    assert buffer.next_line() == b"1234"
    with pytest.raises(ControlError, match="longer than 4 bytes"):
        buffer.next_line()
