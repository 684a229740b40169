"""The table of schemas.md, row by row: writer → reader, in both directions where they differ."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from perdure.errors import SchemaIncompatible, ValueUnreadable
from tests.schemas.planning import planned, record, trees_of

U8 = Annotated[int, Meta(extra={"wire": "u8"})]
U16 = Annotated[int, Meta(extra={"wire": "u16"})]
I8 = Annotated[int, Meta(extra={"wire": "i8"})]
U64 = Annotated[int, Meta(extra={"wire": "u64"})]
F32 = Annotated[float, Meta(extra={"wire": "f32"})]
CHAR = Annotated[str, Meta(extra={"wire": "char"})]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Colour(enum.Enum):
    CRIMSON = "red"
    NAVY = "blue"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Read(enum.Flag):
    R = 1


class Perm(enum.Flag):
    R = 1
    W = 2


class Gap(enum.Flag):
    R = 1
    X = 4


A, A2, B, C = (
    record(name, ("x", int, 0), *more, tag=tag) for name, tag, *more in (("A", "a"), ("A", "a", ("y", int, 0)), ("B", "b"), ("C", "c"))
)
LIST_3 = Annotated[list[int], Meta(min_length=3, max_length=3)]

YES: list[tuple[Any, Any, Any]] = [
    (int, Any, 1),
    (A, Any, A()),
    (int, int | None, 1),
    (str, int | str | None, "x"),
    (A, A | B, A(x=1)),
    (A2, A | None, A2(x=1, y=2)),
    (A | B, A2 | B | C | None, A(x=3)),
    (int | None, str | int | float | None, None),
    (Literal["a", "b"], Literal["b", "c", "a"], "a"),
    (Literal["a", "b"], str, "a"),
    (Literal[1, 2], U8, 2),
    (Literal[True], bool, True),
    (bool, Literal[True, False], True),
    (Literal["x"], CHAR, "x"),
    (Literal["ab"], Annotated[str, Meta(pattern="^a")], "ab"),
    (Color, Colour, Color.BLUE),
    (Color, str, Color.RED),
    (Color, Literal["red", "blue", "x"], Color.RED),
    (Literal["red"], Color, "red"),
    (Level, int, Level.HIGH),
    (Level, Annotated[int, Meta(ge=1, le=10)], Level.HIGH),
    (Read, Perm, Read.R),
    (Perm, int, Perm.R | Perm.W),
    (Perm, U8, Perm.R | Perm.W),
    (Perm, Literal[0, 1, 2, 3], Perm.R | Perm.W),
    (Annotated[int, Meta(ge=0, le=3)], Perm, 3),
    (Annotated[int, Meta(ge=1, le=2)], Literal[1, 2], 2),
    (tuple[int, str], list[int | str], (1, "x")),
    (tuple[int, int, int], LIST_3, (1, 2, 3)),
    (LIST_3, tuple[int, int, int], [1, 2, 3]),
    (tuple[int], set[int], (1,)),
    (set[int], list[int], {1, 2}),
    (frozenset[str], set[str], frozenset({"a"})),
    (Annotated[list[int], Meta(max_length=1)], set[int], [1]),
    (dict[U8, int], dict[int, int | None], {1: 2}),
    (U8, U16, 255),
    (U8, int, 255),
    (U64, Annotated[int, Meta(ge=0)], 2**64 - 1),
    (F32, float, 0.5),
    (CHAR, str, "x"),
    (Annotated[int, Meta(gt=2, lt=9)], Annotated[int, Meta(ge=3, le=8)], 3),
    (Annotated[int, Meta(multiple_of=4)], Annotated[int, Meta(multiple_of=2)], 8),
    (Annotated[str, Meta(min_length=1, max_length=1)], CHAR, "x"),
    (Annotated[str, Meta(min_length=2, pattern="^a")], Annotated[str, Meta(min_length=1)], "ab"),
    (Annotated[float, Meta(gt=0)], Annotated[float, Meta(ge=0)], 0.5),
    (Annotated[dt.datetime, Meta(tz=True)], dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
]


@pytest.mark.parametrize(("writer", "reader", "value"), YES, ids=lambda kind: str(kind).replace("typing.", "")[:40])
def test_yes(writer: Any, reader: Any, value: Any) -> None:
    plan = planned(writer, reader)

    assert plan.partial == ()
    for tree in trees_of(value):
        read = plan.read(tree, reader)
        assert _plain(read) == _expected(value, read)


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(value, str_keys=True), order="deterministic"))


def _expected(value: Any, read: Any) -> Any:
    """Return the writer's value as builtins, with what only the reader has."""
    written = _plain(value)
    if not isinstance(read, msgspec.Struct):
        return written
    present = {name: written[name] for name in written if name == "type" or name in read.__struct_fields__}
    return {"y": 0, **present} if "y" in read.__struct_fields__ else present


