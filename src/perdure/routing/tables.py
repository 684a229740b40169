"""The rows of the registry: keys, tags, and the record of every change to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from perdure.core.table import Index, Table

KEYS_COUNTER: Final = "routing.keys"
"""How many keys are bound, over all tenants."""


class Change(StrEnum):
    """What happened to an address."""

    BIND = "bind"
    UNBIND = "unbind"
    TAG = "tag"
    UNTAG = "untag"


class Actor(StrEnum):
    """Through which door a change came."""

    ENGINE = "engine"  # a turn, a delivery, or the end of a process
    CALLER = "caller"  # a call of ProcessRegistry


class KeyRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One registry key: its owner, or none while messages are parked under it.

    `parked` counts those messages: the row is the guard of their range. `tick` is when the owner got the key. A key
    that nobody owns and nothing waits for has no row.
    """

    process_id: str | None = None
    process_type: str = ""
    package_hash: str | None = None
    tick: int = 0
    parked: int = 0


class CorrelationRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One process under one tag. `tick` is when it was put there, which is its place among the others."""

    process_type: str
    package_hash: str | None
    tick: int


class RegistryEventRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One change: `name` is the key or the tag. The rows above follow from these, but for `parked`."""

    what: str
    name: str
    process_id: str
    process_type: str
    package_hash: str | None
    actor: str


KEY = Table("registry_key", ("tenant_id", "key"), KeyRow, guard=True)
CORRELATION = Table("correlation", ("tenant_id", "tag", "process_id"), CorrelationRow)
REGISTRY_EVENT = Table("registry_event", ("tenant_id", "tick"), RegistryEventRow, kind="log")

ALL_KEYS = Index(KEY, "registry_key", order=("tenant_id", "key"))
KEYS = Index(KEY, "registry_key", prefix=("tenant_id",), order=("key",))
KEYS_OF = Index(
    KEY,
    "registry_key_owner",
    prefix=("tenant_id", "process_id"),
    order=("key",),
    where=lambda row: row.process_id is not None,
    where_sql="process_id is not null",
)
# Bound by a caller of the registry while messages waited: the engine hands them over when it looks.
OWED = Index(
    KEY,
    "registry_key_owed",
    order=("tenant_id", "key"),
    where=lambda row: row.process_id is not None and row.parked > 0,
    where_sql="process_id is not null and parked > 0",
)
CORRELATIONS = Index(CORRELATION, "correlation", prefix=("tenant_id",), order=("tag", "process_id"))
MEMBERS = Index(CORRELATION, "correlation_member", prefix=("tenant_id", "tag"), order=("tick", "process_id"))
TAGS_OF = Index(CORRELATION, "correlation_process", prefix=("tenant_id", "process_id"), order=("tag",))
REGISTRY_EVENTS = Index(REGISTRY_EVENT, "registry_event", prefix=("tenant_id",), order=("tick",))
TABLES = (KEY, CORRELATION, REGISTRY_EVENT)
INDEXES = (ALL_KEYS, KEYS, KEYS_OF, OWED, CORRELATIONS, MEMBERS, TAGS_OF, REGISTRY_EVENTS)
