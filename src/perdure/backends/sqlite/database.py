"""One open SQLite database: the writer's calls, the reads, and what a store needs besides."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Self

import apsw

from perdure.backends.migrations import not_applied
from perdure.backends.sqlite import writers
from perdure.backends.sqlite.backend import Placement, SqliteBackend
from perdure.backends.sqlite.connection import connect, transaction, translating
from perdure.backends.sqlite.file import SqliteFile
from perdure.backends.sqlite.reader import SqliteReader
from perdure.backends.sqlite.transfer import SqliteTransfer
from perdure.clock import Clock
from perdure.core.database import StoreInfo
from perdure.core.ownership import WholeStore
from perdure.core.table import Table
from perdure.core.transfer import Export
from perdure.errors import EngineRunning, OutcomeUnknown, UsageError
from perdure.identity import Randomness, uuid7

_LOCK_NAME: Final = re.compile(r"[a-z]{1,32}")


class SqliteDatabase:
    """See `perdure.core.database.Database`."""

    def __init__(self, file: SqliteFile, node: str, placement: Placement) -> None:
        self._file = file
        self._locks: dict[str, apsw.Connection | None] = {}
        self.shards = file.shards
        self.clock = file.clock
        self.backend = SqliteBackend(file, node, placement=placement)
        self.reader = SqliteReader(file)
        self.beside = False
        self.ownership = WholeStore(self.exclusive, self.give_back, file.shards)
        self.filling = SqliteTransfer(file)

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        clock: Clock,
        randomness: Randomness,
        create: bool = True,
        unfinished: bool = False,
        vfs: str = "",
        placement: Placement = "inline",
    ) -> Self:
        """Open a file, or `:memory:`; see `SqliteFile.open` for what is raised. `vfs` and `placement` are for tests."""
        file = await SqliteFile.open(path, clock, randomness, create=create, unfinished=unfinished, vfs=vfs)
        return cls(file, uuid7(now=clock.now(), randomness=randomness), placement)

    def watch(
        self, listeners: int, on_change: Callable[[], None], on_topics: Callable[[tuple[str, ...]], None] = lambda _topics: None
    ) -> None:
        """Look for other processes' commits while somebody listens."""
        del on_topics  # a file tells that it has changed, and not what
        self.backend.watch(listeners, on_change)

    def committed(self, topics: tuple[str, ...]) -> None:
        """Do nothing: other processes look at the file."""

    def leave(self) -> None:
        """Do nothing: a file is never waited for beyond `limits.SQLITE_BUSY_MS`."""

    def stay(self) -> None:
        """Do nothing."""

    async def settle(self, error: OutcomeUnknown) -> bool:
        """Return whether that batch was committed."""

        def work(connection: apsw.Connection) -> bool:
            with transaction(connection):
                return writers.settle(connection, error.node, error.batch)

        return await self._file.aside(work)

    async def info(self) -> StoreInfo:
        """Return sizes and counts."""
        return await self._file.aside(self._info)

    async def integrity(self) -> list[str]:
        """Return what SQLite's own check finds; nothing when the file is sound."""

        def work(connection: apsw.Connection) -> list[str]:
            return [str(text) for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]

        return await self._file.aside(work)

    def exporting(self, tables: Sequence[Table[Any]], *, alone: bool) -> AbstractAsyncContextManager[Export]:
        """Look at everything as of one moment."""
        del tables  # the lock is on the whole file
        return self.filling.exporting(alone=alone)

    async def backup(self, target: Path, tables: Sequence[Table[Any]]) -> None:
        """Copy what is committed into a new file, in one piece; writers go on meanwhile."""
        del tables  # a file is copied page by page

        def work(connection: apsw.Connection) -> None:
            if target.exists():
                raise UsageError(f"{target}: exists already; a backup never overwrites, choose another name")
            copy = connect(str(target), self._file.randomness, create=True)
            try:
                with copy.backup("main", connection, "main") as backup:
                    backup.step(-1)  # in steps it would begin anew with every commit, and never end
            except BaseException:
                target.unlink()
                raise
            finally:
                copy.close(force=True)

        await self._file.aside(work)

    async def exclusive(self, name: str) -> None:
        """Hold `name` alone: in memory among ourselves, on disk by SQLite's lock on a file beside it, which ends with the process."""
        assert _LOCK_NAME.fullmatch(name), f"{name!r} is no name of a lock"
        self._file.check()
        if name in self._locks:
            raise EngineRunning(
                f"{self._file.path}: this store holds {name!r} already; one engine at a time runs its processes, close that one first"
            )
        self._locks[name] = None if self._file.memory else self._locked(name)

    async def give_back(self, name: str) -> None:
        """Let another open store hold `name`."""
        lock = self._locks.pop(name, None)
        if lock is not None:
            lock.close(force=True)

    async def close(self) -> None:
        """Give back the locks."""
        for name in list(self._locks):
            await self.give_back(name)

    def _locked(self, name: str) -> apsw.Connection:
        path = f"{self._file.path}-{name}"
        with translating(path):
            lock = apsw.Connection(path)
            try:
                lock.pragma("journal_mode", "memory")
                lock.execute("BEGIN EXCLUSIVE")
            except BaseException as error:
                lock.close(force=True)
                if isinstance(error, apsw.BusyError):
                    raise EngineRunning(
                        f"{self._file.path}: another program, or another open store, holds {name!r}; one engine at a time runs the processes of a store, stop that one first"
                    ) from error
                raise
        return lock

    def _info(self, connection: apsw.Connection) -> StoreInfo:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        applied: Any = connection.execute("SELECT number, name FROM migration ORDER BY number").fetchall()
        pages, size = connection.pragma("page_count"), connection.pragma("page_size")
        wal = Path(f"{self._file.path}-wal")
        return StoreInfo(
            place=self._file.path,
            engine=f"SQLite {apsw.sqlite_lib_version()}",
            format=connection.execute("SELECT format FROM store").get,
            migrations=tuple(f"{n:04}_{name}" for n, name in applied),
            waiting=not_applied(self._file.migrations, [n for n, _ in applied]),
            shards=self.shards,
            writers=connection.execute("SELECT count(*) FROM writer WHERE node <> ''").get,
            data_bytes=pages * size,
            log_bytes=wal.stat().st_size if wal.exists() else 0,
            rows={table: connection.execute(f"SELECT count(*) FROM {table}").get for table in tables},  # noqa: S608  # our own schema's names
        )
