import ast
import logging
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from soniqd.log import Event, catalogue

PACKAGE = Path(catalogue.__file__).parents[1]
EVENTS = {name: value for name, value in vars(catalogue).items() if isinstance(value, Event)}


def emit_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func).split(".")[-1] == "emit" and node.args:
                yield f"{path.relative_to(PACKAGE.parent)}:{node.lineno}", node


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{_name(value)}.{attr}"
        case _:
            return ""


def wording_fields(event: Event) -> set[str]:
    return {field.split(".")[0].split("[")[0] for _, field, _, _ in string.Formatter().parse(event.wording) if field}


def test_each_event_has_a_name_of_its_own() -> None:
    names = [event.name for event in EVENTS.values()]
    assert sorted(names) == sorted(set(names))
    assert {key.lower() for key in EVENTS} == set(names)


@pytest.mark.parametrize("event", EVENTS.values(), ids=list(EVENTS))
def test_each_event_has_a_known_level(event: Event) -> None:
    assert event.level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def test_each_event_is_emitted_somewhere() -> None:
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path != Path(catalogue.__file__))
    assert [name for name in EVENTS if name not in source] == []


def test_each_emit_call_gives_the_fields_of_its_wording() -> None:
    """A missing field would raise KeyError in the daemon, and only when the event happens."""
    wrong = []
    for where, call in emit_calls():
        event = EVENTS.get(_name(call.args[0]).split(".")[-1])
        given = {keyword.arg for keyword in call.keywords}
        if event is not None and None not in given and (missing := wording_fields(event) - given):
            wrong.append(f"{where}: {event.name} misses {sorted(missing)}")
    assert wrong == []
