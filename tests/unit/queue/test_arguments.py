from __future__ import annotations

import functools
import typing
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel, model_validator
from pydantic.alias_generators import to_camel

import soniqd
from soniqd.errors import ConfigurationError, InvalidArgumentsError
from soniqd.queue.arguments import ArgumentNames, argument_names, read_signature, validate_with_model
from soniqd.queue.context import JobContext

if TYPE_CHECKING:
    from somewhere_else import Unrelated  # type: ignore[import-not-found]


def plain(order_id, note=""): ...
def last(order_id: int, ctx: JobContext): ...
def first(ctx: JobContext, order_id: int): ...
def keyword_only(*, ctx: JobContext, order_id: int): ...
def optional(order_id: int, ctx: Optional[JobContext] = None): ...  # noqa: UP045
def union(order_id: int, ctx: JobContext | None = None): ...
def annotated(order_id: int, ctx: Annotated[JobContext, "of the run"]): ...
def dotted(order_id: int, ctx: soniqd.JobContext): ...
def quoted(order_id: int, ctx: "JobContext"): ...  # noqa: UP037
def unresolved(order_id: Unrelated, ctx: missing.JobContext): ...  # type: ignore[name-defined]  # noqa: F821
def unresolved_neighbour(order_id: Unrelated, ctx: JobContext): ...


class WithCall:
    async def __call__(self, order_id: int, ctx: JobContext): ...

    def method(self, order_id: int, ctx: JobContext): ...


@pytest.mark.parametrize(
    "handler",
    [
        last, first, keyword_only, optional, union, annotated, dotted, quoted, unresolved, unresolved_neighbour,
        WithCall(), WithCall().method, functools.partial(last),
    ],
    ids=lambda handler: getattr(handler, "__qualname__", type(handler).__name__),
)  # fmt: skip
def test_the_context_is_found_by_its_annotation(handler):
    signature = read_signature(handler, "task")
    assert signature.context == "ctx"
    assert signature.accepted == {"order_id"}


def test_the_context_is_found_without_postponed_annotations():
    namespace: dict[str, Any] = {"JobContext": JobContext, "Optional": typing.Optional}
    exec("def handler(a, ctx: JobContext): ...\ndef other(a, ctx: Optional['JobContext']): ...", namespace)
    assert read_signature(namespace["handler"], "task").context == "ctx"
    assert read_signature(namespace["other"], "task").context == "ctx"


def test_a_local_alias_of_the_context_is_found():
    alias = JobContext

    def handler(order_id, ctx: alias):  # type: ignore[valid-type]
        return alias

    assert read_signature(handler, "task").context == "ctx"


def test_a_wrapped_handler_shows_the_signature_inside():
    @functools.wraps(last)
    def wrapper(*args, **kwargs):
        return last(*args, **kwargs)

    assert read_signature(wrapper, "task").context == "ctx"


@pytest.mark.parametrize("annotation", ["MyJobContext", "JobContextual", "int"])
def test_names_that_only_resemble_the_context_are_arguments(annotation):
    namespace: dict[str, Any] = {}
    exec(f"def handler(value: '{annotation}'): ...", namespace)
    signature = read_signature(namespace["handler"], "task")
    assert signature.context is None
    assert signature.accepted == {"value"}


def test_two_contexts_are_refused():
    def handler(one: JobContext, two: JobContext): ...

    with pytest.raises(ConfigurationError, match="one and two both ask for the JobContext"):
        read_signature(handler, "task")


def test_positional_only_parameters_are_refused():
    def handler(order_id, /): ...

    with pytest.raises(ConfigurationError, match="'order_id' is positional-only"):
        read_signature(handler, "task")


