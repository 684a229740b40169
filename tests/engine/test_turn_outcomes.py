"""What a step returns or raises: the code sees the same, live and on every replay."""

from __future__ import annotations

import asyncio
import enum
import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Self, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import limits
from perdure.engine.outcomes import UNANNOTATED, Output, decode_error, encode_error
from perdure.engine.retry import Retry
from perdure.errors import KeyTaken, NondeterministicTurn, PerdureError, StepFailed, StepOutputInvalid, UsageError
from perdure.identity import ProcessId
from tests.engine.turns import Diary, Life, World


def seen_by_the_code(function: Callable[..., Any], *args: Any, retry: Retry | None = None) -> tuple[Any, Any, Life]:
    """What a handler gets of a step: live, and replayed. Exceptions are returned."""
    seen: list[Any] = []

    async def handler(p: Diary) -> None:
        try:
            seen.append(await p.step(function, *args, name="x", retry=retry))
        except Exception as error:  # noqa: BLE001  # what the code gets is what is tested
            seen.append(error)
        await p.sleep(1)

    world = World(handler)
    life = Life(world).run()
    assert life.error is None
    assert Life(world, life.commits[:-1]).run().over
    live, replayed = seen
    return live, replayed, life


# --- values --------------------------------------------------------------------------------------


class Item(msgspec.Struct):
    name: str
    parts: tuple[int, ...] = ()


@dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict):
    depth: int


def returns(kind: Any, value: Any) -> Callable[[], Any]:
    def function() -> Any:
        return value

    function.__annotations__["return"] = kind
    return function


ANNOTATED = [
    (Item, Item("a", (1, 2))),
    (list[Item], [Item("a")]),
    (Point, Point(1, 2)),
    (Colour, Colour.RED),
    (Pair, Pair(1, "b")),
    (Options, {"depth": 3}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    pytest.param(frozenset[str], frozenset("ab"), id="frozenset[str]"),  # its text differs from one run to the next
    (dict[str, int], {"a": 1}),
    (datetime, datetime(2024, 5, 6, tzinfo=UTC)),
    (timedelta, timedelta(seconds=3)),
    (Decimal, Decimal("1.20")),
    (uuid.UUID, uuid.UUID(int=7)),
    (bytes, b"\x00\xff"),
    (Item | None, None),
    (None, None),
    (ProcessId, ProcessId("p7")),
    (str, "text"),
]


@pytest.mark.parametrize(("kind", "value"), ANNOTATED, ids=lambda part: str(part)[:30])
def test_a_declared_output_comes_back_as_what_was_declared(kind: Any, value: Any) -> None:
    live, replayed, _ = seen_by_the_code(returns(kind, value))

    assert live == replayed == value
    assert type(live) is type(replayed) is type(value)


def test_live_the_code_gets_the_decoded_value_not_the_object_of_the_step() -> None:
    made = Item("a")
    live, replayed, _ = seen_by_the_code(returns(Item, made))
    assert live == replayed == made
    assert live is not made

    live, replayed, _ = seen_by_the_code(returns(Any, (1, (2, "x"))))
    assert live == replayed == [1, [2, "x"]]
    live, replayed, _ = seen_by_the_code(returns(float, 1))
    assert (type(live), type(replayed)) == (float, float)


ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON_TEXT = st.text(st.characters(codec="utf-8"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(JSON_TEXT, inner),
    max_leaves=8,
)


@given(PLAIN)
@settings(deadline=None, max_examples=60)
def test_plain_data_needs_no_declaration(value: Any) -> None:
    data, decoded = Output(UNANNOTATED).record(value, what="step 'x'", limit=limits.STEP_OUTPUT_MAX)
    assert decoded == value
    assert Output(UNANNOTATED).decode(data) == value


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {"a": (1,)},
        {1},
        b"x",
        Item("a"),
        Point(1, 2),
        datetime(2024, 5, 6, tzinfo=UTC),
        Decimal(1),
        Colour.RED,
        ProcessId("p"),
    ],
    ids=repr,
)
def test_undeclared_data_that_changes_on_the_way_is_refused(value: Any) -> None:
    def function():  # type: ignore[no-untyped-def]
        return value

    live, replayed, _ = seen_by_the_code(function)
    assert type(live) is type(replayed) is StepOutputInvalid
    assert "declare the type" in str(live)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (int, "seven", "Expected `int`"),
        (None, 7, "Expected `null`"),
        (float, float("nan"), "NaN"),
        (Any, object(), "cannot be recorded"),
        (str, "x" * limits.STEP_OUTPUT_MAX, "the limit is"),
        (str, "\udcff", "cannot be recorded"),
    ],
)
def test_an_output_that_cannot_be_recorded_is_an_error_of_the_step_and_not_tried_again(kind: Any, value: Any, says: str) -> None:
    live, replayed, life = seen_by_the_code(returns(kind, value), retry=Retry(max_attempts=5))

    assert type(live) is type(replayed) is StepOutputInvalid
    assert says in str(live)
    assert str(live) == str(replayed)
    assert life.started == ["x"], "the effect has happened"


@dataclass
class Shy:  # noqa: PLW1641  # nothing hashes it
    name: str

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compare me not")

    def __repr__(self) -> str:
        raise RuntimeError("show me not")


def test_a_value_whose_own_code_breaks_is_an_error_of_the_step() -> None:
    def undeclared():  # type: ignore[no-untyped-def]
        return Shy("a")

    def deep():  # type: ignore[no-untyped-def]
        return {"a": Shy("b")}

    for function in (undeclared, deep):
        live, replayed, _ = seen_by_the_code(function)
        assert type(live) is type(replayed) is StepOutputInvalid
        assert str(live) == str(replayed)


