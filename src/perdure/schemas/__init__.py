"""Schemas: types as canonical documents with hashes, and plans to read what an older or newer type wrote."""

from perdure.schemas.documents import schema_of
from perdure.schemas.loading import closure
from perdure.schemas.planning import Plan, plan
from perdure.schemas.registry import Schema, SchemaRegistry, SchemaSource, TypeRef, references
from perdure.schemas.solve import Upcasters
from perdure.schemas.steps import Upcast
from perdure.schemas.verify import verify

__all__ = [
    "Plan",
    "Schema",
    "SchemaRegistry",
    "SchemaSource",
    "TypeRef",
    "Upcast",
    "Upcasters",
    "closure",
    "plan",
    "references",
    "schema_of",
    "verify",
]
