"""What comes in through the engine's doors, checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.core.access import Access
from perdure.engine.addressing import Address, Request, checked_id
from perdure.engine.notes import Envelope
from perdure.engine.process import micros
from perdure.errors import PayloadTooLarge, UsageError
from perdure.identity import DEFAULT_TENANT, RESERVED_ID_PREFIX, ProcessId, TenantId, checked_text


class Doors:
    """Makes envelopes of what callers bring."""

    def __init__(self, access: Access, mine: Callable[[str, str], bool]) -> None:
        self._access = access
        self._mine = mine

    def envelope(
        self,
        request: Request,
        address: Address,
        *,
        id: str,
        source: str = "",
        tenant: str = DEFAULT_TENANT,
        headers: Mapping[str, str] | None = None,
        lasting: timedelta | None = None,
        routed: bool = True,
        fresh: bool = False,
    ) -> Envelope:
        """Return a message as it is accepted; `routed` if the app's own rules say where it goes, `fresh` if its id was made for it.

        Raises:
            InvalidIdentifier, UsageError, PayloadTooLarge: nothing was written.
        """
        message_id = checked_id(id)
        if source:
            checked_text(source, what="source", limit=limits.SOURCE_MAX)
            if source.startswith(RESERVED_ID_PREFIX):
                raise UsageError(f"source {source!r}: sources that begin with {RESERVED_ID_PREFIX!r} are Perdure's own; choose another")
        tenant_id = TenantId(tenant)
        encoded = None if headers is None else _encoded_headers(headers)
        now = self._access.clock.now()
        process_id = address.process_id or (address.name if address.way == "process" else "")
        if not process_id:
            process_id = self._new_id(tenant_id, now)
        return Envelope(
            tenant_id=tenant_id,
            source=source,
            message_id=message_id,
            # Where the app's own rules send a message is not its content: they may change between two deliveries of it.
            digest=request.digest("" if routed else str(address)),
            kind=request.kind,
            payload=request.payload,
            headers=encoded,
            address=address,
            process_id=process_id,
            expires_at=None if lasting is None else now + micros(lasting),
            fresh=fresh and address.way == "start",
        )

    def _new_id(self, tenant_id: str, now: Micros) -> ProcessId:
        """Return an id for a process that begins at once where it is started, if this node owns anything."""
        for _ in range(limits.OWN_ID_TRIES):
            process_id = ProcessId.new(now=now, randomness=self._access.randomness)
            if self._mine(tenant_id, process_id):
                break
        return process_id


def _encoded_headers(headers: Mapping[str, str]) -> bytes:
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in headers.items()):
        raise UsageError("headers are text by name; encode other values yourself")
    encoded = JSON.encode(dict(headers))
    if len(encoded) > limits.HEADERS_MAX:
        raise PayloadTooLarge("headers", size=len(encoded), limit=limits.HEADERS_MAX)
    return encoded
