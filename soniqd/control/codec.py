"""Requests and responses as lines of JSON. No I/O: bytes in, messages out.

    {"protocol": 1, "id": 1, "command": "drain", "params": {"group": "mail"}}
    {"protocol": 1, "version": "0.1.0", "id": 1, "ok": true, "result": {...}}
    {"protocol": 1, "version": "0.1.0", "id": 1, "ok": false, "error": {"code": "", "message": "", "problems": []}}

Commands that tell of things as they come answer with any number of lines before that, the first of them empty and at
once:

    {"protocol": 1, "version": "0.1.0", "id": 1, "items": [{...}, {...}]}

A line is at most one MiB. Whoever is spoken to in another protocol says which side has to be upgraded.
"""

from __future__ import annotations

import json
from typing import Any

from soniqd.control.message import PROTOCOL, Failed, Items, Request, Response, Succeeded
from soniqd.errors import ControlError
from soniqd.version import __version__

MAX_LINE = 1024 * 1024


class LineBuffer:
    """Collects bytes and gives complete lines back; raises ControlError once a line is longer than the limit."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._pending = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a line that is not complete yet."""
        return len(self._pending)

    @property
    def rest(self) -> bytes:
        """What was fed and not yet taken as a line."""
        return bytes(self._pending)

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        searched = len(self._pending)
        self._pending += data
        end = self._pending.find(b"\n", searched)
        if (end if end >= 0 else len(self._pending)) > self._limit:
            raise ControlError(f"cannot read a message: it is longer than {self._limit} bytes")

    def next_line(self) -> bytes | None:
        """Take the next complete line, without its newline."""
        end = self._pending.find(b"\n")
        if end < 0:
            return None
        if end > self._limit:
            raise ControlError(f"cannot read a message: it is longer than {self._limit} bytes")
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line


def encode_request(request: Request) -> bytes:
    """Give a request its line; raises ControlError when it is too long."""
    return _line({"protocol": request.protocol, "id": request.id, "command": request.command, "params": request.params})


def decode_request(line: bytes) -> Request:
    """Read a request; raises ControlError when it is not one, or of another protocol."""
    fields = _object(line)
    protocol = fields.get("protocol")
    if protocol != PROTOCOL:
        raise ControlError(_other_protocol("soniqctl", protocol, here="soniqd"))
    match fields:
        case {"id": int(number), "command": str(command), "params": dict(params)}:
            return Request(number, command, params)
        case _:
            raise ControlError("cannot read a request: it needs id, command and params")


def encode_response(response: Response) -> bytes:
    """Give a response its line; one that is too long becomes an error that says so."""
    head = {"protocol": PROTOCOL, "version": __version__, "id": response.id}
    match response:
        case Succeeded(result=result):
            body: dict[str, Any] = {"ok": True, "result": result}
        case Failed(code=code, message=message, problems=problems):
            body = {"ok": False, "error": {"code": code, "message": message, "problems": list(problems)}}
    try:
        return _line(head | body)
    except ControlError as error:
        return _line(head | {"ok": False, "error": {"code": error.code, "message": str(error), "problems": []}})


def encode_items(message: Items) -> bytes:
    """Give items their line; raises ControlError when they are too long together."""
    head = {"protocol": PROTOCOL, "version": __version__, "id": message.id}
    return _line(head | {"items": list(message.items)})


def decode_response(line: bytes) -> Response:
    """Read a response that comes alone; raises ControlError when it is not one, or of another protocol."""
    message = decode_answer(line)
    if isinstance(message, Items):
        raise ControlError("cannot read a response: it is one of several")
    return message


def decode_answer(line: bytes) -> Response | Items:
    """Read a response, or items before it; raises ControlError when it is neither, or of another protocol."""
    fields = _object(line)
    protocol = fields.get("protocol")
    match fields:
        # Before the protocol: that the other side refuses ours is something that every protocol can say.
        case {"id": int(number), "ok": False, "error": {"code": str(code), "message": str(message)} as error}:
            problems = error.get("problems")
            return Failed(number, code, message, tuple(map(str, problems)) if isinstance(problems, list) else ())
        case _ if protocol != PROTOCOL:
            raise ControlError(_other_protocol("soniqd", protocol, here="soniqctl"))
        case {"id": int(number), "ok": True, "result": dict(result)}:
            return Succeeded(number, result)
        case {"id": int(number), "items": list(items)} if all(isinstance(item, dict) for item in items):
            return Items(number, tuple(items))
        case _:
            raise ControlError("cannot read a response: it needs id, ok and result or error")


def _line(fields: dict[str, Any]) -> bytes:
    line = json.dumps(fields, separators=(",", ":")).encode()
    if len(line) > MAX_LINE:
        raise ControlError(f"cannot send a message: {len(line)} bytes are more than {MAX_LINE}")
    return line + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("cannot read a message: it is not JSON") from None
    if not isinstance(fields, dict):
        raise ControlError("cannot read a message: it is not a JSON object")
    return fields


def _other_protocol(other: str, protocol: object, *, here: str) -> str:
    behind = other if not isinstance(protocol, int) or protocol < PROTOCOL else here
    spoken = protocol if isinstance(protocol, int) else "none"
    return f"{other} speaks protocol {spoken} and this {here} ({__version__}) speaks {PROTOCOL}: upgrade {behind}"
