"""Contract 3: what callers of the operation store may rely on.

Source: contracts.md, "3. OperationStore"; seed 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, Protocol, Self

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.identity import DEFAULT_TENANT, TenantId, checked_text
from perdure.schemas import SchemaSource, TypeRef

PASSING: Final = "http "
"""Scopes that begin so hold requests over HTTP: what is evicted of them is known for `limits.IDEMPOTENCY_KNOWN_US`, not for ever."""
Outcome = Literal["ok", "error"]
"""How an operation ended. A sealed failure is final like any answer: it is replayed, not tried again."""


class OperationId(msgspec.Struct, frozen=True, kw_only=True):
    """The name of an operation. `scope` names the caller (a client, a stream, a process), so that two callers may both use `1`.

    Args:
        tenant_id: the isolation boundary.
        scope: 1..256 bytes of UTF-8 without control characters.
        value: 1..512 bytes of UTF-8 without control characters.
    """

    tenant_id: TenantId
    scope: str
    value: str

    def __post_init__(self) -> None:
        """Validate each part, also when decoding built this."""
        msgspec.structs.force_setattr(self, "tenant_id", TenantId(self.tenant_id))
        checked_text(self.scope, what="OperationId.scope", limit=limits.OPERATION_SCOPE_MAX)
        checked_text(self.value, what="OperationId.value", limit=limits.OPERATION_ID_MAX)

    @classmethod
    def of(cls, value: str) -> Self:
        """Return the operation of this id in tenant `default`, scope `default`."""
        return cls(tenant_id=DEFAULT_TENANT, scope="default", value=value)

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.scope}/{self.value}"


class OperationState(StrEnum):
    """What is known of an operation."""

    UNKNOWN = "unknown"
    ADMITTED = "admitted"  # somebody works on it, or did and is gone: `begin` tells
    SEALED = "sealed"  # it has its answer, for good
    EXPIRED = "expired"  # it had one, which was evicted; it is never run again


class Policy(StrEnum):
    """What a holder's crash means to whoever asks next. Bound by the first `begin`, like the request.

    The store treats the first and the last alike: without the mark of `mark_started` the operation runs again, with it
    the answer is `Indeterminate`. They differ in what is owed. The holder of a volatile operation may `remove` it when
    its caller goes away; that of a persistent one has to bring it to an end, and people see to those that have none.
    """

    VOLATILE = "volatile"
    IDEMPOTENT = "idempotent"  # it runs again, mark or no mark; never twice at the same time
    PERSISTENT = "persistent"


class SealedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed answer: bytes written by `codec`, of the type `root_type`; None when it was sealed without a type."""

    response: bytes
    root_type: TypeRef | None
    codec: str
    outcome: Outcome = "ok"


# --- verdicts of `begin` -----------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True):
    """The operation is the caller's until its lease elapses. `token` is the fencing token; each new one is greater."""

    token: int


class Attached(msgspec.Struct, frozen=True):
    """Somebody else works on it: `wait_sealed`."""


class Replay(msgspec.Struct, frozen=True):
    """It was done, well or not; this is its answer."""

    sealed: SealedResponse


class Indeterminate(msgspec.Struct, frozen=True):
    """Whoever worked on it is gone and may have done it: find out and `resolve`."""


class Conflict(msgspec.Struct, frozen=True):
    """The id belongs to another request: the method or the digest differs."""


class Expired(msgspec.Struct, frozen=True):
    """It was done, and its answer was evicted; it is not run again."""


Verdict = Started | Attached | Replay | Indeterminate | Conflict | Expired


# --- outcomes for `resolve` ----------------------------------------------------------------------------


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """It was done, and this is the answer; the arguments are those of `OperationStore.seal`."""

    response: bytes
    root_type: TypeRef
    registry: Mapping[str, bytes]
    codec: str = "json"


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It was not done and never will be; `response` is the error, for those who replay it."""

    response: bytes
    codec: str = "json"


class Retry(msgspec.Struct, frozen=True):
    """It was not done, and may be: the next `begin` starts it."""


Resolution = Sealed | Failed | Retry


# --- what people see -------------------------------------------------------------------------------------


class OperationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as it stands, without its answer. Times are microseconds since the epoch.

    Args:
        tenant_id: of its id.
        scope: of its id.
        value: of its id.
        state: admitted, sealed or expired.
        indeterminate: nobody works on it, an effect may have happened, and it must not run again.
        method: what it was asked to do; empty until the first `begin`.
        policy: None until the first `begin`.
        attempts: how often it was started.
        started: an effect may have happened.
        lease_expires_at: when the last holder's right to an admitted one ends, or has ended; None without a holder.
        outcome: of a sealed one; None otherwise.
        response_bytes: the size of the answer.
        actor: who resolved it; empty when nobody did.
        created_at: when it was admitted, begun or sealed first.
        changed_at: when its state or its holder changed last.
        retain_until: when its answer may be evicted; None is never, or not sealed yet.
    """

    tenant_id: str
    scope: str
    value: str
    state: OperationState
    indeterminate: bool
    method: str
    policy: Policy | None
    attempts: int
    started: bool
    lease_expires_at: Micros | None
    outcome: Outcome | None
    response_bytes: int
    actor: str
    created_at: Micros
    changed_at: Micros
    retain_until: Micros | None


