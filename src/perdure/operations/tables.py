"""The rows of operations and of the schemas that their answers need."""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class OperationRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One operation. What a reply of the engine leaves out costs a byte per column.

    `method`, `request_digest` and `policy` are bound by the first `begin` and stay, in the tombstone, too; until then
    they are empty. `token` is the last holder's; `lease_expires_at` goes with the seal. `started` is 1 when an effect may have
    happened, which is also what is known of an operation admitted without a request. `retain` is how long the answer
    is kept, `retain_until` until when, once there is one; None is for ever. `actor` is the person who resolved it.
    """

    state: str
    method: str = ""
    request_digest: bytes = b""
    policy: str = ""
    token: int = 0
    lease_expires_at: Micros | None = None
    started: int = 0
    attempts: int = 0
    outcome: str = ""
    codec: str = ""
    root_type: str = ""
    retain: Micros | None = None
    retain_until: Micros | None = None
    actor: str = ""
    created_at: Micros
    changed_at: Micros
    response: bytes | None = None


class SchemaRow(msgspec.Struct, frozen=True, gc=False):
    """One verified document. It was stored together with everything that it reaches, and is never removed."""

    document: bytes


class TombstoneRow(msgspec.Struct, frozen=True, gc=False):
    """An evicted operation that is forgotten at a time. Those without such a row are known for ever."""

    forget_at: Micros


OPERATION = Table("operation", ("tenant_id", "scope", "operation_id"), OperationRow)
TOMBSTONE = Table("operation_tombstone", ("tenant_id", "scope", "operation_id"), TombstoneRow)
SCHEMA = Table("schema", ("hash",), SchemaRow)

OPERATIONS = Index(OPERATION, "operation", prefix=("tenant_id",), order=("scope", "operation_id"))
LEASES = Index(
    OPERATION,
    "operation_lease",
    prefix=("tenant_id",),
    order=("lease_expires_at", "scope", "operation_id"),
    where=lambda row: row.lease_expires_at is not None,
    where_sql="lease_expires_at is not null",
)
RETENTION = Index(
    OPERATION,
    "operation_retention",
    order=("retain_until", "tenant_id", "scope", "operation_id"),
    where=lambda row: row.retain_until is not None,
    where_sql="retain_until is not null",
)
FORGETTING = Index(TOMBSTONE, "operation_forgetting", order=("forget_at", "tenant_id", "scope", "operation_id"))
TABLES = (OPERATION, TOMBSTONE, SCHEMA)
INDEXES = (OPERATIONS, LEASES, RETENTION, FORGETTING)
