"""Plans between Python types, for tests."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.schemas import Plan, SchemaRegistry, plan, schema_of


def planned(writer: Any, reader: Any, *others: Any, **options: Any) -> Plan:
    """Plan two types over the documents of both and of `others`."""
    registry = SchemaRegistry()
    for kind in (writer, reader, *others):
        registry |= schema_of(kind)[1]
    return plan(schema_of(writer)[0], schema_of(reader)[0], registry, **options)


def hash_of(kind: Any) -> str:
    return schema_of(kind)[0].hash


def trees_of(value: Any) -> list[Any]:
    """Return what each codec decodes of what it wrote for `value`."""
    return [msgspec.json.decode(msgspec.json.encode(value)), msgspec.msgpack.decode(msgspec.msgpack.encode(value))]


def record(name: str, *fields: Any, **options: Any) -> Any:
    """Define a Struct whose fields may be in any order."""
    return msgspec.defstruct(name, fields, kw_only=True, **options)
