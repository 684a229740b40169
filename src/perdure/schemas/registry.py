"""Names of schemas, and documents by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from perdure.errors import InvalidIdentifier

_HASH: Final = re.compile(r"[0-9a-f]{32}")
# In canonical text this can only be a reference: a quote inside of text is written as \", and no value has such a key.
_REFERENCE: Final = re.compile(rb'\{"ref":"([0-9a-f]{32})"\}')


class TypeRef(msgspec.Struct, frozen=True):
    """The name of a type's schema: 32 lower-case hex digits. Equal types have equal names, wherever they are defined."""

    hash: str

    def __post_init__(self) -> None:
        """Refuse what is no hash, also when decoding built this."""
        if not isinstance(self.hash, str) or not _HASH.fullmatch(self.hash):
            raise InvalidIdentifier(f"TypeRef: expected 32 lower-case hex digits, found {self.hash!a:.100}")


class Schema(msgspec.Struct, frozen=True):
    """A document and the name that it goes by; `verify` tells whether it deserves it."""

    hash: str
    document: bytes


class SchemaRegistry(Mapping[str, bytes]):
    """Documents by hash, never changed.

    What `schema_of`, `closure` and `SchemaSource.closure` return is closed: it holds every document that one of its
    documents refers to. One that a caller puts together holds what the caller put in, unverified.
    """

    __slots__ = ("_documents",)

    def __init__(self, documents: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self._documents = dict(documents)

    def __getitem__(self, key: str) -> bytes:
        return self._documents[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)

    def __or__(self, other: Mapping[str, bytes]) -> SchemaRegistry:
        return SchemaRegistry({**self._documents, **other})

    def __repr__(self) -> str:
        return f"SchemaRegistry({len(self)} documents)"


class SchemaSource(Protocol):
    """Where schemas are kept."""

    async def get_schema(self, hash: str) -> Schema | None:
        """Return the schema of this name; None when it is not kept here."""
        ...

    async def closure(self, hash: str) -> SchemaRegistry:
        """Return the document of this name and every one that it reaches.

        Raises:
            SchemaMissing: one of them is not kept here; the text names it.
        """
        ...


def references(document: bytes) -> tuple[str, ...]:
    """Return the hashes of the other documents that a verified document refers to, in order of first appearance.

    Source: schemas.md, "References".
    """
    return tuple(dict.fromkeys(match.decode() for match in _REFERENCE.findall(document)))
