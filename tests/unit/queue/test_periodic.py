from __future__ import annotations

from datetime import timedelta

import pytest

from soniqd.errors import ConfigurationError, InvalidArgumentsError
from soniqd.queue.periodic import DeclaredSchedule


def schedule(name=None, *, cron=None, every=None, args=None, timezone="UTC", missed="all"):
    return DeclaredSchedule.checked(name, cron=cron, every=every, args=args, timezone=timezone, missed=missed)


@pytest.mark.parametrize(
    ("every", "value"),
    [(60, "60"), (1.5, "1.5"), ("5m", "300"), (timedelta(hours=1), "3600"), (1, "1"), (timedelta(days=7), "604800")],
)
def test_an_interval_is_stored_as_seconds(every, value):
    declared = schedule(every=every)
    assert (declared.type, declared.value) == ("interval", value)


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 9-17 * * mon-fri", "@daily", "0 0 29 2 *"])
def test_cron_expressions_of_five_fields_and_aliases_are_taken(cron):
    declared = schedule(cron=cron)
    assert (declared.type, declared.value) == ("cron", cron)


def test_the_spaces_of_a_cron_expression_do_not_matter():
    assert schedule(cron="  0  9 * *   * ").value == "0 9 * * *"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "pass either cron= or every="),
        ({"cron": "* * * * *", "every": 5}, "pass either cron= or every="),
        ({"cron": "* * * *"}, "has 4 fields, expected five"),
        ({"cron": "* * * * * *"}, "for seconds use every="),
        ({"cron": "60 * * * *"}, "is not a cron expression"),
        ({"cron": "@reboot"}, "is not a cron expression"),
        ({"cron": "R * * * *"}, "is not a cron expression"),
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"cron": 5}, "has 1 fields"),
        ({"cron": ""}, "has 0 fields"),
        ({"every": 0}, "between 1 second and 100 years"),
        ({"every": 0.5}, "between 1 second and 100 years"),
        ({"every": timedelta(days=40_000)}, "between 1 second and 100 years"),
        ({"every": "often"}, "every: expected a duration"),
        ({"every": timedelta(seconds=-5)}, "every: expected a duration"),
        ({"every": 5, "timezone": "Mars/Olympus"}, 'is not an IANA name such as "Europe/Berlin"'),
        ({"every": 5, "timezone": "../etc/passwd"}, "is not an IANA name"),
        ({"every": 5, "timezone": None}, "is not an IANA name"),
        ({"every": 5, "missed": "some"}, "missed must be one of all, latest, skip, not 'some'"),
        ({"every": 5, "name": ""}, "a schedule's name must be text"),
    ],
)
def test_what_makes_no_schedule_is_refused(options, reason):
    with pytest.raises(ConfigurationError) as caught:
        schedule(options.pop("name", None), **options)
    assert str(caught.value).startswith("cannot declare a schedule: ")
    assert reason in str(caught.value)


def test_arguments_must_be_json():
    with pytest.raises(InvalidArgumentsError, match=r"args\['when'\]"):
        schedule(every=5, args={"when": timedelta()})