@pytest.mark.parametrize("args", [{"order_id": 1}, {"order_id": 1, "note": "x"}])
def test_arguments_that_fit_pass(args):
    read_signature(plain, "task").check("task", args)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({}, "argument 'order_id' is missing"),
        ({"order_id": 1, "color": 2}, "unknown argument 'color'"),
        ({"orderid": 1}, "unknown argument 'orderid', did you mean 'order_id'?"),
        ({"order_id": 1, "queue": "mail"}, "the option queue= goes into .options(queue=...)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(args, problem):
    with pytest.raises(InvalidArgumentsError, match="cannot run 'task'") as caught:
        read_signature(plain, "task").check("task", args)
    assert problem in str(caught.value)


def test_the_context_is_not_an_argument():
    with pytest.raises(InvalidArgumentsError, match="'ctx' is the JobContext"):
        read_signature(last, "task").check("task", {"order_id": 1, "ctx": 2})


def test_a_handler_with_keywords_takes_everything_but_the_context():
    def handler(order_id, ctx: JobContext, **rest): ...

    signature = read_signature(handler, "task")
    signature.check("task", {"order_id": 1, "anything": 2})
    with pytest.raises(InvalidArgumentsError, match="JobContext"):
        signature.check("task", {"order_id": 1, "ctx": 2})


def test_a_missing_argument_that_is_named_like_an_option_says_how_to_pass_it():
    def handler(priority): ...

    with pytest.raises(InvalidArgumentsError, match=r"pass it as args=\{'priority': \.\.\.\}"):
        read_signature(handler, "task").check("task", {})


class Address(BaseModel):
    zip_code: int


class Order(BaseModel):
    order_id: int
    address: Address


def test_a_model_names_every_finding_with_its_path():
    with pytest.raises(InvalidArgumentsError) as caught:
        validate_with_model(Order, "task", {"address": {"zip_code": "x"}})
    assert "order_id: Field required" in str(caught.value)
    assert "address.zip_code: Input should be a valid integer" in str(caught.value)


# -- what is said about arguments to those who do not have the code


@pytest.mark.parametrize(
    ("handler", "names"),
    [
        (plain, ArgumentNames(("order_id",), ("note", "order_id"))),
        (first, ArgumentNames(("order_id",), ("order_id",))),
        (lambda **rest: None, ArgumentNames((), None)),
        (lambda a, **rest: None, ArgumentNames(("a",), None)),
    ],
)
def test_the_names_of_a_handler(handler, names):
    assert argument_names(read_signature(handler, "task"), None) == names


def test_nothing_is_said_without_a_signature():
    assert argument_names(None, None) == ArgumentNames()


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    to: str = Field(alias="recipient")
    copies: int = 1

    @model_validator(mode="after")
    def check(self) -> Strict:
        return self


def test_the_names_of_a_model():
    signature = read_signature(lambda **rest: None, "task")
    assert argument_names(signature, Order) == ArgumentNames(("order_id", "address"), None)
    assert argument_names(signature, Strict) == ArgumentNames(("recipient",), ("recipient", "copies"))


class Before(Order):
    @model_validator(mode="before")
    @classmethod
    def fill_in(cls, values: Any) -> Any:
        return {"order_id": 1, **values}


class ByBothNames(Strict):
    model_config = ConfigDict(populate_by_name=True)


class ByChoice(BaseModel):
    to: str = Field(validation_alias=AliasChoices("to", "recipient"))


class OwnWay(Order):
    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Any:
        return super().model_validate({"order_id": 1, **obj}, **options)


class OwnInit(Order):
    def __init__(self, **values: Any) -> None:
        super().__init__(**{"order_id": 1, **values})


class Forward(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")
    user_id: int
    ship_to: Parcel


class Parcel(BaseModel):
    street: str = ""


class Duck:
    @classmethod
    def model_validate(cls, obj: Any) -> Any:
        return obj


@pytest.mark.parametrize(
    "model", [Before, ByBothNames, ByChoice, OwnWay, OwnInit, Forward, RootModel[dict[str, int]], Duck]
)
def test_nothing_is_said_of_a_model_that_may_accept_what_its_fields_do_not_show(model):
    assert argument_names(None, model) == ArgumentNames()
