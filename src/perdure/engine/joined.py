"""Messages and operations in a transaction of the application's own: they are there when it commits, and only then."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from perdure.engine.addressing import Address, Request, checked_address
from perdure.engine.app import App
from perdure.engine.delivery import Deliver
from perdure.engine.doors import Doors
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.engine.notes import NO_APP, Receipt
from perdure.errors import NoRoute, UsageError
from perdure.identity import DEFAULT_TENANT, SYSTEM_RANDOMNESS, Randomness
from perdure.operations.contract import OperationStore
from perdure.operations.store import Operations
from perdure.routing.contract import ProcessRegistry
from perdure.routing.registry import Registry
from perdure.store import join, not_over
from perdure.streams.contract import DurableStore
from perdure.streams.store import Streams

R = TypeVar("R")


class Joined:
    """A store on PostgreSQL, seen from inside of a transaction of the application's own, which is in the same database.

    Nothing here commits, and nothing is sent before the commit. What a call refuses is undone alone: the transaction goes on.
    It holds locks from the first call to its end, and an engine that needs one of these rows waits: deliver last, and commit
    soon. The server ends a transaction that idles for 5 seconds after a call.

    Args:
        connection: of asyncpg or psycopg 3, or a connection or session of SQLAlchemy over one of these; in a transaction
            that is read committed.
        app: whose `@on(kind, key=…)` say where a message goes; without it, each needs `to=`.
        schema: that holds the store.
        randomness: where new ids come from.

    Attributes:
        operations: contract 3 in this transaction.
        processes: contract 1 in this transaction.
        streams: contract 4's streams and values in this transaction.

    Raises:
        UsageError: the connection is none of these.

    Source: docs/postgres.md, "In your own transaction".
    """

    def __init__(
        self, connection: Any, *, app: App | None = None, schema: str = "perdure", randomness: Randomness = SYSTEM_RANDOMNESS
    ) -> None:
        access, self._synchronous = join(connection, schema, randomness)
        self._writer = access.writer
        self._doors = Doors(access, lambda _tenant_id, _process_id: True)  # whoever owns it finds it
        self._app = app
        self.operations: Final[OperationStore] = Operations(access)
        self.processes: Final[ProcessRegistry] = Registry(access, admit=not_over)
        self.streams: Final[DurableStore] = Streams(access)

    async def deliver(
        self,
        message: object,
        /,
        *,
        id: str,
        to: Address | None = None,
        source: str = "",
        tenant: str = DEFAULT_TENANT,
        headers: Mapping[str, str] | None = None,
        keep_for: timedelta | None = None,
        expires_after: timedelta | None = None,
    ) -> Receipt:
        """Accept a message once, with the commit of this transaction; see `Engine.deliver`.

        Its turn is begun by the engine that owns the process, after the commit. The receipt holds if the transaction is committed.

        Raises:
            MessageConflict, MessageExpired, ProcessNotFound, ProcessEnded, MailboxFull: it is not accepted.
            InvalidIdentifier, PayloadTooLarge, PayloadUnencodable, NoRoute, UsageError: nothing was written.
            StoreBusy, StoreError: nothing was written; roll back, and repeat later.
        """
        kind, payload = kind_of(checked_message_type(type(message))), encoded_message(message)
        address = self._route(message) if to is None else checked_address(to)
        if self._app is not None and address.way == "start" and kind not in self._app.type_named(address.process_type).handlers:
            raise NoRoute(f"{address}: {address.process_type!r} has no handler for {kind!r}, so nothing can start with it")
        envelope = self._doors.envelope(
            Request("", kind, payload, None),
            address,
            id=id,
            source=source,
            tenant=tenant,
            headers=headers,
            lasting=expires_after if expires_after is not None else keep_for,
            routed=to is None,
        )
        receipt: Receipt = (await self._writer.run(Deliver(NO_APP, envelope), size=len(payload)))[0]
        return receipt

    def run(self, call: Coroutine[Any, Any, R]) -> R:
        """Run one call to its end without an event loop, on a connection that waits by itself: `joined.run(joined.deliver(…))`.

        Raises:
            UsageError: the connection is one of asyncio.
            Exception: what the call raises.
        """
        if not self._synchronous:
            call.close()
            raise UsageError("this connection is one of asyncio: await the call; `run` is for psycopg.Connection, and SQLAlchemy over it")
        try:
            call.send(None)
        except StopIteration as done:
            result: R = done.value
            return result
        call.close()
        raise UsageError("`run` is for the calls of this object, which wait for nothing but its connection")

    def _route(self, message: object) -> Address:
        if self._app is None:
            raise UsageError("say where it goes with to=…, or give Joined the app whose routes say it")
        return self._app.route(message)
