"""Defects of the seed's system that concern schemas and plans: `operations.md` 5.2, numbers 9 to 14. None is ours."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest
from msgspec import Meta

from perdure.errors import SchemaIncompatible, SchemaInvalid, ValueUnreadable
from perdure.schemas import Schema, SchemaRegistry, closure, plan, schema_of, verify
from tests.schemas.graphs import Node, Part, classes_of
from tests.schemas.planning import planned, record

T = TypeVar("T")
U8 = Annotated[int, Meta(extra={"wire": "u8"})]


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    one: T | None = None
    count: int = 0


class Tree(msgspec.Struct):
    kids: list[Tree] = []


class Mapped(msgspec.Struct):
    inner: dict[str, Mapped] = {}


class Neighbours(msgspec.Struct):
    p: Tree
    q: Mapped


def _cycle(last: str) -> list[Node]:
    return [Node([Part(targets=(1,))]), Node([Part(targets=(2,))]), Node([Part(targets=(0,)), Part(scalar=last)])]


def test_defect_operations_9_a_member_of_a_cycle_has_one_hash_wherever_one_starts_and_an_edit_changes_all_of_them() -> None:
    with classes_of(_cycle("int")) as before, classes_of(_cycle("str")) as after, classes_of(_cycle("int"), [2, 0, 1]) as again:
        hashes = [[schema_of(kind)[0] for kind in kinds] for kinds in (before, after, again)]

    assert hashes[0] == hashes[2]
    assert not set(hashes[0]) & set(hashes[1])


def test_defect_operations_9_neighbours_do_not_change_the_hash_of_a_recursive_type() -> None:
    registry = schema_of(Neighbours)[1]

    assert {schema_of(Tree)[0].hash, schema_of(Mapped)[0].hash} < registry.keys()


def test_defect_operations_10_a_field_that_looks_like_the_argument_is_not_taken_for_it() -> None:
    of_int, of_str = (schema_of(kind)[1][schema_of(kind)[0].hash].decode() for kind in (Page[int], Page[str]))

    assert of_int.count('"type":"int"') == 1
    assert '{"default":0,"name":"count","type":"int"}' in of_str
    assert '"args":["str"],"fields":[{"name":"items","type":{"list":"str"}}' in of_str


def test_defect_operations_10_two_instances_of_a_generic_have_bodies_of_their_own_at_every_depth() -> None:
    both = schema_of(dict[str, tuple[Page[Page[int]], Page[Page[str]]]])[1]

    assert len(both) == 5
    for kind in (Page[int], Page[str], Page[Page[int]], Page[Page[str]]):
        assert both[schema_of(kind)[0].hash] == schema_of(kind)[1][schema_of(kind)[0].hash]


def test_defect_operations_11_alternatives_are_planned_field_by_field_to_the_bottom() -> None:
    inner, renamed, larger = (record("In", (name, kind)) for name, kind in (("x", int), ("y", int), ("x", int | None)))
    old = record("A", ("inner", inner), tag="a") | record("B", tag="b")

    for changed in (renamed, record("In", ("x", str))):
        with pytest.raises(SchemaIncompatible) as caught:
            planned(old, record("A", ("inner", changed), tag="a") | record("B", tag="b"))
        assert caught.value.issues[0].path.startswith("$(a).inner.")
    with pytest.raises(SchemaIncompatible, match=r"\$\(a\)\.more: field-required"):
        planned(old, record("A", ("inner", inner), ("more", int), tag="a") | record("B", tag="b"))
    assert planned(old, record("A", ("inner", larger), tag="a") | record("B", tag="b")).is_identity


def test_defect_operations_11_alternatives_are_found_by_tag_and_not_by_position() -> None:
    a, b, z = (record(tag.upper(), ("x", int, place), tag=tag) for place, tag in enumerate("abz"))
    reader = record("First", ("n", int, 0), tag="A0") | a | record("B", ("x", int, 9), tag="b") | z
    found = planned(a | b | None, reader | None)

    assert found.read({"type": "a", "x": 3}, reader) == a(x=3)
    assert found.read({"type": "b"}, reader).x == 1


def test_defect_operations_11_lengths_are_part_of_the_type() -> None:
    with pytest.raises(SchemaIncompatible, match="length-changed"):
        planned(tuple[int, int], tuple[int, int, int])
    with pytest.raises(SchemaIncompatible, match="constraint-tightened"):
        planned(Annotated[list[int], Meta(max_length=3)], Annotated[list[int], Meta(max_length=2)])


def test_defect_operations_11_a_result_is_a_union_like_any_other() -> None:
    ok, err = record("Ok", ("value", int), tag=0), record("Err", ("error", str), tag=1)
    swapped = record("Err", ("error", str), tag=0) | record("Ok", ("value", int), tag=1)

    assert planned(ok | err, err | ok).is_identity
    with pytest.raises(SchemaIncompatible):
        planned(ok | err, swapped)


def test_defect_operations_12_recursive_types_are_planned_between_equal_and_between_different_builds() -> None:
    with classes_of(_cycle("int")) as one, classes_of(_cycle("int")) as two:
        same = planned(one[0], two[0])
        widened = planned(one[0], record("N0", ("f0", one[1]), ("extra", int, 0), ("new", int, 0), tag=0))

    assert same.is_identity
    assert widened.is_identity
    assert planned(Tree, record("Tree", ("kids", list[Tree]))).apply({}) == {"kids": []}


def test_defect_operations_12_the_same_hash_needs_no_documents_and_the_registry_is_not_copied() -> None:
    class Counting(SchemaRegistry):
        reads = 0

        def __getitem__(self, key: str) -> bytes:
            Counting.reads += 1
            return super().__getitem__(key)

    root, _ = schema_of(Neighbours)
    assert plan(root, root, {}).is_identity

    documents = Counting(schema_of(list[Neighbours])[1] | schema_of(list[Tree])[1])
    plan(schema_of(list[Neighbours])[0], schema_of(list[Tree])[0], documents)
    assert Counting.reads <= len(documents)


@pytest.mark.parametrize(
    "other", [(int, 0), (int, msgspec.field(default_factory=lambda: 0)), (int | msgspec.UnsetType, msgspec.UNSET), (int | None,)]
)
def test_defect_operations_13_required_is_in_the_hash(other: tuple[Any, ...]) -> None:
    assert schema_of(record("S", ("x", int)))[0] != schema_of(record("S", ("x", *other)))[0]


def test_defect_operations_14_a_received_name_is_computed_again_and_has_128_bits() -> None:
    root, registry = schema_of(Tree)
    other = schema_of(Mapped)
    poisoned = registry | {root.hash: other[1][other[0].hash]}

    assert len(bytes.fromhex(root.hash)) == 16
    for received in (lambda: closure(root.hash, poisoned), lambda: plan(root, other[0], poisoned | other[1])):
        with pytest.raises(SchemaInvalid, match="it is another one, or damaged"):
            received()
    with pytest.raises(SchemaInvalid, match=other[0].hash):
        verify(Schema(root.hash, poisoned[root.hash]))


def test_a_value_that_is_not_the_writers_is_never_read_as_something_else() -> None:
    found = planned(U8, Annotated[int, Meta(extra={"wire": "i8"})], allow_partial=True)

    for value in (True, "1", 1.0, None, [1]):
        with pytest.raises(ValueUnreadable):
            found.apply(value)
