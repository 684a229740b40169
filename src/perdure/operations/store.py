"""The facade of contract 3: checks at the door, then one transaction or one read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import codec_of
from perdure.core.access import Access
from perdure.core.table import Key, Scan
from perdure.errors import OperationExpired, PayloadTooLarge, UsageError
from perdure.identity import TenantId, checked_text
from perdure.operations.contract import (
    Failed,
    OperationId,
    OperationInfo,
    OperationState,
    Outcome,
    Policy,
    Resolution,
    Retry,
    Sealed,
    SealedResponse,
    Verdict,
)
from perdure.operations.courses import answer_in, is_held, may_not_rerun, topic_of
from perdure.operations.stored_schemas import StoredSchemas
from perdure.operations.tables import LEASES, OPERATION, OPERATIONS, OperationRow
from perdure.operations.writes import Admit, Answer, Begin, Forget, MarkStarted, Remove, Resolve, Seal, Sweep
from perdure.schemas import SchemaRegistry, SchemaSource, TypeRef

_DIGEST_BYTES = 32
_NO_SCHEMAS = SchemaRegistry()


class Operations:
    """The operations of one open store; an `OperationStore`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._schemas = StoredSchemas(access.reader)

    # --- the seed's methods ---------------------------------------------------------------------------

    async def admit(self, operation_id: OperationId) -> None:
        """See `OperationStore.admit`."""
        await self._access.writer.run(Admit(key=_key(operation_id)))

    async def lookup(self, operation_id: OperationId) -> OperationState:
        """See `OperationStore.lookup`."""
        row = await self._access.reader.get(_key(operation_id))
        return OperationState.UNKNOWN if row is None else OperationState(row.state)

    async def get_sealed(self, operation_id: OperationId) -> SealedResponse | None:
        """See `OperationStore.get_sealed`."""
        return answer_in(await self._access.reader.get(_key(operation_id)))

    async def seal(
        self,
        operation_id: OperationId,
        response: bytes,
        root_type: TypeRef,
        registry: Mapping[str, bytes],
        *,
        codec: str = "json",
        token: int | None = None,
    ) -> None:
        """See `OperationStore.seal`."""
        answer = _answer(response, "ok", codec, root_type)
        await self._commit(Seal(key=_key(operation_id), answer=answer, token=token), root_type, registry)

    async def remove(self, operation_id: OperationId, *, token: int | None = None) -> None:
        """See `OperationStore.remove`."""
        await self._access.writer.run(Remove(key=_key(operation_id), token=token))

    def schema_source(self) -> SchemaSource:
        """See `OperationStore.schema_source`."""
        return self._schemas

    # --- beyond the seed ------------------------------------------------------------------------------

    async def begin(
        self,
        operation_id: OperationId,
        *,
        method: str,
        request_digest: bytes,
        policy: Policy,
        lease_for: Micros,
        retain: Micros,
    ) -> Verdict:
        """See `OperationStore.begin`."""
        if not isinstance(request_digest, bytes) or len(request_digest) != _DIGEST_BYTES:
            raise UsageError(
                f"request_digest: expected the {_DIGEST_BYTES} bytes of a SHA-256, found {request_digest!r:.{limits.REPR_MAX}}"
            )
        write = Begin(
            key=_key(operation_id),
            method=checked_text(method, what="method", limit=limits.METHOD_MAX),
            request_digest=request_digest,
            policy=_policy(policy),
            lease_for=_duration(lease_for, what="lease_for", least=1),
            retain=_duration(retain, what="retain"),
        )
        return await self._access.writer.run(write)

    async def mark_started(self, operation_id: OperationId, token: int) -> None:
        """See `OperationStore.mark_started`."""
        await self._access.writer.run(MarkStarted(key=_key(operation_id), token=token))

    async def wait_sealed(
        self,
        operation_id: OperationId,
        timeout: Micros,  # noqa: ASYNC109  # it is measured by the store's clock, which a test may drive
    ) -> SealedResponse | None:
        """See `OperationStore.wait_sealed`."""
        key, clock = _key(operation_id), self._access.clock
        deadline = clock.now() + _duration(timeout, what="timeout")
        with self._access.signals.listen(topic_of(key)) as listener:
            while True:
                row = await self._access.reader.get(key)
                sealed = answer_in(row)
                if sealed is not None:
                    return sealed
                if row is not None and row.state == OperationState.EXPIRED:
                    raise OperationExpired(f"operation {operation_id}: its answer was evicted; there is nothing to wait for")
                if clock.now() >= deadline:
                    return None
                await listener.wait(deadline)

    async def resolve(self, operation_id: OperationId, outcome: Resolution, actor: str) -> None:
        """See `OperationStore.resolve`."""
        checked_text(actor, what="actor", limit=limits.ACTOR_MAX)
        answer, root_type, registry = _resolution(outcome)
        await self._commit(Resolve(key=_key(operation_id), answer=answer, actor=actor), root_type, registry)

    async def sweep(self, now: Micros) -> int:
        """See `OperationStore.sweep`."""
        evicted, after = await self._access.writer.run(Sweep(now=now))
        while after is not None:
            more, after = await self._access.writer.run(Sweep(now=now, after=after))
            evicted += more
        return evicted

    async def forget(self, now: Micros) -> int:
        """See `OperationStore.forget`."""
        forgotten = found = await self._access.writer.run(Forget(now=now))
        while found == limits.READ_PAGE:
            found = await self._access.writer.run(Forget(now=now))
            forgotten += found
        return forgotten

    async def find_operation(self, operation_id: OperationId) -> OperationInfo | None:
        """See `OperationStore.find_operation`."""
        key = _key(operation_id)
        row = await self._access.reader.get(key)
        return None if row is None else _info(key, row, self._access.clock.now())

    async def list_operations(
        self, tenant_id: str, *, after: OperationInfo | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[OperationInfo]:
        """See `OperationStore.list_operations`."""
        place = None if after is None else (after.scope, after.value)
        found = await self._access.reader.scan(Scan(OPERATIONS, (str(TenantId(tenant_id)),), _page(limit), place))
        return _infos(found, self._access.clock.now())

    async def list_elapsed(
        self, tenant_id: str, *, after: OperationInfo | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[OperationInfo]:
        """See `OperationStore.list_elapsed`."""
        now = self._access.clock.now()
        place = None if after is None else (after.lease_expires_at, after.scope, after.value)
        found = await self._access.reader.scan(Scan(LEASES, (str(TenantId(tenant_id)),), _page(limit), place, (now,)))
        return _infos(found, now)

    # --- inside -----------------------------------------------------------------------------------------

    async def _commit(self, write: Seal | Resolve, root_type: TypeRef | None, registry: Mapping[str, bytes]) -> None:
        """Commit; collect and verify schemas only if the type's own is not stored yet, which is once per type."""
        size = 0 if write.answer is None else len(write.answer.response)
        if await self._access.writer.run(write, size=size):
            return
        assert root_type is not None, "an answer without a type takes no schemas"
        schemas = await self._schemas.to_store(root_type, registry)
        size += sum(len(schema.document) for schema in schemas)
        done = await self._access.writer.run(msgspec.structs.replace(write, schemas=schemas), size=size)
        assert done, f"schema {root_type.hash} came along or was stored meanwhile, and none is ever removed"


def _key(operation_id: OperationId) -> Key[OperationRow]:
    return OPERATION.key(str(operation_id.tenant_id), operation_id.scope, operation_id.value)


def _answer(response: bytes, outcome: Outcome, codec: str, root_type: TypeRef | None) -> Answer:
    if not isinstance(response, bytes):
        raise UsageError(f"response: expected bytes, found {type(response).__name__}; encode it with the codec {codec!r}")
    if len(response) > limits.RESPONSE_MAX:
        raise PayloadTooLarge("response", size=len(response), limit=limits.RESPONSE_MAX)
    return Answer(response=response, outcome=outcome, codec=codec_of(codec).name, root_type="" if root_type is None else root_type.hash)


def _resolution(outcome: Resolution) -> tuple[Answer | None, TypeRef | None, Mapping[str, bytes]]:
    match outcome:
        case Sealed():
            answer = _answer(outcome.response, "ok", outcome.codec, outcome.root_type)
            return answer, outcome.root_type, outcome.registry
        case Failed():
            return _answer(outcome.response, "error", outcome.codec, None), None, _NO_SCHEMAS
        case Retry():
            return None, None, _NO_SCHEMAS


def _policy(policy: str) -> Policy:
    try:
        return Policy(policy)
    except ValueError:
        raise UsageError(f"policy: expected one of {[str(known) for known in Policy]}, found {policy!r:.{limits.REPR_MAX}}") from None


def _duration(value: Micros, *, what: str, least: int = 0) -> Micros:
    if type(value) is not int or not least <= value <= limits.DURATION_MAX:
        raise UsageError(f"{what}: expected {least} to {limits.DURATION_MAX} microseconds, found {value!r:.{limits.REPR_MAX}}")
    return value


def _page(limit: int) -> int:
    if not 1 <= limit <= limits.PAGE_MAX:
        raise UsageError(f"limit: expected 1 to {limits.PAGE_MAX}, found {limit}; page on with `after`")
    return limit


def _infos(found: Iterable[tuple[Key[OperationRow], OperationRow]], now: Micros) -> list[OperationInfo]:
    return [_info(key, row, now) for key, row in found]


def _info(key: Key[OperationRow], row: OperationRow, now: Micros) -> OperationInfo:
    tenant_id, scope, value = map(str, key.parts)
    admitted, sealed = row.state == OperationState.ADMITTED, answer_in(row)
    return OperationInfo(
        tenant_id=tenant_id,
        scope=scope,
        value=value,
        state=OperationState(row.state),
        indeterminate=admitted and not is_held(row, now) and may_not_rerun(row, ""),
        method=row.method,
        policy=Policy(row.policy) if row.policy else None,
        attempts=row.attempts,
        started=bool(row.started),
        lease_expires_at=row.lease_expires_at,
        outcome=None if sealed is None else sealed.outcome,
        response_bytes=len(row.response or b""),
        actor=row.actor,
        created_at=row.created_at,
        changed_at=row.changed_at,
        retain_until=row.retain_until,
    )
