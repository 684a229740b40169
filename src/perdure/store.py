"""One store: a database, its writer, and the rooms over it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import unquote, urlsplit

from perdure.backends.postgres import address as postgres
from perdure.backends.postgres.borrowed import borrowed
from perdure.backends.postgres.database import PostgresDatabase
from perdure.backends.postgres.joined import JoinedReader, JoinedWriter
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.blobs.contract import BlobStore
from perdure.blobs.store import Blobs
from perdure.blobs.writes import let_go, refer
from perdure.clock import Clock, SystemClock
from perdure.commands.contract import CommandRegistry
from perdure.commands.push_contract import PushEndpoints
from perdure.commands.push_endpoints import Endpoints
from perdure.commands.queueing import Apart, End
from perdure.commands.registry import Commands
from perdure.conversations.tables import BY_PACKAGE, OVER, PROCESS, ProcessRow
from perdure.core.access import Access
from perdure.core.database import Database, StoreInfo
from perdure.core.signals import Signals
from perdure.core.table import Key
from perdure.core.view import View
from perdure.core.write import Write
from perdure.core.writer import Writer
from perdure.errors import OutcomeUnknown, PinHolder, ProcessEnded, UnknownScheme, UsageError
from perdure.identity import SYSTEM_RANDOMNESS, ProcessIdentity, Randomness
from perdure.messages.writes import mark_addressed
from perdure.operations.contract import OperationStore
from perdure.operations.store import Operations
from perdure.packages.contract import PackageStore
from perdure.packages.store import Packages
from perdure.packages.writes import PinIndex
from perdure.replies import ENGINE, answer_from_elsewhere
from perdure.routing.contract import ProcessRegistry
from perdure.routing.registry import Registry
from perdure.streams.contract import DurableStore
from perdure.streams.store import Streams
from perdure.tables import TABLES
from perdure.tokens.contract import TokenRegistry
from perdure.tokens.registry import Tokens

Connect = Callable[[], Awaitable[Database]]
APART: Final = Apart(refer, let_go)
"""Keeps the blobs that commands refer to, in the commands' own transactions."""


def _holder(key: Key[ProcessRow], row: ProcessRow) -> PinHolder:
    return PinHolder(str(key.parts[0]), str(key.parts[1]), row.process_type, row.status)


PINS: Final = PinIndex(BY_PACKAGE, _holder)
"""Who needs a package: processes that are not over, or can be restarted."""


