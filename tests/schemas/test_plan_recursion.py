"""Recursive pairs and upcasters."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from perdure import limits
from perdure.errors import SchemaIncompatible, SchemaMissing, ValueUnreadable
from perdure.schemas import Upcasters, plan, schema_of
from perdure.schemas.canonical import text_of
from perdure.schemas.decide import Pair
from perdure.schemas.loading import NamedTypes
from perdure.schemas.solve import Solver
from tests.schemas.graphs import Node, Part, classes_of, graphs, reaches
from tests.schemas.planning import hash_of, planned, record


class Tree(msgspec.Struct):
    label: str
    children: list[Tree] = []


class Tree2(msgspec.Struct):
    label: str
    children: list[Tree2] = []
    weight: int = 1


class Packed(msgspec.Struct, array_like=True):
    weight: int = 0
    children: list[Packed] = []
    label: str = ""


class Strict(msgspec.Struct):
    label: str
    weight: int
    children: list[Strict] = []


class A1(msgspec.Struct):
    b: B1 | None = None


class B1(msgspec.Struct):
    a: A1 | None = None
    x: int = 0


class A2(msgspec.Struct):
    b: B2 | None = None


class B2(msgspec.Struct):
    a: A2 | None = None
    x: str = ""


class Euros(msgspec.Struct):
    amount: int


class Cents(msgspec.Struct):
    cents: int


class Money(msgspec.Struct):
    cents: int
    currency: str


class Old(msgspec.Struct):
    pay: Euros | None = None
    n: int = 0


class New(msgspec.Struct):
    pay: Money | None = None
    n: int = 0
    note: str = ""


UPCASTERS: Upcasters = {
    hash_of(Euros): (lambda old: {"cents": old["amount"] * 100}, hash_of(Cents)),
    hash_of(Cents): (lambda old: {**old, "currency": "EUR"}, hash_of(Money)),
}


def test_a_recursive_pair_is_read_to_the_end() -> None:
    tree = {"label": "a", "children": [{"label": "b", "children": [{"label": "c"}]}]}

    assert planned(Tree, Tree2).is_identity
    read = planned(Tree, Packed).read(tree, Packed)
    back = planned(Packed, Tree).read([0, [[0, [[0, [], "c"]], "b"]], "a"], Tree)

    assert read.children[0].children[0] == Packed(label="c")
    assert back == msgspec.convert(tree, Tree)


def test_what_is_wrong_in_a_recursive_pair_is_said_once_with_the_shortest_path() -> None:
    with pytest.raises(SchemaIncompatible) as caught:
        planned(list[Tree], list[Strict])

    assert [(issue.path, issue.code) for issue in caught.value.issues] == [("$[].weight", "field-required")]


def test_a_group_that_fails_anywhere_fails_from_every_member() -> None:
    for writer, reader, path in ((A1, A2, "$.b.x"), (B1, B2, "$.x")):
        with pytest.raises(SchemaIncompatible) as caught:
            planned(writer, reader)
        assert [(issue.path, issue.code) for issue in caught.value.issues] == [(path, "kind-changed")]


def test_pairs_of_large_groups_are_decided_once_each() -> None:
    count = 12
    everyone = [Part(targets=(target,), wrapper="list[{}]") for target in range(count)]
    nodes = [Node(list(everyone)) for _ in range(count)]
    with classes_of(nodes) as writers, classes_of([Node(list(everyone), extra=1) for _ in nodes]) as readers:
        types = NamedTypes(schema_of(writers[0])[1] | schema_of(readers[0])[1])
        root = Pair(text_of(types.load(hash_of(writers[0]))), text_of(types.load(hash_of(readers[0]))))
    solver = Solver(types, {})

    assert solver.solve(root) == []
    assert len(solver._decisions) == count


@given(graphs(5), st.data())
@settings(max_examples=50, deadline=None)
def test_a_new_required_field_is_found_from_exactly_the_types_that_reach_it(nodes: list[Node], data: st.DataObject) -> None:
    edited = data.draw(st.integers(0, len(nodes) - 1))
    changed = copy.deepcopy(nodes)
    changed[edited].parts.append(Part())
    reach = reaches(nodes)

    with classes_of(nodes) as writers, classes_of(changed) as readers:
        found = [_codes(writer, reader) for writer, reader in zip(writers, readers, strict=True)]

    expected = {edited} | {number for number in range(len(nodes)) if edited in reach[number]}
    assert found == [["field-required"] if number in expected else [] for number in range(len(nodes))]


def _codes(writer: Any, reader: Any) -> list[str]:
    try:
        planned(writer, reader)
    except SchemaIncompatible as error:
        return [issue.code for issue in error.issues]
    return []


def test_data_deeper_than_the_stack_is_a_typed_error() -> None:
    tree: Any = {"label": "a", "children": []}
    for _ in range(sys.getrecursionlimit()):
        tree = {"label": "a", "children": [tree]}

    with pytest.raises(ValueUnreadable, match="nested too deeply"):
        planned(Tree, Packed).apply(tree)
    with pytest.raises(ValueUnreadable, match="nested too deeply"):
        planned(Tree, Tree2).read(tree, Tree2)


def test_a_chain_of_two_upcasters_reads_an_optional_field() -> None:
    found = planned(Old, New, Cents, upcasters=UPCASTERS)

    assert found.partial == ()
    assert found.read({"pay": {"amount": 3}, "n": 1}, New) == New(pay=Money(300, "EUR"), n=1)
    assert found.read({"pay": None, "n": 1}, New) == New(n=1)
    assert found.read({}, New) == New()


@pytest.mark.parametrize(
    ("writer", "reader", "tree", "expected"),
    [
        (Euros, Money, {"amount": 1}, Money(100, "EUR")),
        (list[Euros], list[Money], [{"amount": 1}], [Money(100, "EUR")]),
        (dict[str, tuple[Euros, int]], dict[str, tuple[Money, int]], {"a": [{"amount": 1}, 2]}, {"a": (Money(100, "EUR"), 2)}),
        (Cents, Money, {"cents": 1}, Money(1, "EUR")),
        (Money, Money | None, {"cents": 1, "currency": "USD"}, Money(1, "USD")),
    ],
)
def test_upcasters_apply_at_the_root_and_nested_and_only_where_they_are_needed(writer: Any, reader: Any, tree: Any, expected: Any) -> None:
    found = planned(writer, reader, Cents, upcasters=UPCASTERS)

    assert found.read(tree, reader) == expected


def test_an_upcaster_is_found_from_the_hash_of_a_member_of_a_recursive_group() -> None:
    def upcast(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "x": str(old.get("x", 0))}

    middle = record("B1", ("a", A1 | None, None), ("x", str, ""))
    upcasters = {hash_of(B1): (upcast, hash_of(middle))}
    found = planned(A1, A2, middle, upcasters=upcasters)

    assert found.read({"b": {"x": 3, "a": {"b": {"x": 4}}}}, A2) == A2(B2(A2(B2(x="4")), "3"))


def test_the_cause_is_upcast_and_not_what_holds_it() -> None:
    outer = (lambda old: {"pay": None, "n": -1}, hash_of(New))
    found = planned(Old, New, Cents, upcasters={**UPCASTERS, hash_of(Old): outer})

    assert found.read({"pay": {"amount": 3}, "n": 1}, New).n == 1


def test_of_two_types_that_fail_the_one_that_is_the_cause_is_upcast() -> None:
    cause, fixed = record("Q", ("x", int)), record("Q", ("x", int), ("y", int))
    holder, later = record("P", ("q", cause)), record("P", ("q", fixed))
    upcasters: Upcasters = {
        hash_of(cause): (lambda old: {**old, "y": 1}, hash_of(fixed)),
        hash_of(holder): (lambda old: {"q": {"x": -1, "y": -1}}, hash_of(later)),
    }
    reader = record("R", ("q", fixed), ("p", later))
    found = planned(record("R", ("q", cause), ("p", holder)), reader, upcasters=upcasters)

    assert found.apply({"q": {"x": 5}, "p": {"q": {"x": 6}}}) == {"q": {"x": 5, "y": 1}, "p": {"q": {"x": 6, "y": 1}}}


def test_what_holds_the_cause_is_upcast_when_the_cause_cannot_be() -> None:
    upcasters: Upcasters = {hash_of(Old): (lambda old: {"n": old["n"], "note": "upcast"}, hash_of(New))}

    assert planned(list[Old], list[New], upcasters=upcasters).read([{"n": 1}], list[New]) == [New(n=1, note="upcast")]


def test_an_absent_field_whose_default_only_looks_the_same_is_upcast() -> None:
    euros, cents = record("Price", ("n", int), frozen=True), record("Price", ("n", Annotated[int, Meta(le=1000)]), frozen=True)
    upcasters: Upcasters = {hash_of(euros): (lambda old: {"n": old["n"] * 100}, hash_of(cents))}
    writer, reader = (record("S", ("price", price, price(n=1))) for price in (euros, cents))

    assert planned(writer, reader, upcasters=upcasters).apply({}) == {"price": {"n": 100}}


def test_an_upcaster_from_a_type_without_name_helps_where_the_reader_has_one() -> None:
    upcasters = {hash_of(int): (lambda old: {"cents": old}, hash_of(Cents))}

    assert planned(list[int], list[Cents], upcasters=upcasters).read([5], list[Cents]) == [Cents(5)]


def test_an_alternative_that_was_removed_is_upcast_to_another() -> None:
    a, b = record("A", ("x", int), tag="a"), record("B", ("y", int), tag="b")
    reader = b | None
    found = planned(a | b, reader, upcasters={hash_of(a): (lambda old: {"type": "b", "y": old["x"]}, hash_of(b))})

    assert found.partial == ()
    assert found.read({"type": "a", "x": 3}, reader) == b(y=3)
    assert found.read({"type": "b", "y": 4}, reader) == b(y=4)


def test_a_union_of_which_only_an_upcaster_reads_an_alternative_is_partial() -> None:
    a, b = record("A", ("x", int), tag="a"), record("B", ("y", int), tag="b")
    upcasters: Upcasters = {hash_of(a): (lambda old: {"type": "b", "y": old["x"]}, hash_of(b))}
    found = planned(a | None, b, upcasters=upcasters, allow_partial=True)

    assert [issue.code for issue in found.partial] == ["alternative-removed"]
    assert found.read({"type": "a", "x": 3}, b) == b(y=3)


def test_upcasters_in_a_circle_end_and_do_not_help() -> None:
    upcasters: Upcasters = {
        hash_of(Euros): (lambda old: {"cents": old["amount"]}, hash_of(Cents)),
        hash_of(Cents): (lambda old: {"amount": old["cents"]}, hash_of(Euros)),
    }

    with pytest.raises(SchemaIncompatible):
        planned(Euros, Money, Cents, upcasters=upcasters)


def test_an_upcaster_that_does_not_lead_to_the_reader_changes_nothing_but_the_reasons() -> None:
    upcasters: Upcasters = {hash_of(Euros): (lambda old: old, hash_of(Cents))}

    with pytest.raises(SchemaIncompatible) as caught:
        planned(Old, New, Cents, upcasters=upcasters)

    assert [(issue.path, issue.code) for issue in caught.value.issues] == [("$.pay.currency", "field-required")]


def test_the_type_that_an_upcaster_returns_has_to_be_in_the_registry() -> None:
    documents = schema_of(Old)[1] | schema_of(New)[1]

    with pytest.raises(SchemaMissing, match=hash_of(Cents)):
        plan(schema_of(Old)[0], schema_of(New)[0], documents, upcasters=UPCASTERS)


@pytest.mark.parametrize(
    "function", [lambda old: old["missing"], lambda old: 1 // 0, lambda old: [], lambda old: None, lambda old: {"cents": "x"}]
)
def test_what_an_upcaster_does_wrong_with_a_value_is_a_typed_error(function: Callable[[Any], Any]) -> None:
    found = planned(Old, record("New", ("pay", Cents | None)), upcasters={hash_of(Euros): (function, hash_of(Cents))}, allow_partial=True)

    with pytest.raises(ValueUnreadable, match=r"^\$\.pay"):
        found.read({"pay": {"amount": 1}}, record("New", ("pay", Cents)))


def test_a_plan_of_as_many_types_as_allowed_is_made() -> None:
    kinds = [msgspec.defstruct(f"S{number}", [("x", int)]) for number in range(limits.SCHEMA_TYPES_MAX)]
    later = [msgspec.defstruct(f"S{number}", [("x", int), ("y", int, 0)]) for number in range(limits.SCHEMA_TYPES_MAX)]

    found = planned(tuple[tuple(kinds)], tuple[tuple(later)])  # type: ignore[misc]

    assert found.is_identity
