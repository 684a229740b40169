"""`Idempotency-Key`: a request that comes again gets the very answer that it got before.

Source: the IETF draft "The Idempotency-Key HTTP Header Field"; contracts.md, 3; commands.md, "HTTP".
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, assert_never

import msgspec

from perdure import limits
from perdure.codec import MSGPACK
from perdure.errors import (
    AlreadySealed,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    LeaseLost,
    OperationExpired,
    PayloadTooLarge,
    PerdureError,
)
from perdure.identity import DEFAULT_TENANT
from perdure.operations.contract import (
    PASSING,
    Attached,
    Conflict,
    Expired,
    Indeterminate,
    OperationId,
    OperationStore,
    Policy,
    Replay,
    SealedResponse,
    Started,
)
from perdure.schemas import schema_of
from perdure.server.problems import refusal
from perdure.server.route import Answer, Call

_SERVER_FAULT: Final = 500
_OF_NO_TENANT: Final = "§"  # no key has it: they are ASCII


class Stored(msgspec.Struct, frozen=True):
    """An answer as it is kept."""

    status: int
    media_type: str
    body: bytes
    headers: dict[str, str]


_TYPE, _SCHEMAS = schema_of(Stored)
_decode: Final = MSGPACK.decoder(Stored)


class Once:
    """Answers requests once for each key, client and tenant."""

    def __init__(self, operations: OperationStore) -> None:
        self._operations = operations

    async def answer(self, call: Call, key: str, digest: bytes, handle: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to a request with a key; `call.again` is made to know whether it was begun before.

        What the server could not do, and what can succeed later, is not kept: the same request is then tried again.

        Raises:
            IdempotencyKeyReused, IdempotencyKeyInUse, OperationExpired: it is not handled.
            PerdureError: what the handler raises that is not kept.
        """
        # By the client's name: a token that replaces another belongs to the same client.
        tenant_id, value = (call.tenant, key) if call.route.of_tenant else (DEFAULT_TENANT, f"{_OF_NO_TENANT}{key}")
        operation = OperationId(tenant_id=tenant_id, scope=f"{PASSING}{call.principal.name}", value=value)
        verdict = await self._operations.begin(
            operation,
            method=f"{call.route.method} {call.route.path}",
            request_digest=digest,
            policy=Policy.IDEMPOTENT,
            lease_for=limits.IDEMPOTENCY_LEASE_US + call.route.lasts_us + getattr(call.query, "wait_ms", 0) * 1_000,
            retain=limits.IDEMPOTENCY_RETAIN_US,
        )
        match verdict:
            case Started(token):
                call.again = lambda: self._begun_before(operation)
                return await self._handled(operation, token, handle)
            case Replay(sealed):
                return _again(sealed)
            case Conflict():
                raise IdempotencyKeyReused("this Idempotency-Key belongs to another request; a new request needs a new key")
            case Attached() | Indeterminate():
                raise IdempotencyKeyInUse("the request with this Idempotency-Key is still running; repeat it later")
            case Expired():
                raise OperationExpired("the answer to this Idempotency-Key is kept no longer; a new request needs a new key")
            case _:
                assert_never(verdict)

    async def _begun_before(self, operation: OperationId) -> bool:
        found = await self._operations.find_operation(operation)
        return found is not None and found.attempts > 1

    async def _handled(self, operation: OperationId, token: int, handle: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            made = await handle()
        except PerdureError as error:
            made = refusal(error)
            if made.status >= _SERVER_FAULT or error.retryable:
                await self._let_go(operation, token)
                raise
        except Exception:
            await self._let_go(operation, token)
            raise
        return await self._sealed(operation, token, made)

    async def _sealed(self, operation: OperationId, token: int, made: Answer) -> Answer:
        response = MSGPACK.encode(Stored(made.status, made.media_type, made.body, made.headers))
        try:
            await self._operations.seal(operation, response, _TYPE, _SCHEMAS, codec=MSGPACK.name, token=token)
        except PayloadTooLarge:  # what the request did is kept under its own id, and is not done again
            await self._let_go(operation, token)
        except (LeaseLost, AlreadySealed):  # it took too long, and a repetition has taken over: both get its answer
            sealed = await self._operations.get_sealed(operation)
            if sealed is None:
                raise IdempotencyKeyInUse("a repetition of this request is still running; repeat it later") from None
            return _again(sealed)
        return made

    async def _let_go(self, operation: OperationId, token: int) -> None:
        try:
            await self._operations.remove(operation, token=token)
        except LeaseLost:
            return  # a repetition has taken over


def _again(sealed: SealedResponse) -> Answer:
    stored = _decode(sealed.response)
    return Answer(status=stored.status, body=stored.body, media_type=stored.media_type, headers=stored.headers)


def digest_of(method: str, path: str, query: bytes, body: bytes) -> bytes:
    """Return what tells one request from another under the same key."""
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), query, body))).digest()
