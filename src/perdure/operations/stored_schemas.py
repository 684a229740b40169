"""The schemas of sealed answers: reading them, and what has to be stored beside a new one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from perdure import limits
from perdure.core.backend import Reader
from perdure.errors import SchemaInvalid, SchemaMissing
from perdure.operations.tables import SCHEMA
from perdure.schemas import Schema, SchemaRegistry, TypeRef, closure, references, verify

_NONE: Final[Mapping[str, bytes]] = MappingProxyType({})


class StoredSchemas:
    """A `SchemaSource` over the store's schemas, which are never removed."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def get_schema(self, hash: str) -> Schema | None:
        """Return the schema of this name; None when it is not stored. Raises InvalidIdentifier for what is no hash."""
        row = await self._reader.get(SCHEMA.key(TypeRef(hash).hash))
        return None if row is None else Schema(hash, row.document)

    async def closure(self, hash: str) -> SchemaRegistry:
        """Return the document of this name and every one that it reaches, verified.

        Raises:
            InvalidIdentifier: `hash` is none.
            SchemaMissing: one of them is not stored; the text names it.
            SchemaInvalid: a stored document is damaged.
        """
        return closure(hash, await self._reached(TypeRef(hash), _NONE))

    async def to_store(self, root: TypeRef, given: Mapping[str, bytes]) -> tuple[Schema, ...]:
        """Return the given documents that `root` reaches, verified one by one and together with stored ones.

        A given document is believed by its hash alone; what is neither given nor stored is missing. Both are found
        here, so that the decision has only to insert.

        Raises:
            SchemaMissing: one that is reached is neither given nor stored.
            SchemaInvalid: a given document breaks the rules or does not hash to its name.
        """
        reached = await self._reached(root, given)
        closure(root.hash, reached)
        return tuple(Schema(name, document) for name, document in reached.items() if name in given)

    async def _reached(self, root: TypeRef, given: Mapping[str, bytes]) -> dict[str, bytes]:
        reached: dict[str, bytes] = {}
        pending = {root.hash: "the answer"}
        while pending:
            name, needed_by = pending.popitem()
            if len(reached) > limits.SCHEMA_TYPES_MAX:  # the root need not be a named type, all others are
                raise SchemaInvalid(f"schema {root.hash}: more than {limits.SCHEMA_TYPES_MAX:,} documents under one root; split the type")
            reached[name] = await self._document(name, given, needed_by)
            pending |= {other: f"schema {name}" for other in references(reached[name]) if other not in reached}
        return reached

    async def _document(self, name: str, given: Mapping[str, bytes], needed_by: str) -> bytes:
        document = given.get(name)
        if document is not None:
            verify(Schema(name, document))
            return document
        row = await self._reader.get(SCHEMA.key(name))
        if row is None:
            raise SchemaMissing(name, needed_by=needed_by)
        return row.document