class Scale:
    """Not hashable, and called like a function."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, item: str) -> int:
        return len(item)


def test_whatever_can_be_called_can_be_a_step() -> None:
    assert seen_by_the_code(Scale(), "abc")[:2] == (3, 3)
    assert seen_by_the_code(functools.partial(Scale(), item="ab"))[:2] == (2, 2)
    assert seen_by_the_code("a-b".split, "-")[:2] == (["a", "b"], ["a", "b"])
    assert seen_by_the_code(len, "abc")[:2] == (3, 3)


def test_a_return_type_that_no_value_can_be_read_as_is_refused_before_the_step_runs() -> None:
    live, replayed, life = seen_by_the_code(returns(list[int] | tuple[str, ...], [1]))
    assert type(live) is type(replayed) is UsageError
    assert not life.started
    assert "declare another type" in str(live)


def test_a_record_that_the_declared_type_cannot_read_any_more_is_no_failure_of_the_turn() -> None:
    kind: list[Any] = [int]

    async def handler(p: Diary) -> None:
        await p.step(returns(kind[0], 7), name="x")
        await p.sleep(1)

    world = World(handler)
    life = Life(world).run()
    kind[0] = str
    with pytest.raises(NondeterministicTurn, match=r"'x' recorded cannot be read any more.*put the code back"):
        Life(world, life.commits[:-1])


# --- exceptions ----------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, order: str, *, reason: str) -> None:
        super().__init__(f"{order}: {reason}")
        self.order = order
        self.reason = reason
        self.connection = object()
        self.seen_at = datetime(2024, 5, 6, tzinfo=UTC)


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Picky(Exception):
    def __new__(cls, code: int) -> Self:
        return super().__new__(cls, code)


class Attached(Exception):
    def __init__(self) -> None:
        super().__init__()
        self.socket = {"kind": object()}

    def __str__(self) -> str:
        return f"on a {'socket' if self.socket else 'string'}"


class Sealed(Exception):
    @property
    def text(self) -> str:
        return "sealed"


def raises(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def test_an_exception_comes_back_as_its_own_class_with_args_and_attributes() -> None:
    error = Refused("o1", reason="no money")
    live, replayed, _ = seen_by_the_code(raises(error))

    for got in (live, replayed):
        assert type(got) is Refused
        assert (got.args, str(got)) == (("o1: no money",), "o1: no money")
        assert (got.order, got.reason) == ("o1", "no money")
        assert not hasattr(got, "connection"), "what has no form is left out"
    assert vars(live) == vars(replayed)
    assert live.__cause__ is error, "live, the original is at hand"
    assert replayed.__cause__ is None


@pytest.mark.parametrize(
    "error",
    [ValueError(), ValueError("a", 1, [2, None]), KeyError("k"), KeyTaken("k", "p9"), StepFailed("inner"), TimeoutError("late"), Picky(3)],
    ids=repr,
)
def test_exceptions_with_plain_arguments_are_equal_live_and_replayed(error: Exception) -> None:
    live, replayed, _ = seen_by_the_code(raises(error))
    assert type(live) is type(replayed) is type(error)
    assert live.args == replayed.args == error.args
    assert str(live) == str(replayed) == str(error)


def test_an_error_of_the_system_keeps_its_number() -> None:
    live, replayed, _ = seen_by_the_code(open, "/nowhere/at all")
    assert type(live) is type(replayed) is FileNotFoundError
    assert live.errno == replayed.errno == 2
    assert live.strerror == replayed.strerror


def local_class() -> Exception:
    class Hidden(Exception):
        pass

    return Hidden("where am I")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (local_class(), "local_class.<locals>.Hidden: where am I"),
        (ValueError(object), "ValueError: <class 'object'>"),
        (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (asyncio.CancelledError(), "CancelledError: "),
        (SystemExit(3), "SystemExit: 3"),
        (StopIteration(7), "StopIteration: 7"),
        (Silent("x", object()), "Silent: (its text cannot be made)"),
        (ValueError("\udcff"), "ValueError: \\udcff"),
        (Attached(), "Attached: on a socket"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_an_exception_that_cannot_be_made_again_is_a_failed_step_with_its_text(error: BaseException, text: str) -> None:
    live, replayed, _ = seen_by_the_code(raises(error))
    assert type(live) is type(replayed) is StepFailed
    assert str(live) == str(replayed)
    assert str(live).startswith(text)
    assert live.__cause__ is error


def test_a_class_that_is_gone_or_whose_module_does_not_load_gives_a_failed_step(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perdure_test_broken.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    recorded = encode_error(Refused("o1", reason="r"))
    for old, new in (
        (b"Refused", b"Refound"),
        (b"tests.engine.test_turn_outcomes", b"nowhere.at_all"),
        (b"tests.engine.test_turn_outcomes", b"perdure_test_broken"),
    ):
        got = decode_error(recorded.replace(old, new), otherwise=StepFailed)
        assert type(got) is StepFailed
        assert "o1: r" in str(got)


def test_an_attribute_that_cannot_be_set_again_gives_a_failed_step() -> None:
    error = Sealed("x")
    error.__dict__["text"] = "other"
    assert type(decode_error(encode_error(error), otherwise=StepFailed)) is StepFailed


@given(ANY_TEXT, st.lists(PLAIN | st.binary() | ANY_TEXT))
@settings(deadline=None, max_examples=60)
def test_any_exception_can_be_recorded_and_read_back(name: str, args: list[Any]) -> None:
    error = Refused("o", reason="r")
    error.args = tuple(args)
    error.__dict__["a" + name] = args
    got = decode_error(encode_error(error), otherwise=PerdureError)
    assert type(got) is Refused or type(got) is PerdureError
