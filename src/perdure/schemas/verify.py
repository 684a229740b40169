"""Trusting a received document: one that passes is exactly what `schema_of` would have written for some type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from perdure import limits
from perdure.errors import SchemaInvalid
from perdure.schemas.canonical import Json, hash_of, parse, text_of
from perdure.schemas.checks import (
    HASH,
    check_bound,
    check_flags,
    check_list,
    check_name,
    check_object,
    check_order,
    check_scalar,
    check_value,
    is_integer,
    require,
)
from perdure.schemas.documents import Definition, document_from
from perdure.schemas.grammar import SCALARS, WIDTHS, Resolve, literal_kind, union_defect
from perdure.schemas.registry import Schema
from perdure.schemas.values import plain, value_of

_NUMERIC: Final = frozenset({"gt", "ge", "lt", "le", "multiple_of"})
_LENGTHS: Final = frozenset({"min_length", "max_length"})
_BOUNDS: Final = {
    **dict.fromkeys(("int", "float", "f32", *WIDTHS), _NUMERIC),
    **dict.fromkeys(("str", "char"), _LENGTHS | {"pattern"}),
    **dict.fromkeys(("bytes", "list", "set", "dict"), _LENGTHS),
    **dict.fromkeys(("datetime", "time"), frozenset({"tz"})),
}
_OWN: Final[dict[str, dict[str, Json]]] = {
    **{word: {"ge": value_of(least), "le": value_of(greatest)} for word, (least, greatest) in WIDTHS.items()},
    "char": {"min_length": 1, "max_length": 1},
}


def verify(schema: Schema) -> None:
    """Check one document: its size, hash, spelling, grammar, and the order of everything that has an order.

    What the order of a union takes from other documents is checked where those are at hand: by `closure` and `plan`.

    Raises:
        SchemaInvalid: the text has the path to what is wrong.

    Source: schemas.md, "Trusting a received document".
    """
    definitions_of(schema)


def definitions_of(schema: Schema) -> list[Json]:
    """Return the definitions of a document, verified; see `verify`."""
    size = len(schema.document)
    if size > limits.SCHEMA_DOCUMENT_MAX:
        raise SchemaInvalid(f"schema {schema.hash:.64}: {size:,} bytes, the limit is {limits.SCHEMA_DOCUMENT_MAX:,}")
    found = hash_of(schema.document)
    if found != schema.hash:
        raise SchemaInvalid(f"schema {schema.hash:.64}: the document hashes to {found}; it is another one, or damaged")
    try:
        return _document(parse(schema.document))
    except ValueError as error:
        raise SchemaInvalid(f"schema {schema.hash}: {error}") from error


def check_unions(tree: Json, resolve: Resolve) -> None:
    """Check every union inside of `tree`, as far as definitions are at hand; raise ValueError when one is wrong."""
    for alternatives in _unions_in(tree):
        if defect := union_defect(alternatives, resolve):
            raise ValueError(f"union {text_of(alternatives):.{limits.REPR_MAX}}: {defect}")


def is_named(definition: Json) -> bool:
    """Tell a definition of a struct or an enum from a type expression."""
    return isinstance(definition, dict) and not {"struct", "enum"}.isdisjoint(definition)


def _unions_in(tree: Json) -> Iterator[list[Json]]:
    if isinstance(tree, dict):
        if "union" in tree:
            yield tree["union"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _unions_in(part)


def _document(tree: Json) -> list[Json]:
    check_object(tree, "$", "defs schema")
    require(tree["schema"] == 1 and tree["schema"] is not True, "$.schema", "1; a newer Perdure may read it")
    definitions = check_list(tree["defs"], "$.defs", least=1)
    first = definitions[0]
    if is_named(first):
        for place, definition in enumerate(definitions):
            _definition(definition, f"$.defs[{place}]", len(definitions))
        _group(definitions)
    else:
        require(len(definitions) == 1, "$.defs", "one definition, because the first is no named type")
        require(not (isinstance(first, dict) and "ref" in first), "$.defs[0]", "no reference: a named type has a document of its own")
        _expression(first, "$.defs[0]", 0)
    check_unions(definitions, lambda reference: definitions[reference] if isinstance(reference, int) else None)
    return definitions


def _group(definitions: list[Json]) -> None:
    members = [Definition(text_of(definition)) for definition in definitions]
    _, order = document_from(0, members, {})
    require(order == list(range(len(members))), "$.defs", "members in the order of their first reference, and no others")
    targets = [set(member.targets) for member in members]
    reaching = {0}
    while more := {number for number, found in enumerate(targets) if number not in reaching and not found.isdisjoint(reaching)}:
        reaching |= more
    require(len(reaching) == len(members), "$.defs", "one recursive group: a type that does not refer back has a document of its own")


def _definition(tree: Json, path: str, count: int) -> None:
    if isinstance(tree, dict) and "enum" in tree:
        _enum(tree, path)
        return
    check_object(tree, path, "struct fields", "args tag array closed")
    check_name(tree["struct"], f"{path}.struct")
    check_flags(tree, path, "array", "closed")
    for place, part in enumerate(check_list(tree["args"], f"{path}.args", least=1) if "args" in tree else []):
        _expression(part, f"{path}.args[{place}]", count)
    names = [_field(field, f"{path}.fields[{place}]", count) for place, field in enumerate(check_list(tree["fields"], f"{path}.fields"))]
    if "tag" in tree:
        field, tag = check_list(tree["tag"], f"{path}.tag", exactly=2)
        check_name(field, f"{path}.tag")
        check_scalar(tag, f"{path}.tag")
        names += [] if "array" in tree else [field]
    require(len(set(names)) == len(names), f"{path}.fields", "names without repeats")


def _field(tree: Json, path: str, count: int) -> str:
    check_object(tree, path, "name type", "default computed optional")
    absence = tree.keys() - {"name", "type"}
    require(len(absence) <= 1, path, "at most one of default, computed, optional")
    check_flags(tree, path, "computed", "optional")
    _expression(tree["type"], f"{path}.type", count)
    if "default" in tree:
        check_value(tree["default"], f"{path}.default")
    require(isinstance(tree["name"], str), f"{path}.name", "text")
    return str(tree["name"])


def _enum(tree: Json, path: str) -> None:
    check_object(tree, path, "enum members", "flags")
    check_name(tree["enum"], f"{path}.enum")
    check_flags(tree, path, "flags")
    path = f"{path}.members"
    members = [check_list(member, path, exactly=2) for member in check_list(tree["members"], path, least=1)]
    for name, value in members:
        check_name(name, path)
        check_scalar(value, path)
    kinds = {literal_kind(value) for _, value in members}
    require(kinds == {"int"} or (kinds == {"str"} and "flags" not in tree), path, "all integers, or all text without flags")
    require("flags" not in tree or all(plain(value) > 0 for _, value in members), path, "bits")
    for column in zip(*members, strict=True):
        require(len({text_of(part) for part in column}) == len(members), path, "names and values without repeats")


def _expression(tree: Json, path: str, count: int) -> None:
    if not isinstance(tree, dict):
        require(isinstance(tree, str) and tree in SCALARS, path, "a type expression")
    elif "of" in tree or "where" in tree:
        _bounded(tree, path, count)
    else:
        require(len(tree) == 1, path, "one key")
        [(word, inner)] = tree.items()
        _composite(word, inner, f"{path}.{word}", count)


def _composite(word: str, inner: Json, path: str, count: int) -> None:
    match word:
        case "list" | "set":
            _expression(inner, path, count)
        case "tuple" | "union" | "dict":
            parts = check_list(inner, path, least=2 * (word == "union"), exactly=2 if word == "dict" else None)
            for place, part in enumerate(parts):
                _expression(part, f"{path}[{place}]", count)
            if word == "union":
                require(not any(part == "any" or (isinstance(part, dict) and "union" in part) for part in parts), path, "no any, no union")
                require(len({text_of(part) for part in parts}) == len(parts), path, "alternatives without repeats")
        case "literal":
            for value in check_list(inner, path, least=1):
                if not isinstance(value, bool):
                    check_scalar(value, path)
            require(len(set(map(literal_kind, inner))) == 1, path, "values of one JSON kind")
            check_order(inner, path)
        case "ref":
            numbered = is_integer(inner) and isinstance(inner, int) and 0 <= inner < count
            require(numbered or (isinstance(inner, str) and HASH.fullmatch(inner)), path, f"a hash, or a number below {count}")
        case _:
            require(None, path, "a type expression")


def _bounded(tree: Json, path: str, count: int) -> None:
    check_object(tree, path, "of where")
    inner, where = tree["of"], tree["where"]
    _expression(inner, f"{path}.of", count)
    word = inner if isinstance(inner, str) else next(iter(inner))
    path = f"{path}.where"
    allowed = _BOUNDS.get(word, frozenset())
    require(isinstance(where, dict) and where and where.keys() <= allowed, path, f"one or more of {sorted(allowed)}")
    for name, bound in where.items():
        check_bound(word, name, bound, f"{path}.{name}")
        require(_OWN.get(word, {}).get(name) != bound, f"{path}.{name}", "no bound that the width has by itself")
    require(not {"gt", "ge"} <= where.keys() and not {"lt", "le"} <= where.keys(), path, "one bound on each side")
