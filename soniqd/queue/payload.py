"""Arguments and results on their way to the database and back: strict JSON.

Refused, with the path of the culprit: values that JSON does not know, NaN and infinities, dictionary keys that are
not strings (JSON would turn 1 into "1" behind the caller's back), NUL characters and lone surrogates (PostgreSQL's
jsonb holds neither: PostgreSQL manual, section 8.14), and payloads over a size limit. Tuples become lists.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]  # CPython has it
from typing import Any

from soniqd.errors import InvalidArgumentsError

MAX_ARGS_BYTES = 16 * 1024 * 1024
MAX_RESULT_BYTES = 16 * 1024 * 1024

_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})
_HINTS = {
    "datetime": "pass .isoformat()",
    "date": "pass .isoformat()",
    "UUID": "pass str(...)",
    "Decimal": "pass str(...)",
    "bytes": "pass text, for example base64",
    "set": "pass a list",
}

_compact = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
# json.loads without its looks at type, encoding and white space: a fifth of the time.
_read_from = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # CPython has it
_encode_sorted = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

# What JSONEncoder.encode makes anew for each call, at twice the cost of a small payload, made once. Without markers it
# keeps no record of what it is in: a payload that contains itself ends as one that is nested too deeply.
_iterate_compact = c_make_encoder(
    None, _compact.default, encode_basestring, None, ":", ",", _compact.sort_keys, _compact.skipkeys, False
)


def encode_args(args: dict[str, Any]) -> str:
    """Return job arguments as JSON text; raises InvalidArgumentsError."""
    return _encode(args, "args", MAX_ARGS_BYTES)


def encode_result(result: Any) -> str:
    """Return a handler's result as JSON text; raises InvalidArgumentsError."""
    return _encode(result, "result", MAX_RESULT_BYTES)


def decode(text: str) -> Any:
    """Read JSON text from the database; raises InvalidArgumentsError when it is not JSON."""
    try:
        value, end = _read_from(text, 0)
        if end == len(text):
            return value
    except (StopIteration, ValueError, RecursionError):
        pass  # json.loads reads it, or says better what is wrong with it
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentsError(f"cannot decode a payload: {error}") from error


def decode_args(text: str) -> dict[str, Any]:
    """Read job arguments; raises InvalidArgumentsError when they are not a JSON object."""
    args = decode(text)
    if not isinstance(args, dict):
        raise InvalidArgumentsError(f"cannot use job arguments: expected a JSON object, got {type(args).__name__}")
    return args


def args_hash(args: dict[str, Any]) -> str:
    """Return the hash by which unique jobs are told apart, the same that Soniq's producers compute."""
    return hashlib.sha256(_encode_sorted(args).encode()).hexdigest()


def _encode(value: Any, root: str, limit: int) -> str:
    try:
        text = "".join(_iterate_compact(value, 0))
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(value, root, str(error) or "nested too deeply") from error
    size = len(text)
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise _refusal(value, root, str(error)) from error
    if size > limit:
        raise InvalidArgumentsError(
            f"cannot encode {root}: {size} bytes of JSON are more than {limit}; "
            "store the data elsewhere and pass its key",
            path=root,
        )
    try:
        problem = next(_problems(value, root), None) if "\\u0000" in text or not _is_plain(value, text) else None
    except RecursionError:  # C's encoder bears more depth than these functions do, and than some readers
        problem = (root, "nested too deeply")
    if problem is not None:
        raise _error(*problem)
    return text


def _is_plain(value: Any, text: str) -> bool:
    """Tell whether all keys are strings; looks at each value only where something may be within something."""
    if text.find("{", 1) >= 0 or text.find("[", 1) >= 0:
        return _has_plain_keys(value)
    if isinstance(value, dict):
        try:
            "".join(value)
        except TypeError:
            return False
    return True


def _has_plain_keys(value: Any) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, dict):
        return (_TEXT.issuperset(map(type, value)) or all(isinstance(key, str) for key in value)) and (
            _SCALARS.issuperset(map(type, value.values())) or all(map(_has_plain_keys, value.values()))
        )
    if isinstance(value, list | tuple):
        return _SCALARS.issuperset(map(type, value)) or all(map(_has_plain_keys, value))
    return True


def _refusal(value: Any, root: str, fallback: str) -> InvalidArgumentsError:
    try:
        problem = next(_problems(value, root), None)
    except RecursionError:
        problem = (root, "nested too deeply, or contains itself")
    return _error(*(problem or (root, fallback)))


def _error(path: str, what: str) -> InvalidArgumentsError:
    return InvalidArgumentsError(f"cannot encode {path}: {what}", path=path)


def _problems(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _text_problems(key, f"key {key!r} of {path}")
            else:
                yield path, f"key {key!r} is not a string"
            yield from _problems(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _problems(item, f"{path}[{index}]")
    elif isinstance(value, str):
        yield from _text_problems(value, path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"{value!r} is not JSON"
    elif not isinstance(value, int | None):
        yield path, _not_json(value)


def _text_problems(text: str, path: str) -> Iterator[tuple[str, str]]:
    if "\x00" in text:
        yield path, "the text holds a NUL character, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        yield path, "the text holds half of a surrogate pair, which is not Unicode"


def _not_json(value: Any) -> str:
    kind = type(value)
    hint = _HINTS.get(kind.__name__)
    if hint is None and hasattr(value, "model_dump"):
        hint = 'pass .model_dump(mode="json")'
    return f"{kind.__module__}.{kind.__qualname__} is not JSON" + (f"; {hint}" if hint else "")