class Store:
    """An open store. It belongs to the event loop that opened it.

    Attributes:
        access: the writer, reads, signals, clock and randomness, for rooms and for the engine.
        processes: contract 1, which process a key or a tag names.
        commands: contract 2, work for workers elsewhere.
        push: where commands are sent that do not wait for workers.
        operations: contract 3, which requests were done, and their answers.
        packages: contract 5, process code, and which version new processes start on.
        streams: contract 4's append-only streams and values.
        tokens: who may do what over HTTP.
        blobs: large params and results of commands.
        ownership: which processes an engine on this store may work on; for the engine.
        beside: whether a batch is worked on beside this process; for the engine.

    Source: contracts.md, "One store gives all five".
    """

    def __init__(self, access: Access, database: Database) -> None:
        self.access: Final = access
        self.processes: Final[ProcessRegistry] = Registry(access, admit=not_over)
        self.commands: Final[CommandRegistry] = Commands(access, ended=resume, apart=APART)
        self.push: Final[PushEndpoints] = Endpoints(access)
        self.operations: Final[OperationStore] = Operations(access)
        self.packages: Final[PackageStore] = Packages(access, pins=PINS)
        self.streams: Final[DurableStore] = Streams(access)
        self.tokens: Final[TokenRegistry] = Tokens(access)
        self.blobs: Final[BlobStore] = Blobs(access)
        self.ownership: Final = database.ownership
        self.beside: Final = database.beside
        self._database = database

    @property
    def shards(self) -> int:
        """The number of shares that all processes are spread over."""
        return self._database.shards

    async def commit(self, *writes: Write[Any], size: int = 0) -> tuple[Any, ...]:
        """Run writes of any rooms as one transaction and return their results, in order, once it is durable.

        A cancelled `await` does not cancel the transaction.

        Args:
            writes: the decisions.
            size: bytes of payload in them, for the limits of a batch.

        Raises:
            RejectedError: one of them refused; nothing was written.
            TransactionTooLarge, Overloaded, StoreFull, StoreBusy, StoreUnavailable, TransactionRefused: nothing was written.
            OutcomeUnknown: reopen the store and ask `settle`.
            UsageError: called from another event loop.

        Source: contracts.md, "One store gives all five".
        """
        return await self.access.writer.commit(*writes, size=size)

    async def settle(self, error: OutcomeUnknown) -> bool:
        """Return whether the batch of which `error` speaks was committed; for a store that was opened again after it.

        Raises:
            NotFoundError: this store knows nothing of that batch's writer.

        Source: architecture.md, "Unknown outcomes are settled".
        """
        return await self._database.settle(error)

    def announce(self, topic: str) -> None:
        """Wake, soon, whoever listens to a topic on other nodes; a hint."""
        self._database.committed((topic,))

    async def exclusive(self, name: str) -> None:
        """Be the only open store of this database that holds `name`: until `give_back`, `close`, or the end of the process.

        However the process ends: a killed one holds nothing. A file has, for each name, an empty file beside it that is
        locked. In memory there is only this store, and it holds a name once.

        Args:
            name: 1..32 of `a-z`.

        Raises:
            EngineRunning: another open store holds it, or this one does already.
        """
        await self._database.exclusive(name)

    async def give_back(self, name: str) -> None:
        """Let another open store hold `name`; harmless when it is not held."""
        await self._database.give_back(name)

    async def info(self) -> StoreInfo:
        """Return sizes and counts; it looks at every row."""
        return await self._database.info()

    async def integrity(self) -> list[str]:
        """Return what the database itself finds wrong with its files; nothing when it is sound."""
        return await self._database.integrity()

    async def backup(self, target: str | Path) -> None:
        """Copy everything that is committed into a new SQLite file, while the store is in use.

        It is a store like any other, as of one moment.

        Raises:
            UsageError: the file exists.
            StoreError: it could not be read or written; remove what was begun.
        """
        await self._database.backup(Path(target), TABLES)

    @contextmanager
    def leaving_after(self, seconds: float) -> Iterator[None]:
        """Wait for a database that does not answer for so long, and no longer: then the store stops, and can only be closed."""
        alarm = asyncio.get_running_loop().call_later(seconds, self._database.leave)
        try:
            yield
        finally:
            alarm.cancel()
            if not self.access.writer.stopped:
                self._database.stay()

    async def close(self) -> None:
        """Finish what was accepted, then close. Harmless when called again."""
        self._database.leave()
        try:
            await self.access.writer.close()
        finally:
            await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()


class Opening:
    """A store about to be opened: `await` it, or use it as `async with`."""

    def __init__(self, open_it: Callable[[], Awaitable[Store]]) -> None:
        self._open = open_it
        self._store: Store | None = None

    def __await__(self) -> Generator[Any, None, Store]:
        return self._open().__await__()

    async def __aenter__(self) -> Store:
        self._store = await self._open()
        return self._store

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._store is not None, "entered before it is left"
        await self._store.close()


def open_store(url: str, *, clock: Clock | None = None, create: bool = True, randomness: Randomness = SYSTEM_RANDOMNESS) -> Opening:
    """Open a store, creating or migrating its schema.

    For `async with open_store(url) as store`, and for `store = await open_store(url)`.

    Args:
        url: `sqlite:///relative.db`, `sqlite:////absolute/path.db`, `sqlite:///:memory:`, or
            `postgresql://user@host:5432/database?schema=perdure`.
        clock: the store's time; by default the machine's, on PostgreSQL the server's.
        create: whether to make the store if there is none.
        randomness: where the names of writers and new ids come from.

    Raises:
        UnknownScheme: the URL names no backend.
        UsageError: the URL is malformed. Both at once, before anything is opened.
        StoreNotFound: there is no store and `create` is false.
        SchemaTooNew: a newer Perdure has taken away what this one needs.
        MigrationChanged: one of its migrations is not the one that is installed.
        CopyUnfinished: a copy into it is not finished.
        StoreBusy, StoreCorrupt, StoreFull, StoreUnavailable: it cannot be opened; the text says why.

    Source: contracts.md, "One store gives all five".
    """
    connect = connection(url, clock, randomness, create=create)
    return Opening(lambda: _open(connect, randomness))


