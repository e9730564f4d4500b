from __future__ import annotations

import pytest

from soniqd.errors import ConfigurationError
from soniqd.queue.registry import Task, TaskRegistry


def send(): ...
def other(): ...


def task(name="a.b", handler=send, source="jobs.py:1", **fields):
    return Task(name=name, handler=handler, is_async=False, source=source, **fields)


def test_tasks_are_found_by_name_and_by_function():
    tasks = TaskRegistry()
    tasks.add(task("one"))
    tasks.add(task("two", other, "jobs.py:9"))
    assert tasks.names() == ("one", "two")
    assert tasks.get("one") is tasks.of_callable(send)
    assert "two" in tasks
    assert "three" not in tasks
    assert tasks.get("three") is None
    assert [each.name for each in tasks] == ["one", "two"]
    assert len(tasks) == 2


def test_the_same_name_for_another_function_names_both_places():
    tasks = TaskRegistry()
    tasks.add(task())
    with pytest.raises(ConfigurationError, match=r"'a\.b' at mail\.py:7: the name is taken by jobs\.py:1"):
        tasks.add(task(handler=other, source="mail.py:7"))


def test_a_function_that_is_loaded_again_takes_its_old_place():
    tasks = TaskRegistry()
    tasks.add(task())
    tasks.add(task(handler=other, priority=7))
    found = tasks.get("a.b")
    assert found is not None
    assert (found.handler, found.priority) == (other, 7)


def test_an_alias_finds_what_the_task_is_now():
    tasks = TaskRegistry()
    tasks.add(task(), aliases=(other,))
    tasks.replace(task(priority=7))
    found = tasks.of_callable(other)
    assert found is not None
    assert found.priority == 7


def test_the_registry_may_be_changed_while_it_is_walked():
    tasks = TaskRegistry()
    tasks.add(task())
    for each in tasks:
        tasks.replace(each)
        tasks.add(task("later", other))
    assert tasks.names() == ("a.b", "later")
