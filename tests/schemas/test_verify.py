"""Received documents: everything that `schema_of` would not have written is refused, and by no other error."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import InvalidIdentifier, SchemaInvalid, SchemaMissing
from perdure.schemas import Schema, SchemaRegistry, TypeRef, closure, plan, references, schema_of, verify
from tests.schemas import vector_types as v
from tests.schemas.graphs import Node, classes_of, graphs

HASH = "0" * 32


def named(document: bytes) -> Schema:
    return Schema(hashlib.sha256(document).hexdigest()[:32], document)


def written(*definitions: Any, **changes: Any) -> Schema:
    tree = {"defs": list(definitions), "schema": 1} | changes
    return named(json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode())


def struct(*fields: Any, **more: Any) -> dict[str, Any]:
    return {"struct": "S", "fields": list(fields), **more}


def a_field(kind: Any, name: str = "a", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def default(value: Any) -> dict[str, Any]:
    return struct(a_field("any", default=value))


def enum(*members: Any, **more: Any) -> dict[str, Any]:
    return {"enum": "E", "members": [list(member) for member in members], **more}


def bounded(kind: Any, **where: Any) -> dict[str, Any]:
    return {"of": kind, "where": where}


ONE = struct(a_field({"ref": 1}))
TAGGED = [struct(a_field({"union": [{"ref": 1}, {"ref": 2}]})), *(struct(a_field({"ref": 0}), tag=["type", tag]) for tag in ("a", "b"))]

VALID = [
    written("int"),
    written({"union": ["none", "bool", "int", "float", "str", {"list": "any"}, {"dict": ["str", "u8"]}]}),
    written({"tuple": []}),
    written({"literal": [10, 2, {"int": "9007199254740992"}]}),
    written({"literal": [False, True]}),
    written(struct()),
    written(struct(a_field({"list": {"ref": 0}}))),
    written(struct(a_field({"ref": HASH}), args=["int"], tag=["type", -3], closed=True, array=True)),
    written(*TAGGED),
    written(enum(("A", 1), ("B", 2), flags=True)),
    written(enum(("A", "x"))),
    written(bounded("int", ge={"int": "-9007199254740992"}, lt=0, multiple_of=2)),
    written(bounded({"list": bounded("str", pattern="^a")}, min_length=0)),
    written(bounded("datetime", tz=False)),
    written(default({"dict": [[{"set": ["a", 1]}, {"struct": [["x", None]]}], [{"text": "t"}, {"float": "0000000000000000"}]]})),
]

BROKEN: dict[str, Schema] = {
    "no object": named(b"[]"),
    "no JSON": named(b"int"),
    "nothing": named(b""),
    "not UTF-8": named(b'{"defs":["\xff"],"schema":1}'),
    "byte order mark": named(b'\xef\xbb\xbf{"defs":["int"],"schema":1}'),
    "white space": named(b'{"defs": ["int"],"schema":1}'),
    "trailing newline": named(b'{"defs":["int"],"schema":1}\n'),
    "order of keys": named(b'{"schema":1,"defs":["int"]}'),
    "repeated key": named(b'{"defs":["int"],"defs":["int"],"schema":1}'),
    "needless escape": named(b'{"defs":["\\u0069nt"],"schema":1}'),
    "lone surrogate": named(b'{"defs":[{"literal":["\\ud800"]}],"schema":1}'),
    "float": named(b'{"defs":["int"],"schema":1.0}'),
    "large exponent": named(b'{"defs":["int"],"schema":1e0}'),
    "minus zero": named(b'{"defs":[{"literal":[-0]}],"schema":1}'),
    "not a number": named(b'{"defs":[{"literal":[NaN]}],"schema":1}'),
    "large integer": named(b'{"defs":[{"literal":[9007199254740992]}],"schema":1}'),
    "more digits than the interpreter reads": named(b'{"defs":[{"literal":[1' + b"0" * 5000 + b']}],"schema":1}'),
    "nested without end": named(b"[" * 100_000),
    "too deep": named(b'{"defs":[' + b'{"list":' * 70 + b'"int"' + b"}" * 70 + b'],"schema":1}'),
    "too large": written({"literal": ["x" * limits.SCHEMA_DOCUMENT_MAX]}),
    "key that is not ASCII": named('{"defs":[{"é":"int"}],"schema":1}'.encode()),
    "another version": written("int", schema=2),
    "version that only equals one": written("int", schema=True),
    "another key": written("int", more=1),
    "no definition": named(b'{"defs":[],"schema":1}'),
    "two roots": written("int", "str"),
    "a root that refers to a named type only": written({"ref": HASH}),
    "a number without definitions": written({"list": {"ref": 0}}),
    "null for a type": written(None),
    "a number for a type": written(3),
    "unknown scalar": written("u33"),
    "unknown word": written({"bag": "int"}),
    "empty object": written({}),
    "two words": written({"list": "int", "set": "int"}),
    "ref out of range": written(struct(a_field({"ref": 1}))),
    "negative ref": written(struct(a_field({"ref": -1}))),
    "boolean ref": written(struct(a_field({"ref": False}))),
    "short hash": written(struct(a_field({"ref": "0" * 31}))),
    "upper-case hash": written(struct(a_field({"ref": "A" * 32}))),
    "a member that nobody refers to": written(struct(), struct()),
    "a member that does not refer back": written(ONE, struct()),
    "members in another order": written(struct(a_field({"ref": 2}), a_field({"ref": 1}, "b")), *[struct(a_field({"ref": 0}))] * 2),
    "a member that is no named type": written(ONE, {"list": {"ref": 0}}),
    "dict of one": written({"dict": ["str"]}),
    "dict of three": written({"dict": ["str", "int", "int"]}),
    "empty literal": written({"literal": []}),
    "null in a literal": written({"literal": [None]}),
    "kinds mixed in a literal": written({"literal": [1, "a"]}),
    "boolean among integers": written({"literal": [1, True]}),
    "unsorted literal": written({"literal": ["b", "a"]}),
    "repeated literal": written({"literal": ["a", "a"]}),
    "literal of bytes": written({"literal": [{"bytes": "00"}]}),
    "small integer in digits": written({"literal": [{"int": "9007199254740991"}]}),
    "leading zero": written({"literal": [{"int": "09007199254740993"}]}),
    "union of one": written({"union": ["int"]}),
    "union with any": written({"union": ["none", "any"]}),
    "union in a union": written({"union": ["none", {"union": ["int", "str"]}]}),
    "unsorted union": written({"union": ["int", "none"]}),
    "two of one rank": written({"union": ["str", "bytes"]}),
    "a width beside an integer": written({"union": ["int", "u8"]}),
    "a literal beside its scalar": written({"union": ["int", {"literal": [1]}]}),
    "the same reference twice": written({"union": [{"ref": HASH}, {"ref": HASH}]}),
    "tags in another order": written(TAGGED[0], TAGGED[2], TAGGED[1]),
    "one tag twice": written(TAGGED[0], TAGGED[1], TAGGED[1] | {"closed": True}),
    "two tag fields": written(TAGGED[0], TAGGED[1], struct(a_field({"ref": 0}), tag=["kind", "b"])),
    "a tagged array beside an object": written(TAGGED[0], TAGGED[1], struct(a_field({"ref": 0}), tag=["type", "b"], array=True)),
    "an untagged struct beside a tagged one": written(
        struct(a_field({"union": [{"ref": 1}, {"ref": 2}]})), struct(a_field({"ref": 0})), TAGGED[1]
    ),
    "a dict beside a tagged struct": written(struct(a_field({"union": [{"dict": ["str", "int"]}, {"ref": 0}]}), tag=["type", "a"])),
    "a list beside a tagged array": written(struct(a_field({"union": [{"list": "int"}, {"ref": 0}]}), tag=["type", 1], array=True)),
    "bounds of nothing": written(bounded("int")),
    "bounds without type": written({"where": {"ge": 0}}),
    "bounds of a struct": written(struct(a_field(bounded({"ref": 0}, min_length=0)))),
    "bounds of bounds": written(bounded(bounded("int", ge=0), le=9)),
    "unknown bound": written(bounded("int", above=0)),
    "length of an integer": written(bounded("int", min_length=0)),
    "negative length": written(bounded("str", min_length=-1)),
    "boolean length": written(bounded("str", min_length=True)),
    "integer bound of a float": written(bounded("float", ge=0)),
    "float bound of an integer": written(bounded("int", ge={"float": "0000000000000000"})),
    "minus zero as a bound": written(bounded("float", ge={"float": "8000000000000000"})),
    "two lower bounds": written(bounded("int", ge=0, gt=0)),
    "two upper bounds": written(bounded("int", le=0, lt=0)),
    "multiple of zero": written(bounded("int", multiple_of=0)),
    "text for tz": written(bounded("time", tz="yes")),
    "number for a pattern": written(bounded("str", pattern=3)),
    "a width's own bound": written(bounded("u8", le=255)),
    "a character's own length": written(bounded("char", max_length=1)),
    "struct without name": written(struct() | {"struct": ""}),
    "struct and enum": written(struct() | {"enum": "E", "members": [["A", 1]]}),
    "empty args": written(struct(args=[])),
    "false flag": written(struct(closed=False)),
    "number for a flag": written(struct(array=1)),
    "tag without value": written(struct(tag=["type"])),
    "null tag": written(struct(tag=["type", None])),
    "boolean tag": written(struct(tag=["type", True])),
    "a field named like the tag": written(struct(a_field("int", "type"), tag=["type", "a"])),
    "a field twice": written(struct(a_field("int"), a_field("str"))),
    "a field without type": written(struct({"name": "a"})),
    "a field without name": written(struct({"type": "int"})),
    "a field with a number for a name": written(struct(a_field("int") | {"name": 3})),
    "a field with default and optional": written(struct(a_field("int", default=1, optional=True))),
    "a field that is not computed": written(struct(a_field("int", computed=False))),
    "enum without members": written(enum()),
    "enum member twice": written(enum(("A", 1), ("A", 2))),
    "enum value twice": written(enum(("A", 1), ("B", 1))),
    "enum of mixed values": written(enum(("A", 1), ("B", "b"))),
    "enum of booleans": written(enum(("A", True))),
    "enum member of three": written(enum(("A", 1, 2))),
    "flags of text": written(enum(("A", "a"), flags=True)),
    "negative flags": written(enum(("A", -1), flags=True)),
    "value of two words": written(default({"int": "9007199254740992", "text": ""})),
    "unknown value": written(default({"complex": "3j"})),
    "upper-case float": written(default({"float": "3FE0000000000000"})),
    "short float": written(default({"float": "3fe0"})),
    "odd bytes": written(default({"bytes": "abc"})),
    "text that is none": written(default({"text": 3})),
    "enum of null": written(default({"enum": None})),
    "unsorted set": written(default({"set": ["b", "a"]})),
    "repeated set": written(default({"set": [1, 1]})),
    "unsorted dict": written(default({"dict": [["b", 1], ["a", 1]]})),
    "dict of threes": written(default({"dict": [[1, 2, 3]]})),
    "struct value with a number for a name": written(default({"struct": [[1, 2]]})),
    "struct value with a name twice": written(default({"struct": [["a", 2], ["a", 3]]})),
    "ref in a value": written(default({"ref": HASH})),
}


@pytest.mark.parametrize("schema", VALID, ids=[schema.document.decode() for schema in VALID])
def test_a_document_of_the_grammar_is_accepted(schema: Schema) -> None:
    verify(schema)


@pytest.mark.parametrize("schema", BROKEN.values(), ids=BROKEN)
def test_every_kind_of_breakage_is_refused_although_the_hash_is_right(schema: Schema) -> None:
    with pytest.raises(SchemaInvalid):
        verify(schema)


def test_every_flipped_bit_and_every_truncation_is_refused_under_the_published_name() -> None:
    root, registry = schema_of(v.LinkedA)
    document = registry[root.hash]

    for place in range(len(document)):
        flipped = [document[:place] + bytes([document[place] ^ 1 << bit]) + document[place + 1 :] for bit in range(8)]
        for damaged in (*flipped, document[:place], document + document[: place + 1]):
            with pytest.raises(SchemaInvalid, match="hashes to"):
                verify(Schema(root.hash, damaged))


@given(st.sampled_from([v.LinkedA, v.Config, v.Row, v.Level, v.Person]), st.integers(0), st.integers(0, 7), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_damaged_document_under_its_own_name_is_refused_or_is_canonical_itself(kind: Any, place: int, bit: int, cut: bool) -> None:
    root, registry = schema_of(kind)
    document = bytearray(registry[root.hash])
    place %= len(document)
    document[place] ^= 1 << bit
    schema = named(bytes(document[:place] if cut else document))

    try:
        verify(schema)
    except SchemaInvalid:
        return
    tree = json.loads(schema.document)
    assert json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() == schema.document
    assert schema.hash != root.hash


@given(graphs())
@settings(max_examples=30, deadline=None)
def test_whatever_schema_of_writes_is_accepted(nodes: list[Node]) -> None:
    with classes_of(nodes) as classes:
        root, registry = schema_of(tuple[tuple(classes)])  # type: ignore[misc]

    for hash_, document in registry.items():
        verify(Schema(hash_, document))
    assert closure(root.hash, registry) == registry


def test_a_missing_document_is_named_with_the_one_that_needs_it() -> None:
    root, registry = schema_of(v.Holder)
    tree = schema_of(v.Tree)[0].hash
    partial = SchemaRegistry({hash_: document for hash_, document in registry.items() if hash_ != tree})

    with pytest.raises(SchemaMissing) as caught:
        closure(root.hash, partial)

    assert caught.value.schema_hash == tree
    assert caught.value.needed_by == f"schema {root.hash}"
    with pytest.raises(SchemaMissing, match=tree):
        plan(root, schema_of(int)[0], partial | schema_of(int)[1])


def test_a_closure_leaves_out_what_is_not_reached_without_looking_at_it() -> None:
    root, registry = schema_of(v.Tree)

    assert closure(root.hash, registry | {HASH: b"anything"}) == registry


def test_the_order_of_a_union_of_other_documents_is_checked_where_they_are_at_hand() -> None:
    a, b = (schema_of(kind)[0].hash for kind in (v.Approve, v.Reject))
    documents = schema_of(v.Approve)[1] | schema_of(v.Reject)[1]
    swapped = written({"union": [{"ref": b}, {"ref": a}]})
    verify(swapped)

    with pytest.raises(SchemaInvalid, match="canonical order"):
        closure(swapped.hash, documents | {swapped.hash: swapped.document})
    with pytest.raises(SchemaInvalid, match="canonical order"):
        plan(TypeRef(swapped.hash), TypeRef(a), documents | {swapped.hash: swapped.document})


def test_references_are_those_to_other_documents_and_no_text_that_looks_like_one() -> None:
    looks = written(default('{"ref":"' + HASH + '"}'), schema=1)
    verify(looks)

    assert references(looks.document) == ()
    assert set(references(schema_of(v.Holder)[1][schema_of(v.Holder)[0].hash])) == schema_of(v.Holder)[1].keys() - {
        schema_of(v.Holder)[0].hash
    }


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 31 + "\n"])
def test_a_type_ref_is_32_lower_case_hex_digits(text: str) -> None:
    with pytest.raises(InvalidIdentifier):
        TypeRef(text)


def test_a_registry_cannot_be_changed() -> None:
    given: dict[str, bytes] = {}
    registry = SchemaRegistry(given)
    given[HASH] = b""

    assert len(registry) == 0
    assert not hasattr(registry, "__setitem__")
