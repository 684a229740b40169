"""The published vectors: hash, type, and the document that is hashed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from perdure.schemas import Schema, TypeRef, closure, references, schema_of, verify
from tests.schemas import vector_types as v

_LINES = (Path(__file__).parent / "vectors.txt").read_text(encoding="utf-8").splitlines()
VECTORS = [(*head.split("  ", 1), document.strip()) for head, document in zip(_LINES[::2], _LINES[1::2], strict=True)]


@pytest.mark.parametrize(("hash_", "name", "document"), VECTORS, ids=[name for _, name, _ in VECTORS])
def test_a_type_has_its_published_hash_and_document(hash_: str, name: str, document: str) -> None:
    root, registry = schema_of(v.TYPES[name])

    assert root == TypeRef(hash_)
    assert registry[hash_].decode() == document
    assert hashlib.sha256(document.encode()).hexdigest()[:32] == hash_


def test_every_published_type_is_tested() -> None:
    assert {name for _, name, _ in VECTORS} == v.TYPES.keys()
    assert len(VECTORS) == 40


@pytest.mark.parametrize("kind", [*v.TYPES.values(), v.Perm, v.Coordinates, v.Partial, v.Holder, v.GTree, v.GTree[int], v.Person])
def test_a_registry_is_the_closure_of_its_root_and_verifies(kind: Any) -> None:
    root, registry = schema_of(kind)

    assert closure(root.hash, registry) == registry
    for hash_, document in registry.items():
        verify(Schema(hash_, document))
        assert set(references(document)) <= registry.keys()


def test_a_group_has_one_document_a_member_whichever_member_one_starts_from() -> None:
    a, b, c = (schema_of(kind) for kind in (v.LinkedA, v.LinkedB, v.LinkedC))
    union = schema_of(v.LinkedA | v.LinkedB)[1]
    holder = schema_of(v.Holder)[1]

    assert len({a[0], b[0], c[0]}) == 3
    assert [len(registry) for _, registry in (a, b, c)] == [1, 1, 1]
    assert union[a[0].hash] == a[1][a[0].hash]
    assert union[b[0].hash] == b[1][b[0].hash]
    assert holder.keys() == {schema_of(kind)[0].hash for kind in (v.Holder, v.LinkedA, v.Tree)}


def test_the_other_types_of_the_published_source_have_the_documents_that_the_rules_give() -> None:
    documents = {kind: schema_of(kind)[1][schema_of(kind)[0].hash].decode() for kind in (v.Perm, v.Coordinates, v.Partial, v.GTree)}

    assert documents == {
        v.Perm: '{"defs":[{"enum":"Perm","flags":true,"members":[["R",1],["W",2]]}],"schema":1}',
        v.Coordinates: '{"defs":[{"array":true,"fields":[{"name":"lat","type":"float"},'
        '{"default":{"float":"0000000000000000"},"name":"lon","type":"float"}],"struct":"Coordinates"}],"schema":1}',
        v.Partial: '{"defs":[{"fields":[{"name":"id","type":"int"},'
        '{"name":"name","optional":true,"type":"str"}],"struct":"Partial"}],"schema":1}',
        v.GTree: '{"defs":[{"args":["any"],"fields":[{"name":"value","type":"any"},'
        '{"default":[],"name":"kids","type":{"list":{"ref":0}}}],"struct":"GTree"}],"schema":1}',
    }
