"""Requests, answers and types for the tests of contract 3."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from perdure.clock import SECOND
from perdure.identity import TenantId
from perdure.operations.contract import Indeterminate, OperationId, OperationStore, Policy, Started, Verdict
from perdure.schemas import SchemaRegistry, TypeRef, schema_of


class Receipt(msgspec.Struct):
    number: str
    total: int


class Payment(msgspec.Struct):
    receipt: Receipt
    earlier: list[Receipt]


class Folder(msgspec.Struct):
    name: str
    inside: list[Folder] = []


def digest_of(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()


LEASE = 30 * SECOND
RETAIN = 86_400 * SECOND
REQUEST = digest_of(b'{"amount":100}')
OTHER_REQUEST = digest_of(b'{"amount":999}')
ANSWER = b'{"number":"R-1","total":100}'
OTHER_ANSWER = b'{"number":"R-2","total":999}'
RECEIPT, RECEIPT_SCHEMAS = schema_of(Receipt)
PAYMENT, PAYMENT_SCHEMAS = schema_of(Payment)
NO_SCHEMAS = SchemaRegistry()
CHARGE = OperationId(tenant_id=TenantId("acme"), scope="checkout", value="payment-1")


def named(value: str, *, scope: str = "checkout", tenant_id: str = "acme") -> OperationId:
    return OperationId(tenant_id=TenantId(tenant_id), scope=scope, value=value)


async def begin(operations: OperationStore, operation_id: OperationId = CHARGE, **changes: Any) -> Verdict:
    request: dict[str, Any] = {
        "method": "charge",
        "request_digest": REQUEST,
        "policy": Policy.PERSISTENT,
        "lease_for": LEASE,
        "retain": RETAIN,
        **changes,
    }
    return await operations.begin(operation_id, **request)


async def start(operations: OperationStore, operation_id: OperationId = CHARGE, **changes: Any) -> int:
    """Begin, and return the token: nobody else may hold it."""
    verdict = await begin(operations, operation_id, **changes)
    assert isinstance(verdict, Started), verdict
    return verdict.token


async def seal(
    operations: OperationStore,
    operation_id: OperationId = CHARGE,
    response: bytes = ANSWER,
    *,
    token: int | None = None,
    root_type: TypeRef = RECEIPT,
    registry: SchemaRegistry = RECEIPT_SCHEMAS,
) -> None:
    await operations.seal(operation_id, response, root_type, registry, token=token)


async def crash_after_the_mark(operations: OperationStore, clock: Any, operation_id: OperationId = CHARGE, **changes: Any) -> int:
    """Leave an operation whose effect may have happened to its lease."""
    token = await start(operations, operation_id, **changes)
    await operations.mark_started(operation_id, token)
    clock.advance(LEASE)
    if changes.get("policy") is not Policy.IDEMPOTENT:
        assert await begin(operations, operation_id, **changes) == Indeterminate()
    return token
