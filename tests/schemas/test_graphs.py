"""Hashes of random type graphs: the same from every side, and changed by an edit in exactly the types that reach it."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import SchemaUnsupported
from perdure.schemas import closure, schema_of
from perdure.schemas.documents import components
from tests.schemas.graphs import Node, Part, classes_of, graphs, naive_hashes, reaches

_CHECKED = settings(max_examples=40, deadline=None)


def _hashes(nodes: list[Node], order: list[int] | None = None) -> list[str]:
    with classes_of(nodes, order) as classes:
        return [schema_of(kind)[0].hash for kind in classes]


@given(graphs())
@_CHECKED
def test_a_second_naive_algorithm_finds_the_same_hashes(nodes: list[Node]) -> None:
    assert _hashes(nodes) == naive_hashes(nodes)


@given(graphs(), st.randoms(use_true_random=False))
@_CHECKED
def test_neither_the_root_nor_the_order_of_definition_changes_a_hash(nodes: list[Node], random: Any) -> None:
    order = list(range(len(nodes)))
    random.shuffle(order)
    alone = _hashes(nodes, order)

    with classes_of(nodes) as classes:
        together, registry = schema_of(tuple[tuple(classes)])  # type: ignore[misc]

        assert set(alone) <= registry.keys()
        assert closure(together.hash, registry) == registry
        for kind, hash_ in zip(classes, alone, strict=True):
            own = schema_of(kind)[1]
            assert own[hash_] == registry[hash_]
            assert own.items() <= registry.items()


@given(graphs(), st.data())
@_CHECKED
def test_a_single_edit_changes_the_hash_of_exactly_the_types_that_reach_it(nodes: list[Node], data: st.DataObject) -> None:
    edited = data.draw(st.integers(0, len(nodes) - 1))
    changed = copy.deepcopy(nodes)
    if data.draw(st.booleans()):
        changed[edited].extra = 7
    else:
        changed[edited].parts.append(Part(targets=(data.draw(st.integers(0, len(nodes) - 1)),), wrapper="list[{}]"))

    before, after = _hashes(nodes), _hashes(changed)

    reach = reaches(nodes)
    expected = {edited} | {number for number in range(len(nodes)) if edited in reach[number]}
    assert {number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]} == expected


@given(graphs(12))
@_CHECKED
def test_components_are_those_that_reach_one_another_referred_to_first(nodes: list[Node]) -> None:
    reach = reaches(nodes)

    groups = components([node.targets() for node in nodes])

    seen: set[int] = set()
    for group in groups:
        for member in group:
            assert set(group) == {member} | {other for other in reach[member] if member in reach[other]}
            assert reach[member] <= seen | set(group)
        seen |= set(group)
    assert sorted(member for group in groups for member in group) == list(range(len(nodes)))


def test_a_cycle_of_the_most_types_allowed_does_not_exhaust_the_stack_of_calls() -> None:
    edges = [[(number + 1) % 100_000] for number in range(100_000)]

    [group] = components(edges)

    assert len(group) == len(edges)


def test_more_named_types_than_the_limit_are_refused() -> None:
    kinds = [msgspec.defstruct(f"S{number}", [("x", int)]) for number in range(limits.SCHEMA_TYPES_MAX + 1)]

    registry = schema_of(tuple[tuple(kinds[:-1])])[1]  # type: ignore[misc]
    with pytest.raises(SchemaUnsupported, match="more than 1,000 named types"):
        schema_of(tuple[tuple(kinds)])  # type: ignore[misc]

    assert len(registry) == limits.SCHEMA_TYPES_MAX + 1


def test_a_document_over_its_size_limit_is_refused() -> None:
    kind = msgspec.defstruct("Large", [("x", str, "x" * limits.SCHEMA_DOCUMENT_MAX)])

    with pytest.raises(SchemaUnsupported, match="the limit is 262,144"):
        schema_of(kind)
