"""Everything that a schema reaches, loaded from documents and verified together."""

from __future__ import annotations

import json
from collections.abc import Mapping

from perdure import limits
from perdure.errors import SchemaInvalid, SchemaMissing
from perdure.schemas.canonical import Json, hash_of, text_of
from perdure.schemas.documents import Definition, document_from
from perdure.schemas.registry import Schema, SchemaRegistry, references
from perdure.schemas.verify import check_unions, definitions_of, is_named


def closure(root: str, documents: Mapping[str, bytes]) -> SchemaRegistry:
    """Return the document of `root` and every one that it reaches, and nothing else, verified one by one and together.

    Args:
        root: the hash to begin with.
        documents: where to look; what is not reached is not looked at.

    Raises:
        SchemaMissing: a document is not there; the text names it and who refers to it.
        SchemaInvalid: a document breaks the rules or does not hash to its name, or more named types than
            `limits.SCHEMA_TYPES_MAX` are reached.

    Source: schemas.md, "References" and "Trusting a received document".
    """
    found = NamedTypes(documents)
    found.load(root)
    return SchemaRegistry(found.documents)


class NamedTypes:
    """Named types by their own hash; references in their definitions are hashes, within a recursive group, too."""

    def __init__(self, documents: Mapping[str, bytes]) -> None:
        self.documents: dict[str, bytes] = {}
        self.definitions: dict[str, Json] = {}
        self._given = documents
        self._roots: dict[str, Json] = {}

    def load(self, root: str) -> Json:
        """Return the type expression that `root` stands for, and load everything that it reaches; see `closure`."""
        room = len(self.definitions) + limits.SCHEMA_TYPES_MAX
        pending = {root: "the caller"}
        fresh: dict[str, list[Json]] = {}
        while pending:
            name, needed_by = pending.popitem()
            if name in self._roots:
                continue
            document = self._given.get(name)
            if document is None:
                raise SchemaMissing(name, needed_by=needed_by)
            definitions = definitions_of(Schema(name, document))
            fresh[name] = self._add(name, definitions)
            if len(self.definitions) > room:
                raise SchemaInvalid(f"schema {root}: more than {limits.SCHEMA_TYPES_MAX:,} named types under one root")
            self.documents[name] = document
            pending |= dict.fromkeys(references(document), f"schema {name}")
        for name, trees in fresh.items():
            try:
                check_unions(trees, self.resolve)
            except ValueError as error:
                raise SchemaInvalid(f"schema {name}: {error}") from error
        return self._roots[root]

    def resolve(self, reference: int | str) -> Json | None:
        """Return the definition of a named type; None when it is not loaded."""
        assert isinstance(reference, str), "numbers were replaced when the document was loaded"
        return self.definitions.get(reference)

    def _add(self, name: str, definitions: list[Json]) -> list[Json]:
        if not is_named(definitions[0]):
            self._roots[name] = definitions[0]
            return definitions
        self._roots[name] = {"ref": name}
        if name in self.definitions:  # as a member of a group that was loaded from another member's document
            return []
        members = [Definition(text_of(definition)) for definition in definitions]
        own = [hash_of(document_from(member, members, {})[0]) for member in range(len(members))]
        names = {number: f'"{hash_}"' for number, hash_ in enumerate(own)}
        flat = [json.loads(member.written(names)) for member in members]
        self.definitions.update(zip(own, flat, strict=True))
        return flat
