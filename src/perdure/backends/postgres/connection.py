"""Connections: how one is made and lost, and what the server's errors mean."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Final

import asyncpg

from perdure import limits
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.borrowed import Refused
from perdure.backends.postgres.driver import Connection
from perdure.backends.postgres.statements import CHANGED, FENCED, TAKEN
from perdure.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreNotFound, StoreUnavailable, TransactionRefused, UsageError

logger = logging.getLogger("perdure.postgres")

# A generic plan costs nothing per call, and every statement of ours is to follow an index: with the planner's own choice
# one took fifty times as long after the statistics had changed.
PLANNER: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "jit": "off",
}


class Failure(Enum):
    """What an error of the server means for the transaction that met it; nothing of it was written."""

    FENCED = auto()  # a newer incarnation of this writer exists
    CONFLICT = auto()  # another node changed the same rows, or waited for them while we waited for its
    DUPLICATE = auto()  # a row that was to be inserted is there
    BUSY = auto()  # the server had no time or no memory
    FULL = auto()  # there is no room
    REFUSED = auto()  # it is the transaction's own fault
    ELSEWHERE = auto()  # this server does not write any more: another one does
    DENIED = auto()  # our role may not do this
    WRONG = auto()  # the tables are not those of a store
    BROKEN = auto()  # the server failed


_CODES: Final = {
    FENCED: Failure.FENCED,
    CHANGED: Failure.CONFLICT,
    "40001": Failure.CONFLICT,
    "40P01": Failure.CONFLICT,
    "55P03": Failure.CONFLICT,
    "23505": Failure.DUPLICATE,
    "53100": Failure.FULL,
    "57014": Failure.BUSY,
    "25006": Failure.ELSEWHERE,
    "42501": Failure.DENIED,
}
_CLASSES: Final = {
    TAKEN: Failure.DUPLICATE,
    "22": Failure.REFUSED,
    "23": Failure.REFUSED,
    "54": Failure.REFUSED,
    "53": Failure.BUSY,
    "42": Failure.WRONG,
    "3F": Failure.WRONG,
}


class Lost(Exception):
    """The connection is gone: whether what was under way happened is not known."""


class Unreachable(Exception):
    """No server of the address can be written to now. `lasting`: waiting will not help, as far as the servers say."""

    def __init__(self, text: str, *, lasting: StoreError | None) -> None:
        super().__init__(text)
        self.lasting = lasting


def failure_of(error: asyncpg.PostgresError | Refused) -> Failure:
    """Judge an error by its code, never by its text."""
    code = error.sqlstate or ""
    return _CODES.get(code) or _CLASSES.get(code[:2]) or Failure.BROKEN


def translated(error: asyncpg.PostgresError | Refused, place: str) -> StoreError:
    """Return the error of ours for one of the server's; nothing was written."""
    told = f"{error} (SQLSTATE {error.sqlstate})"
    match failure_of(error):
        case Failure.FENCED | Failure.CONFLICT | Failure.BUSY | Failure.ELSEWHERE:
            return StoreBusy(f"{place}: nothing was written, repeat later: {told}")
        case Failure.FULL:
            return StoreFull(f"{place}: the server's disk is full, nothing was written; make room and repeat the call")
        case Failure.REFUSED | Failure.DUPLICATE:
            return TransactionRefused(f"{place}: the database refused the transaction, nothing of it was written: {told}")
        case Failure.DENIED:
            return StoreUnavailable(
                f"{place}: the role may not do this, nothing was written: {told}; see docs/postgres.md for what it needs"
            )
        case Failure.WRONG:
            return StoreCorrupt(
                f"{place}: the tables are not those of a store: {told}; restore them from a backup, or choose another schema"
            )
        case Failure.BROKEN:
            return StoreUnavailable(f"{place}: the server failed, nothing was written: {told}")


# What a connection that is given up still does would go on: it may wait for locks, or hold some, and no timeout of the server
# is for one that has half of a call. The name is that of one node, so that no other connection is meant by a pid used again.
END: Final = """select count(pg_terminate_backend(pid)) from pg_stat_activity
where pid = $1 and usename = current_user and application_name = current_setting('application_name')"""


def _settings() -> dict[str, str]:
    ms = f"{limits.POSTGRES_STATEMENT_SECONDS * 1000:.0f}"
    return {**PLANNER, "statement_timeout": ms, **{f"tcp_keepalives_{name}": str(n) for name, n in limits.POSTGRES_KEEPALIVES.items()}}


