"""One SQLite database as this process uses it: its two connections, its thread, and whether it may still be used."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self, TypeVar

import apsw

from perdure import limits
from perdure.backends.marks import check_finished
from perdure.backends.migrations import last_known
from perdure.backends.sqlite.connection import ERRORS, MEMORY, Failure, connect, failure_of, insist, translated, translating
from perdure.backends.sqlite.migrations import check_known, known_migrations, make, migrate, missing, tables
from perdure.backends.sqlite.presence import Presence
from perdure.clock import Clock
from perdure.errors import StoreCorrupt, StoreError, StoreNotFound, StoreUnavailable, UsageError
from perdure.identity import Randomness

_QUICK: Final = 0.000_5
logger = logging.getLogger("perdure.sqlite")
R = TypeVar("R")

FORMAT: Final = 1
_DOUBTFUL: Final = frozenset({Failure.BROKEN, Failure.CORRUPT})


class _Switching:
    """Lets threads hand over the interpreter every 0.5 ms, instead of 5, while a store is open.

    Each statement gives up the interpreter and takes it back. Beside one thread that computes, as a plain function in a
    step does, a batch of 256 took some 300 ms with Python's default, and 40 ms so.
    """

    def __init__(self) -> None:
        self._stores = 0
        self._before = 0.0
        self._lock = threading.Lock()  # stores may be opened on several loops

    def quicker(self) -> None:
        with self._lock:
            if not self._stores:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(_QUICK, self._before))
            self._stores += 1

    def as_before(self) -> None:
        with self._lock:
            self._stores -= 1
            if not self._stores:
                sys.setswitchinterval(self._before)


_switching = _Switching()


class SqliteFile:
    """What writer and reader share.

    One connection writes and one reads; in memory they are the same. The thread is for what may take long: COMMIT,
    checkpoints, and waiting for another process's lock.
    """

    def __init__(self, path: str, clock: Clock, randomness: Randomness, *, vfs: str = "") -> None:
        self.path = path
        self.memory = path == MEMORY
        self.clock = clock
        self.randomness = randomness
        self.vfs = vfs
        self.shards = 0
        self.migrations = known_migrations()
        self.knows = last_known(self.migrations)
        self._presence = Presence(path, self.knows)
        self.under_way = 0  # calls in the thread
        self.writing: apsw.Connection
        self.reading: apsw.Connection
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="perdure-sqlite")
        self._why_not: str | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: str, clock: Clock, randomness: Randomness, *, create: bool, unfinished: bool = False, vfs: str = "") -> Self:
        """Open the database, after a crash or an I/O error too, and bring its schema up to date; `unfinished`: for a copy that goes on.

        Raises:
            StoreNotFound: there is no store and `create` is false.
            CopyUnfinished: a copy into the file is not finished.
            StoreBusy: another process holds the lock.
            StoreCorrupt: the file is another program's, no database, or damaged.
            SchemaTooNew, MigrationChanged: see `migrate`.
            StoreFull, StoreUnavailable: the file cannot be opened or written.
        """
        file = cls(path, clock, randomness, vfs=vfs)
        try:
            await file.off_loop(lambda: file._open(create=create, unfinished=unfinished))
        except BaseException:
            file._thread.shutdown()
            raise
        _switching.quicker()
        return file

    def check(self) -> None:
        """Raise StoreUnavailable if the store is closed or poisoned, UsageError on another event loop."""
        if self._why_not is not None:
            raise StoreUnavailable(self._why_not)
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("a store belongs to the event loop that opened it; open another one here")

    @property
    def usable(self) -> bool:
        """Neither closed nor poisoned."""
        return self._why_not is None

    async def off_loop(self, call: Callable[[], R]) -> R:
        """Run `call` in the store's thread, behind what was given to it before; in memory at once."""
        if self.memory:
            return call()
        self.under_way += 1
        try:
            return await self._loop.run_in_executor(self._thread, call)
        finally:
            self.under_way -= 1

    async def aside(self, work: Callable[[apsw.Connection], R]) -> R:
        """Run `work` on a connection of its own in a thread of its own, patiently; in memory at once on the only one.

        Raises:
            StoreError: what SQLite raised, translated.
        """
        self.check()
        try:
            return work(self.writing) if self.memory else await asyncio.to_thread(self._aside, work)
        except ERRORS as error:
            raise self.judged(error) from error

    def judged(self, error: Exception) -> StoreError:
        """Translate what a statement raised. An error that leaves doubt about file or disk poisons the store.

        SQLite itself would go on after a failed sync, as if nothing had happened. A poisoned store refuses everything; its
        connections are closed, which gives back their locks; the WAL stays for the next opening.
        """
        if failure_of(error) in _DOUBTFUL and self._why_not is None:
            self._why_not = f"{self.path}: stopped by {type(error).__name__} ({error}); open the store again"
            logger.error("%s", self._why_not)
            self._thread.submit(self._close_connections)
        return translated(error, self.path)

    async def close(self) -> None:
        """Close what is open. Harmless when called again."""
        if self._why_not is None:
            self._why_not = f"{self.path}: the store is closed; open it again"
            await self.off_loop(self._close_connections)
        if not self._closed:
            self._closed = True
            self._thread.shutdown()
            _switching.as_before()

    # --- in the thread ---------------------------------------------------------------------------

    def _open(self, *, create: bool, unfinished: bool) -> None:
        self.writing = connect(self.path, self.randomness, create=create, vfs=self.vfs)
        try:
            with translating(self.path):
                self._prepare(create=create, unfinished=unfinished)
            self.reading = self.writing if self.memory else connect(self.path, self.randomness, create=False, vfs=self.vfs)
        except BaseException:
            self.writing.close(force=True)
            self._presence.give_up()
            raise

    def _prepare(self, *, create: bool, unfinished: bool) -> None:
        connection, migrations = self.writing, self.migrations
        # First of all, and without a change to the file: is it one of ours?
        lacking = insist(self.randomness, lambda: missing(connection, migrations))
        if not unfinished:
            check_finished(self.path, insist(self.randomness, lambda: tables(connection)))
        if len(lacking) == len(migrations) and not create:
            raise StoreNotFound(
                f"{self.path}: the file is empty; check the URL; a store is made by `perdure serve`, `perdure deploy --create`, and open_store with create=True"
            )
        if not self.memory:
            mode = insist(self.randomness, lambda: connection.pragma("journal_mode", "wal"))
            if mode != "wal":
                raise StoreUnavailable(f"{self.path}: a write-ahead log is not possible there; choose a local disk")
            self._empty_wal()
        self._presence.hold(self.randomness)
        (make if self.memory else migrate)(connection, migrations, self.clock, self.randomness)
        row = insist(self.randomness, lambda: connection.execute("SELECT format, shards FROM store").get)
        found, self.shards = row or (None, 0)
        if found != FORMAT:
            raise StoreCorrupt(f"{self.path}: expected format {FORMAT}, found {found}; restore it from a backup")

    def _empty_wal(self) -> None:
        """Copy the whole WAL into the file and truncate it, before anything in it is believed.

        After a failed sync of the WAL, SQLite reports a rollback, but what it wrote is still in the file cache, and a
        crash of the last process on the file brings it back: into memory, perhaps not onto the disk. Copied and
        synced, it is a commit like any other.

        While another store is open on the file this need not be whole: what is in the WAL was read by a store that
        did it at its own opening, and was synced by whoever wrote it since; what a failed sync left behind is not
        part of it, and is overwritten by the next commit, which is this writer's `fence`.
        """
        try:
            insist(self.randomness, lambda: self.writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE), limits.SQLITE_OPEN_MS)
        except apsw.BusyError:
            logger.info("%s: another process reads; its WAL is not copied at opening", self.path)

    def _close_connections(self) -> None:
        for connection in (self.reading, self.writing):
            connection.close(force=True)
        self._presence.give_up()

    def check_known(self, *, every: bool = False) -> None:
        """Raise SchemaTooNew when the file is not for this release any more; within a transaction of the writing connection."""
        check_known(self.writing, self.knows, every=every)

    def _aside(self, work: Callable[[apsw.Connection], R]) -> R:
        connection = connect(self.path, self.randomness, create=False, vfs=self.vfs)
        try:
            return insist(self.randomness, lambda: work(connection))
        finally:
            connection.close(force=True)