def connection(url: str, clock: Clock | None, randomness: Randomness, *, create: bool, unfinished: bool = False) -> Connect:
    """Return what connects to the database of a URL; `unfinished`: for a copy into it that goes on."""
    if _scheme(url) in {"postgresql", "postgres"}:
        address = postgres.parse(url)
        return lambda: PostgresDatabase.open(address, clock=clock, randomness=randomness, create=create, unfinished=unfinished)
    path = _sqlite_path(url)
    return lambda: SqliteDatabase.open(path, clock=clock or SystemClock(), randomness=randomness, create=create, unfinished=unfinished)


async def _open(connect: Connect, randomness: Randomness) -> Store:
    database = await connect()
    clock = database.clock
    signals = Signals(clock, on_listeners=lambda count: database.watch(count, signals.publish_all, signals.heard))

    def on_signals(topics: tuple[str, ...]) -> None:
        signals.publish(topics)
        database.committed(topics)

    writer = Writer(database.backend, on_signals=on_signals)
    try:
        await writer.start()
    except BaseException:
        await database.backend.close()
        await database.close()
        raise
    return Store(Access(writer, database.reader, signals, clock, randomness), database)


def join(connection: Any, schema: str, randomness: Randomness) -> tuple[Access, bool]:
    """Return what the rooms work with inside of a transaction of the application's own, and whether its calls never suspend.

    Raises:
        UsageError: this is no connection that can be used, or the name of the schema is none.
    """
    given, clock = borrowed(connection), SystemClock()
    writer = JoinedWriter(given, schema, randomness)
    # For the rooms it is a writer: it decides the same, only that somebody else commits.
    return Access(cast("Writer", writer), JoinedReader(writer), Signals(clock), clock, randomness), given.synchronous


def resume(view: View, end: End) -> None:
    """Tell the turns that wait for a command how it ended, in the transaction that ends it."""
    answer_from_elsewhere(view, end.tenant_id, end.command_id, outcome=end.outcome, response=end.response)


def not_over(view: View, identity: ProcessIdentity) -> None:
    """Refuse an address to a process that is over; for any other, its end will look for addresses."""
    process = view.get(PROCESS.key(identity.tenant_id, identity.process_id))
    if process is not None and process.status in OVER:
        raise ProcessEnded(f"process {identity.process_id} is {process.status}; no key or tag can lead to it any more")
    mark_addressed(view, identity.tenant_id, identity.process_id)
    view.signal(ENGINE)  # messages may wait for it


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower() if ":" in url else ""


def _sqlite_path(url: str) -> str:
    """Return the path of a `sqlite:` URL."""
    if (scheme := _scheme(url)) != "sqlite":
        # The URL itself may have a password in it.
        raise UnknownScheme(
            f"expected sqlite:///file.db, sqlite:////absolute/file.db, sqlite:///:memory: or postgresql://user@host/database, "
            f"found {f'scheme {scheme!r}' if scheme else 'no scheme'}"
        )
    parts = urlsplit(url)
    if parts.netloc or not url.startswith("sqlite:///"):
        raise UsageError(f"{url!r}: expected three slashes before a relative path, four before an absolute one")
    if parts.query or parts.fragment:
        raise UsageError(
            f"{url!r}: a sqlite URL takes no parameters, found {parts.query or parts.fragment!r}; write %3F for '?' and %23 for '#'"
        )
    path = unquote(parts.path[1:])
    if not path or "\0" in path:
        raise UsageError(f"{url!r}: expected the path of a file after the third slash")
    return path
