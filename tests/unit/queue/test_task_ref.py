from __future__ import annotations

import pytest
from pydantic import BaseModel

from soniqd.errors import ConfigurationError, InvalidTaskNameError
from soniqd.queue.task_ref import TaskRef, task_ref


class InvoiceArgs(BaseModel):
    invoice_id: int


def test_arguments_go_by_position_or_by_keyword():
    by_position = task_ref("billing.send_invoice", InvoiceArgs)
    assert by_position == task_ref(name="billing.send_invoice", args_model=InvoiceArgs)
    assert by_position == TaskRef("billing.send_invoice", InvoiceArgs, None)


def test_a_reference_can_be_a_dictionary_key_and_be_routed_elsewhere():
    reference = task_ref("billing.send_invoice", default_queue="billing")
    assert {reference: 1}[task_ref("billing.send_invoice", default_queue="billing")] == 1
    assert reference.with_default_queue("slow").default_queue == "slow"


@pytest.mark.parametrize("name", ["", "Billing", "a b", ".a", "a..b", 7])
def test_names_that_do_not_match_are_refused(name):
    with pytest.raises(InvalidTaskNameError, match="as a task name"):
        task_ref(name)


def test_the_environment_can_set_another_pattern(monkeypatch):
    monkeypatch.setenv("SONIQ_TASK_NAME_PATTERN", "[A-Z]+")
    assert task_ref("BILLING").name == "BILLING"
    with pytest.raises(InvalidTaskNameError):
        task_ref("billing")


@pytest.mark.parametrize("wrong", [{"args_model": dict}, {"default_queue": ""}, {"default_queue": 3}])
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=r"cannot refer to 'a\.b'"):
        task_ref("a.b", **wrong)