PARTIAL: list[tuple[Any, Any, str, Any, Any]] = [
    (int | None, int, "alternative-removed", 1, None),
    (int | str, int | None, "alternative-removed", 1, "x"),
    (A | B | C, A | B, "alternative-removed", A(), C()),
    (A | B, B, "alternative-removed", B(), A()),
    (A | None, A2, "alternative-removed", A(), None),
    (Literal["a", "b"], Literal["a"], "member-removed", "a", "b"),
    (Color, Literal["red"], "member-removed", Color.RED, Color.BLUE),
    (Colour, Color, "member-removed", Colour.NAVY, Colour.GREEN),
    (Literal[1, 2], Gap, "member-removed", 1, 2),
    (Perm, Read, "member-removed", Perm.R, Perm.W),
    (Perm, Level, "member-removed", Perm.R, Perm.W),
    (Literal["x", "xy"], CHAR, "member-removed", "x", "xy"),
    (str, Color, "values-narrowed", "red", "green"),
    (str, Literal["x"], "values-narrowed", "x", "y"),
    (int, Perm, "values-narrowed", 3, 4),
    (int, Gap, "values-narrowed", 5, 2),
    (int, U8, "constraint-tightened", 255, 256),
    (U8, I8, "constraint-tightened", 127, 128),
    (int, U64, "constraint-tightened", 0, -1),
    (float, F32, "constraint-tightened", 0.5, 0.1),
    (str, CHAR, "constraint-tightened", "x", "xy"),
    (str, Annotated[str, Meta(max_length=2)], "constraint-tightened", "xy", "xyz"),
    (str, Annotated[str, Meta(pattern="^a")], "constraint-tightened", "ab", "ba"),
    (int, Annotated[int, Meta(multiple_of=2)], "constraint-tightened", 2, 3),
    (bytes, Annotated[bytes, Meta(max_length=1)], "constraint-tightened", b"x", b"xy"),
    (list[int], Annotated[list[int], Meta(min_length=1)], "constraint-tightened", [1], []),
    (dict[str, int], Annotated[dict[str, int], Meta(max_length=1)], "constraint-tightened", {"a": 1}, {"a": 1, "b": 2}),
    (
        dt.datetime,
        Annotated[dt.datetime, Meta(tz=True)],
        "constraint-tightened",
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 1),  # noqa: DTZ001
    ),
    (Any, int, "any-narrowed", 1, "x"),
    (Any, list[A], "any-narrowed", [A()], [1]),  # type: ignore[valid-type]
    (list[int], set[int], "items-may-repeat", [1, 2], [1, 1]),
    (list[int | bool], set[int | bool], "items-may-repeat", [0, True], [1, True]),
    (list[tuple[int, int]], set[tuple[int, int]], "items-may-repeat", [(1, 2), (2, 1)], [(1, 2), (1, 2)]),
    (tuple[int, int], set[int], "items-may-repeat", (1, 2), (1, 1)),
    (list[int], tuple[int, int], "length-may-differ", [1, 2], [1]),
    (dict[Color, int], dict[Literal["red"], int], "member-removed", {Color.RED: 1}, {Color.BLUE: 1}),
    (dict[int, int], dict[U8, int], "constraint-tightened", {255: 1}, {256: 1}),
]


