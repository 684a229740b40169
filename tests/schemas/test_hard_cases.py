"""The hard cases of schemas.md, and what else makes two spellings of one type, or one spelling of two."""
# ruff: noqa: PYI030, PYI051, PYI061  # spellings that nobody should use are what is tested

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import pathlib
import sys
import types
import typing
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from perdure.errors import SchemaUnsupported
from perdure.schemas import schema_of

T = TypeVar("T")
B = TypeVar("B", bound=int)


def document(kind: Any) -> str:
    root, registry = schema_of(kind)
    return registry[root.hash].decode().removeprefix('{"defs":[').removesuffix('],"schema":1}')


def same(*kinds: Any) -> bool:
    return len({schema_of(kind)[0] for kind in kinds}) == 1


class Box(Struct, Generic[T]):
    value: T


class Chain(Struct, Generic[T]):
    value: T
    next: Chain[T] | None = None


class Bounded(Struct, Generic[B]):
    value: B


class Grows(Struct, Generic[T]):
    value: T
    more: Grows[list[T]] | None = None


class WithMixed(Struct):
    e: Mixed


class Inner(Struct):
    y: complex


class Outer(Struct):
    x: list[Inner]


class Inherits(WithMixed):
    pass


class Mixed(enum.Enum):
    A = "a"
    B = 1


@dataclasses.dataclass
class WithInitVar:
    a: int
    b: dataclasses.InitVar[int] = 3


class Hidden(Struct):
    x: list[Missing]  # type: ignore[name-defined]  # noqa: F821


class HoldsHidden(Struct):
    hidden: Hidden | None = None


class Good(Struct, tag="good", frozen=True):
    pass


class Bad(Struct, tag="bad", frozen=True):
    pass


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Outer, "Outer.x[].Inner.y: <class 'complex'> has no schema"),
        (list[Outer], r"[].Outer.x[].Inner.y: <class 'complex'> has no schema"),
        (object, "<class 'object'> has no schema"),
        (collections.abc.Callable[[int], int], "<class 'collections.abc.Callable'> has no schema"),
        (dict[str, pathlib.Path], "[]: <class 'pathlib.Path'> has no schema"),
        (collections.abc.Iterable[int], "<class 'collections.abc.Iterable'> has no schema"),
        (tuple[int, dict[str, Mixed]], "[1][]: Enums must contain either all str or all int values"),
        (dict[str, WithInitVar | None], "[].WithInitVar.b: "),
        (list[Inherits], "[].Inherits.e: Enums must contain either all str or all int values"),
        (int | str | bytes, "Type unions may not contain more than one str-like type"),
        (Grows[int], "Grows: it contains itself with ever larger arguments"),
        (HoldsHidden, "HoldsHidden.hidden.Hidden: name 'Missing' is not defined; "),
        (Box["Nowhere"], "Box: name 'Nowhere' is not defined; "),  # type: ignore[name-defined]
        (Box[complex], "Box<0>: <class 'complex'> has no schema"),
        (Literal[1] | Annotated[int, Meta(ge=3)], "two of its alternatives cannot be told apart"),
        (Annotated[int, Meta(extra={"wire": "u33"})], "wire 'u33' on IntType"),
        (Annotated[str, Meta(extra={"wire": "u32"})], "wire 'u32' on StrType"),
    ],
)
def test_a_type_without_schema_is_refused_with_the_path_and_the_reason(kind: Any, text: str) -> None:
    with pytest.raises(SchemaUnsupported) as caught:
        schema_of(kind)

    assert text in str(caught.value)


def test_a_missing_name_says_what_to_do() -> None:
    class Local(Struct):
        x: int

    class Holds(Struct):
        local: Local

    for kind in (HoldsHidden, Box["Nowhere"], Holds):  # type: ignore[name-defined]
        with pytest.raises(SchemaUnsupported, match="importable at run time: not local to a function, not only under TYPE_CHECKING"):
            schema_of(kind)


def test_the_written_order_of_unions_and_literals_is_no_property_of_the_type() -> None:
    assert same(typing.List[typing.Union[str, int]], list[int | str], list[str | int])  # noqa: UP006, UP007  # cached by typing
    assert same(Literal[2, 1], Literal[1, 2], Literal[1] | Literal[2])
    assert same(Good | Bad | None, None | Bad | Good)
    assert (
        document(Literal[10, True, 2, "b", None, "a"]) == '{"union":["none",{"literal":[true]},{"literal":[10,2]},{"literal":["a","b"]}]}'
    )


def test_any_absorbs_a_union_and_a_scalar_absorbs_its_literals() -> None:
    assert same(Any | None, Any, msgspec.Raw)
    assert same(Literal["auto"] | str, str)
    assert same(Literal[3, None] | int, int | None)
    assert not same(Literal["auto"] | int, int)


def test_two_spellings_of_one_bound_that_typing_does_not_tell_apart_are_one_schema() -> None:
    assert Annotated[float, Meta(ge=0)] == Annotated[float, Meta(ge=0.0)]

    assert same(Annotated[float, Meta(ge=0)], Annotated[float, Meta(ge=-0.0, description="not the same to typing")])
    assert document(Annotated[float, Meta(ge=0)]) == '{"of":"float","where":{"ge":{"float":"0000000000000000"}}}'