class OperationStore(Protocol):
    """Was this request done already, and what was the answer?

    Every method names what it raises beyond this: InvalidIdentifier and UsageError for arguments that break their
    rules, before anything is read; StoreUnavailable, when nothing was read or written and the call may be repeated.
    Durations are microseconds.

    Source: contracts.md, "3. OperationStore".
    """

    async def admit(self, operation_id: OperationId) -> None:
        """Record that processing begins; nothing happens to an operation that is admitted or sealed.

        Raises:
            OperationExpired: its answer was evicted; it must not run again.
        """
        ...

    async def lookup(self, operation_id: OperationId) -> OperationState:
        """Return its state. To decide by it is a race: `begin` looks and decides at once."""
        ...

    async def get_sealed(self, operation_id: OperationId) -> SealedResponse | None:
        """Return the answer of a sealed operation, None for any other."""
        ...

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
        """Store the answer, and every schema that `root_type` reaches, once per hash, in one transaction. It is final.

        Again with the same bytes, type and codec nothing happens, whatever the token. An operation that was never
        admitted may be sealed. A holder whose lease has elapsed may seal as long as nobody took over.

        Args:
            operation_id: which.
            response: at most `limits.RESPONSE_MAX` bytes.
            root_type: the type of the answer.
            registry: the documents that it reaches; what the store has may be left out, what is not reached is ignored.
            codec: the name of the codec that wrote `response`.
            token: of the lease, if `begin` gave one.

        Raises:
            AlreadySealed: it has another answer.
            OperationExpired: its answer was evicted.
            LeaseLost: somebody holds it and this is not their token, or the token's holder lost it.
            SchemaMissing: a schema that is reached is neither given nor stored; nothing was stored.
            SchemaInvalid: a given document breaks the rules or does not hash to its name; nothing was stored.
            PayloadTooLarge: the answer is over its limit.
        """
        ...

    async def remove(self, operation_id: OperationId, *, token: int | None = None) -> None:
        """Delete an admitted operation; nothing happens to a sealed, an expired or an unknown one.

        The id is unknown afterwards and may run again, so this says that no effect has happened. Whoever cannot say
        that leaves the operation to its lease, and the next one who asks is told `Indeterminate`.

        Raises:
            LeaseLost: somebody holds it and this is not their token, or the token's holder lost it.
        """
        ...

    def schema_source(self) -> SchemaSource:
        """Return where the schemas of sealed answers are."""
        ...

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
        """Look and decide at once: of all who ask with one id, at the same time or later, one is told `Started`.

        Args:
            operation_id: which.
            method: 1..256 bytes of UTF-8; what is asked for.
            request_digest: SHA-256 over the request as it was received, 32 bytes.
            policy: what a crash means; the first `begin` of an id binds it, with method and digest, for good.
            lease_for: 1 or more; how long others wait before they take the caller for crashed.
            retain: 0 or more; how long the answer is kept, from its sealing on.

        Returns:
            `Started`, `Attached`, `Replay`, `Indeterminate`, `Conflict` or `Expired`; each says what to do. An
            operation that was admitted without a request counts as crashed with an effect that may have happened;
            one that was sealed without a request is replayed to every request.
        """
        ...

    async def mark_started(self, operation_id: OperationId, token: int) -> None:
        """Record, before the first effect, that an effect may have happened from now on. Harmless when repeated.

        Raises:
            LeaseLost: the lease elapsed or somebody took over; do not begin with the effect.
            AlreadySealed: it was resolved meanwhile.
            OperationExpired: it was resolved, and its answer was evicted.
        """
        ...

    async def wait_sealed(
        self,
        operation_id: OperationId,
        timeout: Micros,  # noqa: ASYNC109  # it is measured by the store's clock, which a test may drive
    ) -> SealedResponse | None:
        """Return the answer as soon as it is sealed, by whomever and on whichever node; None after `timeout`.

        Raises:
            OperationExpired: its answer was evicted; there is nothing to wait for.
        """
        ...

    async def resolve(self, operation_id: OperationId, outcome: Resolution, actor: str) -> None:
        """Say how an operation ended that nobody works on; `actor`, 1..256 bytes of UTF-8, is recorded.

        Nothing happens when it is sealed with this very answer.

        Raises:
            OperationNotFound: the id is unknown.
            OperationExpired: its answer was evicted.
            AlreadySealed: it has another answer; `Retry` is refused, too.
            LeaseLost: somebody works on it; wait until it is sealed or the lease elapses.
            SchemaMissing, SchemaInvalid, PayloadTooLarge: as `seal` does.
        """
        ...

    async def sweep(self, now: Micros) -> int:
        """Evict the answers whose retention is over at `now`, and return how many.

        An evicted id leaves a tombstone and is never taken for unknown, unless its scope begins with `PASSING`: see
        `forget`. Admitted operations and schemas stay.
        """
        ...

    async def forget(self, now: Micros) -> int:
        """Remove the tombstones of `PASSING` scopes whose time is over at `now`, and return how many.

        Their ids are unknown afterwards. No other operation is touched.
        """
        ...

    async def find_operation(self, operation_id: OperationId) -> OperationInfo | None:
        """Return what is known of an operation; None when it is unknown."""
        ...

    async def list_operations(
        self, tenant_id: str, *, after: OperationInfo | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[OperationInfo]:
        """Return a tenant's operations by scope and value, in the order of their bytes.

        Args:
            tenant_id: whose.
            after: the last one of the page before.
            limit: 1..`limits.PAGE_MAX`.
        """
        ...

    async def list_elapsed(
        self, tenant_id: str, *, after: OperationInfo | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[OperationInfo]:
        """Return a tenant's admitted operations whose holder is gone, by the end of their lease, oldest first.

        Those that are `indeterminate` need a person or a probe, and `resolve`; the others run again when they are asked for.

        Args:
            tenant_id: whose.
            after: the last one of the page before.
            limit: 1..`limits.PAGE_MAX`.
        """
        ...