class Session:
    """One connection to whichever server of the address can be written to; made again when it is lost.

    Raises:
        Lost: it broke under a statement; the next one makes a new connection.
        Unreachable: there is none, and none can be made now.
        asyncpg.PostgresError: the server refused the statement.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: asyncpg.Connection[Any] | None = None
        self._statements: OrderedDict[str, Any] = OrderedDict()
        self._names = itertools.count(1)
        self._runs = 0
        self._connecting: asyncio.Task[asyncpg.Connection[Any]] | None = None
        self._transaction = False
        self._pid = 0  # of the server's process for the connection
        self._given_up: int | None = None  # that of one that may still be at work there
        self._server = address.leading.server
        self._changes = address.leading.changes
        self.made = 0
        """How many connections there have been: behind another one may be another server, or the same with older data."""

    @property
    def live(self) -> bool:
        """Whether there is a connection, as far as is known here."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def in_transaction(self) -> bool:
        """Whether `begin` was called, and no end since."""
        return self._transaction

    async def connected(self) -> asyncpg.Connection[Any]:
        """Return the connection, a new one if need be: also when another server than its own has taken a write since.

        Lost in the middle of a transaction, which no other connection can go on with.
        """
        if self._overtaken() or self._connection is None or self._connection.is_closed():
            amid = self._transaction
            self.drop()
            if amid:
                raise Lost("the connection was closed in the middle of a transaction")
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="perdure-connects")
                self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
            connecting = self._connecting
            # Who is cancelled leaves the attempt to the next one: the driver's own does not end well in its middle.
            await asyncio.wait([connecting])
            self._connecting = None
            self._connection = connecting.result()
            self._pid = self._connection.get_server_pid()
            self.made += 1
        return self._connection

    def wrote(self) -> None:
        """Say that a write over this connection is durable: what else there is of the store goes to that server, too."""
        leading = self._address.leading
        leading.wrote(self._server)
        self._changes = leading.changes

    def _overtaken(self) -> bool:
        leading = self._address.leading
        if self._transaction or self._changes == leading.changes:
            return False
        before, self._server, self._changes = self._server, leading.server, leading.changes
        return before != self._server

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement, prepared once per connection; behind a pooler, in a transaction."""
        if self._address.pooler and not self._transaction:
            return await self._alone(sql, values)
        connection = await self.connected()
        try:
            if self._address.pooler:
                return await connection.fetch(sql, *values, timeout=limits.POSTGRES_ANSWER_SECONDS)
            self._runs += 1
            if self._runs >= limits.POSTGRES_PLANS_RUNS and self._runs.bit_count() == 1:
                # Plans are kept, and those of a small table may go through any of its indexes: made anew as it may have doubled.
                await connection.execute("discard plans", timeout=limits.POSTGRES_ANSWER_SECONDS)
            prepared = self._statements.get(sql)
            if prepared is None:
                # With a name: one without is parsed and planned again each time.
                name = f"perdure_{next(self._names)}"
                # The driver's own timeout is not for the statements that it lets go of here.
                async with asyncio.timeout(limits.POSTGRES_ANSWER_SECONDS):
                    prepared = await connection.prepare(sql, name=name)
                self._statements[sql] = prepared
                if len(self._statements) > limits.POSTGRES_PREPARED:
                    self._statements.popitem(last=False)
            else:
                self._statements.move_to_end(sql)
            return await prepared.fetch(*values, timeout=limits.POSTGRES_ANSWER_SECONDS)
        except BaseException as error:
            raise self._judged(error) from error

    async def _alone(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Run one statement in a transaction: to prepare it and to run it are two messages, which a pooler would give two connections."""
        await self.begin()
        try:
            found = await self.rows(sql, values)
            await self.commit()
        finally:
            await self.rollback()
        return found

    async def execute(self, sql: str) -> None:
        """Run statements without values."""
        connection = await self.connected()
        try:
            await connection.execute(sql, timeout=limits.POSTGRES_ANSWER_SECONDS)
        except BaseException as error:
            raise self._judged(error) from error

    async def copy(self, table: tuple[str, str], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows to a table, named with its schema, all or none."""
        schema, name = table
        connection = await self.connected()
        try:
            async with connection.transaction():
                await connection.copy_records_to_table(
                    name, schema_name=schema, columns=columns, records=rows, timeout=limits.POSTGRES_STATEMENT_SECONDS
                )
        except BaseException as error:
            raise self._judged(error) from error

    async def begin(self, modes: str = "") -> None:
        """Open a transaction; the server ends it if we do not go on with it in time."""
        settings = {"idle_in_transaction_session_timeout": str(limits.POSTGRES_IDLE_MS)} | (_settings() if self._address.pooler else {})
        await self.execute("; ".join([f"begin {modes}".strip(), *(f"set local {name} = {value}" for name, value in settings.items())]))
        self._transaction = True

    async def commit(self) -> None:
        """End the transaction; Lost means that it may or may not be committed."""
        try:
            await self.execute("commit")
        finally:
            self._transaction = False

    async def rollback(self) -> None:
        """Give up the transaction, if there is one."""
        if self._transaction:
            self._transaction = False
            if self.live:
                await self.execute("rollback")

    def drop(self) -> None:
        """Close the connection at once; whatever is under way on it may still happen."""
        connection, self._connection = self._connection, None
        self._statements.clear()
        self._runs = 0
        self._transaction = False
        if connection is not None and not connection.is_closed():
            connection.terminate()

    def leave(self) -> None:
        """Close the connection at once, and one that is being made as soon as it is: nobody uses this any more."""
        self.drop()
        if self._connecting is not None:
            self._connecting.add_done_callback(_let_go)

    async def close(self) -> None:
        """Close the connection, and one that is being made."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            await asyncio.wait([connecting])
            _let_go(connecting)
        connection, self._connection = self._connection, None
        self._statements.clear()
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=limits.POSTGRES_CONNECT_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
                logger.info("%s: the connection was not closed cleanly: %s", self._address.place, error)
                connection.terminate()

    def _judged(self, error: BaseException) -> BaseException:
        """Say what an error means, and drop a connection that is not to be trusted any more."""
        refused = isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError)
        if refused and self._connection is not None and not self._connection.is_closed():
            assert isinstance(error, asyncpg.PostgresError)
            if failure_of(error) is Failure.ELSEWHERE:
                self.drop()
            return error
        # The driver has no error of its own for a connection that breaks within a statement.
        self.drop()
        if isinstance(error, TimeoutError):
            self._given_up = self._pid
            # It takes connections, and would be chosen again: it may be a primary that no standby follows any more.
            self._server = (self._server + 1) % len(self._address.servers)
        lost = refused or isinstance(
            error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | asyncio.IncompleteReadError
        )
        return Lost(f"{type(error).__name__}: {error}") if lost else error

    async def _connect(self) -> asyncpg.Connection[Any]:
        servers = self._address.servers
        failures: list[str] = []
        lasting: list[StoreError] = []
        for n in range(len(servers)):
            # One by one: the driver's own timeout is for a whole list, and a mute server would use it up.
            number = (self._server + n) % len(servers)
            try:
                connection = await self._connect_to(servers[number])
            except asyncpg.PostgresError as error:
                failures.append(f"{error} (SQLSTATE {error.sqlstate})")
                if (told := self._lasting(error)) is not None:
                    lasting.append(told)
            except ssl.SSLError as error:
                failures.append(f"{type(error).__name__} {error}")
                lasting.append(
                    StoreUnavailable(
                        f"{self._address.place}: no encrypted connection: {error}; check sslmode, sslrootcert and the host's name"
                    )
                )
            except (ValueError, asyncpg.InterfaceError) as error:
                failures.append(str(error))
                lasting.append(UsageError(f"{self._address.place}: {error}"))  # type: ignore[arg-type]
            except FileNotFoundError:  # it does not say which
                failures.append("no such file: the server's socket, or a certificate, that the URL names (sslrootcert, sslcert, sslkey)")
            except (OSError, asyncpg.InternalClientError, asyncio.IncompleteReadError) as error:
                failures.append(f"{type(error).__name__} {error}".strip())
            else:
                if connection is not None:
                    self._server = number
                    return connection
                failures.append("a standby, or read-only")
        raise Unreachable("; ".join(failures), lasting=lasting[0] if len(lasting) == len(failures) else None)

    async def _connect_to(self, server: str) -> asyncpg.Connection[Any] | None:
        # A pooler knows only few settings of a session; it gets ours with each transaction.
        name = {"application_name": f"{self._address.name} {self._address.node}".rstrip()}
        settings = name if self._address.pooler else name | _settings()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            server,
            timeout=limits.POSTGRES_CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings=settings,
            connection_class=Connection,
        )
        try:
            writes = await connection.fetchval(
                "select not pg_is_in_recovery() and not current_setting('default_transaction_read_only')::bool",
                timeout=limits.POSTGRES_CONNECT_SECONDS,
            )
            if writes:
                await self._end_what_was_given_up(connection)
        except BaseException:
            connection.terminate()
            raise
        if not writes:
            connection.terminate()
            return None
        return connection

    async def _end_what_was_given_up(self, connection: asyncpg.Connection[Any]) -> None:
        if self._given_up is None or self._address.pooler:
            return
        try:
            await connection.execute(END, self._given_up, timeout=limits.POSTGRES_CONNECT_SECONDS)
        except asyncpg.PostgresError as error:
            logger.info("%s: a connection that was given up may go on for a while: %s", self._address.place, error)
        self._given_up = None

    def _lasting(self, error: asyncpg.PostgresError) -> StoreError | None:
        place, code = self._address.place, error.sqlstate or ""
        if code == "3D000":
            return StoreNotFound(f"{place}: {error}; create it: createdb, or CREATE DATABASE")
        if code.startswith("28"):
            return StoreUnavailable(f"{place}: {error}; check user and password of the URL, and the server's pg_hba.conf")
        if code in {"42704", "08P01"}:
            return StoreUnavailable(f"{place}: {error}; behind a pooler, add pooler=transaction to the URL")
        return None


def _let_go(connecting: asyncio.Task[asyncpg.Connection[Any]]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()
