"""The words of documents and the order of unions: what writing a schema and checking one have in common.

Source: schemas.md, "Canonical form, version 1".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from perdure.schemas.canonical import Json, text_of
from perdure.schemas.values import order_of, plain

_BITS: Final = (8, 16, 32, 64, 128)
WIDTHS: Final[dict[str, tuple[int, int]]] = {
    **{f"u{bits}": (0, 2**bits - 1) for bits in _BITS},
    **{f"i{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in _BITS},
}
"""The fixed widths, with the least and the greatest integer of each."""

_RANKS: Final = {
    **dict.fromkeys(("none",), 0),
    **dict.fromkeys(("bool",), 1),
    **dict.fromkeys(("int", *WIDTHS), 2),
    **dict.fromkeys(("float", "f32"), 3),
    **dict.fromkeys(("str", "char", "bytes", "datetime", "date", "time", "timedelta", "decimal", "uuid"), 4),
    **dict.fromkeys(("list", "set", "tuple"), 5),
    **dict.fromkeys(("dict",), 6),
}
_ARRAY: Final = _RANKS["list"]
_OBJECT: Final = _RANKS["dict"]
_TAGGED: Final = 7

CONTAINERS: Final = ("list", "set", "tuple", "dict")
SCALARS: Final = frozenset({"any", *_RANKS} - {*CONTAINERS})

Resolve = Callable[[int | str], Json | None]
"""From a reference to its definition; None when it is not at hand."""

Rank = tuple[Any, ...]


def literal_kind(value: Json) -> str:
    """Return the scalar that a literal or a member of an enum belongs to."""
    if isinstance(value, bool):
        return "bool"
    return "str" if isinstance(value, str) else "int"


def literal(values: Sequence[Json]) -> Json:
    """Return the literal of these values, sorted and without repeats; they are of one JSON kind."""
    return {"literal": sorted({text_of(value): value for value in values}.values(), key=order_of)}


def rank_of(expression: Json, resolve: Resolve) -> Rank | None:
    """Return where an alternative stands in a union; None when it is a reference whose definition is not at hand."""
    match expression:
        case str():
            return (_RANKS[expression],)
        case {"of": inner}:
            return rank_of(inner, resolve)
        case {"literal": [value, *_]}:
            return (_RANKS[literal_kind(value)],)
        case {"ref": reference}:
            definition = resolve(reference)
            return None if definition is None else _rank_of_definition(definition)
        case _:
            return (_RANKS[next(iter(expression))],)


def _rank_of_definition(definition: Json) -> Rank:
    if "enum" in definition:
        return (_RANKS[literal_kind(definition["members"][0][1])],)
    if "tag" in definition:
        tag = plain(definition["tag"][1])
        return (_TAGGED, 0, tag) if isinstance(tag, int) else (_TAGGED, 1, tag.encode())
    return (_ARRAY if "array" in definition else _OBJECT,)


def union_of(parts: Sequence[Json], resolve: Resolve) -> Json:
    """Return the canonical union of `parts`, whatever their order; one alternative that is left stands for itself.

    Raises:
        ValueError: two alternatives cannot be told apart in the data.
    """
    flat = [inner for part in parts for inner in (part["union"] if isinstance(part, dict) and "union" in part else [part])]
    if "any" in flat:
        return "any"
    literals = [value for part in flat if isinstance(part, dict) for value in part.get("literal", ())]
    others = [part for part in flat if not (isinstance(part, dict) and "literal" in part)]
    # `Literal["auto"] | str` allows what `str` allows.
    pooled = [
        literal([value for value in literals if literal_kind(value) == kind])
        for kind in dict.fromkeys(map(literal_kind, literals))
        if kind not in others
    ]
    ranked = sorted(
        ((rank_of(part, resolve), part) for part in {text_of(part): part for part in (*others, *pooled)}.values()),
        key=lambda pair: pair[0] or (),
    )
    alternatives = [part for _, part in ranked]
    if len(alternatives) == 1:
        return alternatives[0]
    if defect := union_defect(alternatives, resolve):
        raise ValueError(defect)
    return {"union": alternatives}


def union_defect(alternatives: Sequence[Json], resolve: Resolve) -> str | None:
    """Return what is wrong with the order or the choice of alternatives; None when nothing is, as far as definitions are at hand."""
    ranks = [rank for part in alternatives if (rank := rank_of(part, resolve)) is not None]
    if any(one >= other for one, other in pairwise(ranks)):
        equal = any(one == other for one, other in pairwise(ranks))
        return "two of its alternatives cannot be told apart" if equal else "its alternatives are not in canonical order"
    tagged = [
        definition
        for part in alternatives
        if isinstance(part, dict) and "ref" in part and "tag" in (definition := resolve(part["ref"]) or {})
    ]
    if len({(definition["tag"][0], "array" in definition) for definition in tagged}) > 1:
        return "its tagged alternatives differ in their tag field, or in being arrays"
    if tagged and (_ARRAY if "array" in tagged[0] else _OBJECT,) in ranks:
        return "a tagged alternative cannot be told from an untagged one"
    return None