def test_widths_write_only_what_is_tighter_than_themselves() -> None:
    assert document(Annotated[int, Meta(extra={"wire": "u8"}, ge=0, le=10)]) == '{"of":"u8","where":{"le":10}}'
    assert document(Annotated[int, Meta(extra={"wire": "u128"}, ge=0)]) == '"u128"'
    assert document(Annotated[str, Meta(extra={"wire": "char"}, min_length=1, max_length=1)]) == '"char"'
    assert document(Annotated[float, Meta(extra={"wire": "f32"}, description="x")]) == '"f32"'


def test_a_bare_generic_is_the_one_with_its_bounds_for_arguments() -> None:
    assert same(Box, Box[Any])
    assert same(Bounded, Bounded[int])
    assert same(Chain, Chain[Any], Chain[T])  # type: ignore[valid-type]
    assert same(Box[list[int]], Box[typing.List[int]])  # noqa: UP006
    assert not same(Box[int], Box[str])
    assert len(schema_of(tuple[Chain, Chain[Any], Chain[T]])[1]) == 2  # type: ignore[type-arg, valid-type]


def test_what_changes_no_data_is_not_in_the_hash() -> None:
    plain = msgspec.defstruct("Same", [("a_b", int), ("c", str, "x")], module="one")
    other = msgspec.defstruct(
        "Same", [("a_b", int), ("c", str, "x")], module="two", frozen=True, order=True, omit_defaults=True, kw_only=True
    )
    data = dataclasses.make_dataclass("Same", [("a_b", int), ("c", str, dataclasses.field(default="x"))])
    renamed = msgspec.defstruct("Same", [("b", int), ("c", str, "x")], rename={"b": "a_b"})

    assert same(plain, other, data, renamed)


def test_what_changes_data_is_in_the_hash() -> None:
    fields: list[Any] = [("a", int), ("b", str, "x")]
    kinds = [
        msgspec.defstruct("S", fields),
        msgspec.defstruct("R", fields),
        msgspec.defstruct("S", fields[:1]),
        msgspec.defstruct("S", fields, array_like=True),
        msgspec.defstruct("S", fields, tag=True),
        msgspec.defstruct("S", fields, tag="S", tag_field="kind"),
        msgspec.defstruct("S", fields, forbid_unknown_fields=True),
        msgspec.defstruct("S", [("a", int), ("b", str, "y")]),
        msgspec.defstruct("S", [("a", int), ("b", str)]),
        msgspec.defstruct("S", [("a", int), ("b", str | UnsetType, UNSET)]),
        msgspec.defstruct("S", [("a", int), ("b", str, msgspec.field(default_factory=lambda: "x"))]),
        msgspec.defstruct("S", [("b", str, "x"), ("a", int)], kw_only=True),
    ]

    assert len({schema_of(kind)[0] for kind in kinds}) == len(kinds)


def test_the_default_of_a_union_says_which_alternative_it_is() -> None:
    good = msgspec.defstruct("Holds", [("x", Good | Bad, Good())])
    bad = msgspec.defstruct("Holds", [("x", Good | Bad, Bad())])

    assert not same(good, bad)
    assert '"default":{"struct":[["type","good"]]}' in document(good)


def test_classes_of_one_name_that_refer_to_each_other_are_not_merged_with_one_that_refers_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = {name: types.ModuleType(name) for name in ("graph_one", "graph_two", "graph_three")}
    for module, other in (("graph_one", "graph_two"), ("graph_two", "graph_one"), ("graph_three", "graph_three")):
        monkeypatch.setitem(sys.modules, module, modules[module])
        code = f"import msgspec, sys\nclass Node(msgspec.Struct):\n    next: \"sys.modules['{other}'].Node | None\" = None"
        exec(code, modules[module].__dict__)

    one, two, three = (document(module.Node) for module in modules.values())

    assert one == two
    assert one.count('"struct":"Node"') == 2
    assert three.count('"struct":"Node"') == 1


def test_values_are_sorted_by_their_canonical_bytes() -> None:
    kind = msgspec.defstruct("S", [("x", frozenset[str], frozenset({"a", "a!"}))])

    assert '"default":{"set":["a!","a"]}' in document(kind)
    assert document(Literal["a", "a!"]) == '{"literal":["a!","a"]}'


def test_a_nested_default_without_canonical_value_is_computed() -> None:
    def make() -> list[int]:
        return [1]

    kinds = [
        msgspec.defstruct("S", [("x", list[int], msgspec.field(default_factory=make))]),
        msgspec.defstruct("S", [("x", str, "\ud800")]),
        msgspec.defstruct("S", [("x", Any, 3j)]),
        msgspec.defstruct("S", [("x", int, 10**5000)]),
    ]

    assert all('"computed":true' in document(kind) for kind in kinds)


def test_what_is_deeper_than_a_document_may_be_is_refused() -> None:
    kind: Any = int
    for _ in range(62):
        kind = list[kind]
    assert document(kind).count("list") == 62

    for deeper in (1, 1000):
        for _ in range(deeper):
            kind = list[kind]
        with pytest.raises(SchemaUnsupported, match=r"levels|too deeply"):
            schema_of(kind)


class Pair(NamedTuple):
    left: int
    right: int = 0


class Loose(TypedDict):
    z: int
    a: typing.NotRequired[str]


def test_typed_dicts_and_named_tuples_are_structs() -> None:
    assert document(Pair).startswith('{"array":true,"fields":[{"name":"left"')
    assert document(Loose) == '{"fields":[{"name":"a","optional":true,"type":"str"},{"name":"z","type":"int"}],"struct":"Loose"}'
