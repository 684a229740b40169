"""Structs: fields by name, defaults, absence, objects and arrays, in both directions."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
import pytest
from msgspec import UNSET, UnsetType, field

from perdure.errors import SchemaIncompatible, ValueUnreadable
from perdure.schemas import plan, schema_of
from tests.schemas.planning import planned, record


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    x: int = 0
    y: int = 0


class Line(msgspec.Struct, array_like=True, frozen=True):
    a: int = 0
    b: int = 0


class Tagged(msgspec.Struct, array_like=True, tag="t", frozen=True):
    a: int = 0


def test_a_field_of_the_writer_alone_is_dropped() -> None:
    found = planned(record("S", ("a", int), ("b", str)), record("S", ("a", int)))

    assert found.apply({"a": 1, "b": "x"}) == {"a": 1}


def test_a_field_of_the_reader_alone_gets_the_readers_default_and_not_what_an_unknown_key_holds() -> None:
    reader = record("S", ("a", int), ("b", str, "new"), ("c", list[int], []), ("d", int | UnsetType, UNSET))
    found = planned(record("S", ("a", int), ("old", int)), reader)

    assert found.read({"a": 1, "old": 2, "b": 3}, reader) == reader(a=1)


@pytest.mark.parametrize("later", [(int, 7), (int,), (int, field(default_factory=lambda: 7)), (int | UnsetType, UNSET)])
def test_an_absent_field_has_the_writers_default_whatever_the_reader_says(later: tuple[Any, ...]) -> None:
    writer, reader = record("S", ("a", int, 5)), record("S", ("a", *later))
    found = planned(writer, reader)

    assert found.read({}, reader).a == 5
    assert found.read({"a": 6}, reader).a == 6


def test_an_absent_field_whose_default_is_the_same_stays_absent() -> None:
    found = planned(record("S", ("a", int, 5)), record("T", ("a", int, 5)))

    assert found.is_identity
    assert found.apply({}) == {}


@pytest.mark.parametrize(
    ("kind", "value", "tree"),
    [
        (Color, Color.RED, "red"),
        (Point, Point(x=1), {"x": 1, "y": 0}),
        (Line, Line(1), [1, 0]),
        (Tagged, Tagged(1), ["t", 1]),
        (dict[str, Point], field(default_factory=dict), {}),
        (list[int], field(default_factory=list), []),
        (set[int], field(default_factory=set), []),
        (tuple[int, Point], (1, Point()), [1, {"x": 0, "y": 0}]),
        (bytes, b"\x00", b"\x00"),
        (float, 0.5, 0.5),
        (int, 2**70, 2**70),
        (Any, None, None),
        (Any, (1, b"x"), [1, b"x"]),
        (Point | None, Point(y=3), {"x": 0, "y": 3}),
        (int | str | None, "x", "x"),
    ],
)
def test_every_kind_of_default_is_filled_in_as_it_would_have_been_written(kind: Any, value: Any, tree: Any) -> None:
    found = planned(record("S", ("a", kind, value)), record("S", ("a", kind)))

    assert found.apply({}) == {"a": tree}
    assert found.read({}, record("S", ("a", kind))) is not None


def test_a_filled_default_is_a_value_of_its_own_each_time() -> None:
    reader = record("S", ("a", Any))
    found = planned(record("S", ("a", Any, field(default_factory=list))), reader)

    first, second = found.read({}, reader), found.read({}, reader)
    first.a.append(1)

    assert second.a == []


def test_the_writers_default_goes_through_the_plan_of_its_field() -> None:
    old = record("S", ("p", Point, Point(x=4)))
    new = record("S", ("p", record("Point", ("x", int), ("z", int, 9))))
    found = planned(old, new)

    assert found.apply({}) == {"p": {"x": 4}}


def test_a_default_that_is_no_value_of_its_type_makes_the_plan_partial_unless_the_reader_has_the_same() -> None:
    writer: Any = record("S", ("a", int, None), ("b", int, 0))
    found = planned(writer, record("S", ("a", int, 3)), allow_partial=True)

    assert [(issue.path, issue.code, issue.partial) for issue in found.partial] == [("$.a", "default-unreadable", True)]
    assert found.apply({"a": 1}) == {"a": 1}
    with pytest.raises(ValueUnreadable, match=r"\$\.a: the reader requires it"):
        found.apply({})
    assert planned(writer, record("S", ("a", int, None))).apply({}) == {}


@pytest.mark.parametrize("earlier", [(int, field(default_factory=lambda: 7)), (int | UnsetType, UNSET)])
def test_what_may_be_absent_without_a_value_cannot_be_required(earlier: tuple[Any, ...]) -> None:
    writer, reader = record("S", ("a", *earlier)), record("S", ("a", int))
    with pytest.raises(SchemaIncompatible) as caught:
        planned(writer, reader)

    found = planned(writer, reader, allow_partial=True)

    assert [(issue.path, issue.code, issue.partial) for issue in caught.value.issues] == [("$.a", "now-required", True)]
    assert found.read({"a": 1}, reader) == reader(a=1)
    with pytest.raises(ValueUnreadable, match=r"^\$\.a: "):
        found.read({}, reader)
    assert planned(writer, record("S", ("a", int, 3))).apply({}) == {}


def test_a_default_without_a_required_field_is_no_value_of_its_type() -> None:
    found = planned(record("S", ("t", Typed, field(default_factory=dict))), record("S", ("t", Typed)), allow_partial=True)

    assert [issue.code for issue in found.partial] == ["default-unreadable"]


def test_a_closed_reader_refuses_what_it_does_not_know_and_nothing_else() -> None:
    writer = record("S", ("a", int))

    assert planned(writer, record("S", ("a", int), ("b", int, 0), forbid_unknown_fields=True)).apply({"a": 1}) == {"a": 1}
    with pytest.raises(SchemaIncompatible, match=r"^\$\.a: field-removed"):
        planned(writer, record("S", forbid_unknown_fields=True))


def test_objects_and_arrays_become_each_other() -> None:
    fields: list[Any] = [("a", int), ("b", str, "x"), ("c", int, 3)]
    as_object, as_array = record("S", *fields, tag="s"), record("S", *fields, tag="s", array_like=True)
    there, back = planned(as_object, as_array), planned(as_array, as_object)

    assert there.apply({"type": "s", "a": 1, "c": 4}) == ["s", 1, "x", 4]
    assert there.apply({"a": 1}) == ["s", 1]
    assert back.apply(["s", 1, "y"]) == {"type": "s", "a": 1, "b": "y"}
    assert there.read({"a": 1}, as_array) == as_array(a=1)
    assert back.read(["s", 1, "y", 2], as_object) == as_object(a=1, b="y", c=2)


def test_fields_of_an_array_are_matched_by_name() -> None:
    writer = record("S", ("a", int), ("b", str), ("c", int, 3), array_like=True)
    reader = record("S", ("c", int, 0), ("d", int, 9), ("a", int), array_like=True)
    found = planned(writer, reader)

    assert found.apply([1, "x", 4]) == [4, 9, 1]
    assert found.apply([1, "x"]) == [3, 9, 1]


def test_an_array_that_only_grew_at_its_end_is_read_as_it_is() -> None:
    fields: list[Any] = [("a", int), ("b", int)]

    assert planned(record("S", *fields, array_like=True), record("S", *fields, ("c", int, 0), array_like=True)).is_identity


@pytest.mark.parametrize(
    ("default", "code", "partial"), [((field(default_factory=lambda: 7),), "field-required", False), ((UNSET,), "field-required", False)]
)
def test_an_array_cannot_leave_out_a_field_before_a_later_one(default: tuple[Any, ...], code: str, partial: bool) -> None:
    kind: Any = int | UnsetType
    writer = record("S", ("z", int))
    reader = msgspec.defstruct("S", [("a", kind, *default), ("z", int, 0)], array_like=True)

    with pytest.raises(SchemaIncompatible) as caught:
        planned(writer, reader)
    assert [(issue.path, issue.code, issue.partial) for issue in caught.value.issues] == [("$.a", code, partial)]

    found = planned(record("S", ("a", kind, *default), ("z", int)), reader, allow_partial=True)
    assert [issue.code for issue in found.partial] == ["now-required"]
    assert found.apply({"a": 1, "z": 2}) == [1, 2]
    with pytest.raises(ValueUnreadable, match=r"^\$\.a: an array cannot"):
        found.apply({"z": 2})


@dataclasses.dataclass
class Data:
    a: int
    b: str = "x"


class Named(NamedTuple):
    a: int
    b: str = "x"


class Typed(TypedDict):
    a: int
    b: NotRequired[str]


def test_struct_dataclass_typed_dict_and_named_tuple_are_alike() -> None:
    struct = record("Other", ("a", int), ("b", str, "x"))

    assert planned(Data, struct).is_identity
    assert planned(struct, Data).read({"a": 1}, Data) == Data(1)
    assert planned(Named, struct).read([1], struct) == struct(a=1)
    assert planned(struct, Named).read({"a": 1, "b": "y"}, Named) == Named(1, "y")
    assert planned(struct, Typed).read({"a": 1}, Typed) == {"a": 1, "b": "x"}
    assert planned(Typed, struct).read({"a": 1}, struct) == struct(a=1)


def test_names_and_order_of_fields_do_not_matter_and_renamed_fields_go_by_their_name_in_the_data() -> None:
    writer = record("One", ("first", int), ("second", str), rename="camel")
    reader = record("Two", ("b", str), ("a", int), rename={"a": "first", "b": "second"})

    assert planned(writer, reader).is_identity
    assert planned(writer, reader).read({"first": 1, "second": "x"}, reader) == reader(a=1, b="x")


@pytest.mark.parametrize("tree", [None, 1, "x", [], {"b": {}}, {"b": 3}, {"b": [1]}, {"type": "t", "b": []}, {"b": [{"x": []}]}, {}])
def test_data_that_is_not_in_the_writers_form_is_a_typed_error(tree: Any) -> None:
    writer = record("S", ("b", list[record("P", ("x", int), ("y", int))]), tag="s")  # type: ignore[misc]
    reader = record("S", ("b", list[record("P", ("x", int))]), tag="s")  # type: ignore[misc]
    found = planned(writer, reader)

    with pytest.raises(ValueUnreadable, match=r"^\$"):
        found.read(tree, reader)


def test_the_same_type_needs_no_plan_and_no_documents() -> None:
    root, _ = schema_of(Data)

    assert plan(root, root, {}).is_identity
