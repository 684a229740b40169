"""Connections that belong to the application: statements within its transaction, whichever driver it uses.

Drivers are told apart by the connection that is given, and none but asyncpg is imported before it is needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg

from perdure.errors import UsageError
from perdure.names import public_name

_EXPECTED = "an asyncpg connection, a psycopg 3 connection, or one of SQLAlchemy (connection or session) over one of these"


class Refused(Exception):
    """The server refused a statement; `sqlstate` says why."""

    def __init__(self, text: str, sqlstate: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class Borrowed(Protocol):
    """A connection of the application's own; `synchronous`, if it waits by itself instead of suspending its caller."""

    @property
    def synchronous(self) -> bool:
        """Whether it is for programs without an event loop."""
        ...

    async def begun(self) -> None:
        """See that a transaction is open: by the driver that begins one by itself. Raises UsageError when there is none."""
        ...

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows; a synchronous one does so without ever suspending.

        Raises:
            Refused: by the server.
        """
        ...


class _Asyncpg:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.synchronous = False

    async def begun(self) -> None:
        if not self._connection.is_in_transaction():
            raise _no_transaction()

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        try:
            return [tuple(record) for record in await self._connection.fetch(sql, *values)]
        except asyncpg.PostgresError as error:
            raise Refused(str(error), error.sqlstate or "") from error


class _Psycopg:
    """Both kinds of connection: what the synchronous one returns is not awaited."""

    def __init__(self, connection: Any) -> None:
        import psycopg  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  # the application has it, or there is no such connection

        self._connection = connection
        self._error = psycopg.Error
        self._idle = psycopg.pq.TransactionStatus.IDLE
        self.synchronous = not isinstance(connection, psycopg.AsyncConnection)
        self._cursor = psycopg.RawCursor if self.synchronous else psycopg.AsyncRawCursor

    async def begun(self) -> None:
        if self._connection.autocommit and self._connection.info.transaction_status == self._idle:
            raise _no_transaction()

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        cursor = self._cursor(self._connection)
        try:
            done = cursor.execute(sql, values or None, binary=True)
            if inspect.isawaitable(done):
                await done
            found: Any = [] if cursor.description is None else cursor.fetchall()
            return list(await found if inspect.isawaitable(found) else found)
        except self._error as error:
            raise Refused(str(error), error.sqlstate or "") from error


class _Sqlalchemy:
    """What SQLAlchemy has borrowed itself. It has to know of its transaction, which it begins at its own first statement."""

    def __init__(self, connection: Any) -> None:
        self._given = connection
        self.synchronous = not (hasattr(connection, "sync_connection") or hasattr(connection, "sync_session"))
        self._driver: Borrowed | None = None

    async def begun(self) -> None:
        connection: Any = self._given
        if hasattr(connection, "get_bind"):  # a session
            connection = connection.connection()
            connection = await connection if inspect.isawaitable(connection) else connection
        begun = connection.exec_driver_sql("select 1")
        if inspect.isawaitable(begun):
            await begun
        inner = getattr(connection, "sync_connection", connection).connection.driver_connection
        self._driver = borrowed(inner)
        await self._driver.begun()

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        assert self._driver is not None, "it is begun first"
        return await self._driver.rows(sql, values)


def borrowed(connection: Any) -> Borrowed:
    """Return what runs statements on a connection of the application. Raises UsageError for one that is not known."""
    for kind in type(connection).__mro__:
        match kind.__module__.partition(".")[0]:
            case "asyncpg":
                return _Asyncpg(connection)
            case "psycopg":
                return _Psycopg(connection)
            case "sqlalchemy":
                return _Sqlalchemy(connection)
    raise UsageError(f"expected {_EXPECTED}; found {public_name(type(connection).__module__)}.{type(connection).__qualname__}")


def _no_transaction() -> UsageError:
    return UsageError("this connection is in no transaction: what is written with it would be committed by itself; begin one first")