@pytest.mark.parametrize(("writer", "reader", "code", "good", "bad"), PARTIAL, ids=lambda kind: str(kind).replace("typing.", "")[:40])
def test_partial(writer: Any, reader: Any, code: str, good: Any, bad: Any) -> None:
    with pytest.raises(SchemaIncompatible, match="allow a partial plan") as caught:
        planned(writer, reader)

    plan = planned(writer, reader, allow_partial=True)

    assert {(issue.code, issue.partial) for issue in caught.value.issues} == {(code, True)}
    assert plan.partial == caught.value.issues
    for tree in trees_of(good):
        assert msgspec.to_builtins(plan.read(tree, reader), str_keys=True) is not None
    for tree in trees_of(bad):
        with pytest.raises(ValueUnreadable, match=r"^\$"):
            plan.read(tree, reader)


OBJECT, ARRAY = record("S", ("a", int)), record("S", ("a", int), array_like=True)

NO: list[tuple[Any, Any, str]] = [
    (int, float, "kind-changed"),
    (float, int, "kind-changed"),
    (str, bytes, "kind-changed"),
    (bytes, str, "kind-changed"),
    (dt.date, dt.datetime, "kind-changed"),
    (dt.datetime, dt.date, "kind-changed"),
    (int, str | None, "kind-changed"),
    (bool, int, "kind-changed"),
    (Literal[1], Literal[True], "kind-changed"),
    (OBJECT, dict[str, int], "kind-changed"),
    (dict[str, int], OBJECT, "kind-changed"),
    (ARRAY, list[int], "kind-changed"),
    (tuple[int, int], tuple[int], "length-changed"),
    (tuple[int, int], tuple[int, int, int], "length-changed"),
    (tuple[int, int], LIST_3, "length-changed"),
    (LIST_3, tuple[int, int], "length-changed"),
    (set[int], tuple[int, int], "kind-changed"),
    (A, B, "tag-changed"),
    (A, B | C, "tag-changed"),
    (A, record("A", ("x", int, 0)), "tag-changed"),
    (record("A", ("x", int, 0)), A, "tag-changed"),
    (A, record("A", ("x", int, 0), tag="a", tag_field="kind"), "tag-changed"),
    (record("A", tag=1), record("A", tag="1"), "tag-changed"),
    (OBJECT, record("S", forbid_unknown_fields=True), "field-removed"),
    (record("S"), OBJECT, "field-required"),
    (list[int], list[str], "kind-changed"),
    (dict[str, int], dict[int, int], "kind-changed"),
    (int | None, str, "kind-changed"),
]


@pytest.mark.parametrize(("writer", "reader", "code"), NO, ids=lambda kind: str(kind).replace("typing.", "")[:40])
def test_no(writer: Any, reader: Any, code: str) -> None:
    with pytest.raises(SchemaIncompatible) as caught:
        planned(writer, reader, allow_partial=True)

    assert {(issue.code, issue.partial) for issue in caught.value.issues} == {(code, False)}


def test_an_integer_is_the_float_of_a_union_without_integers() -> None:
    found = planned(float | list[A2], float | list[A])  # type: ignore[valid-type]

    assert found.apply(1) == 1
    assert found.apply([{"x": 1, "y": 2}]) == [{"type": "a", "x": 1}]


def test_an_array_struct_is_told_from_its_neighbours_in_a_union() -> None:
    writer, reader = (record("S", *fields, array_like=True) for fields in ([("a", int), ("b", int)], [("b", int), ("a", int)]))
    found = planned(writer | int | None, reader | int | None)

    assert [found.apply(tree) for tree in ([1, 2], 3, None)] == [[2, 1], 3, None]
    with pytest.raises(ValueUnreadable, match="no alternative of the writer's union"):
        found.apply("x")


def test_one_tagged_alternative_may_be_written_without_its_tag() -> None:
    found = planned(A2 | None, A | None)

    assert found.apply({"x": 1, "y": 2}) == {"type": "a", "x": 1}
