"""The schema that a type has under another name: of two types that follow one another, each was called the same in its time."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.schemas.canonical import hash_of, parse, text_of
from perdure.schemas.registry import SchemaRegistry, TypeRef


def renamed(ref: TypeRef, documents: Mapping[str, bytes], name: str) -> tuple[TypeRef, SchemaRegistry]:
    """Return the schema of a struct under another name, and every document that it reaches.

    One that is no struct, or that refers to itself by way of others, keeps its name: theirs would be other ones, too.

    Args:
        ref: of the type.
        documents: every document that it reaches, its own included.
        name: the other one.
    """
    tree = parse(documents[ref.hash])
    first = tree["defs"][0]
    if len(tree["defs"]) > 1 or not (isinstance(first, dict) and "struct" in first):
        return ref, SchemaRegistry(documents)
    first["struct"] = name
    document = text_of(tree).encode()
    return TypeRef(hash_of(document)), SchemaRegistry({**documents, hash_of(document): document})
