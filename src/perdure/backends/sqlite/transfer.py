"""All of a SQLite store, read as of one moment, or written into an empty one."""
# ruff: noqa: S608  # names come from the rooms' own declarations, values are always bound

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw

from perdure import limits
from perdure.backends.marks import MARK, in_use
from perdure.backends.sqlite.connection import ERRORS, insist, transaction
from perdure.backends.sqlite.file import SqliteFile
from perdure.core.table import Table
from perdure.core.transfer import Contents, Values, check_mark, size_of, stored_columns

R = TypeVar("R")


class SqliteTransfer:
    """See `perdure.core.transfer.Export` and `Import`; on the writing connection, which nobody else uses meanwhile."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._place = file.path if file.memory else str(Path(file.path).absolute())
        self._uncopied = 0

    @asynccontextmanager
    async def exporting(self, *, alone: bool) -> AsyncIterator[SqliteTransfer]:
        """Keep a transaction open, `alone` with the lock for writing."""
        file = self._file
        await self._run(lambda connection: insist(file.randomness, partial(connection.execute, "BEGIN IMMEDIATE" if alone else "BEGIN")))
        try:
            await self._run(lambda _connection: file.check_known(every=True))  # what a later release has added would be left behind
            yield self
        finally:
            if file.usable and file.writing.in_transaction:
                await self._run(lambda connection: connection.execute("ROLLBACK"))

    async def contents(self) -> Contents:
        """Return what there is besides rows."""

        def work(connection: apsw.Connection) -> Contents:
            format_, shards = connection.execute("SELECT format, shards FROM store").get
            summed: Any = connection.execute("SELECT name, sum(value) FROM counter GROUP BY name ORDER BY name").fetchall()
            last_tick = connection.execute("SELECT max(last_tick) FROM writer").get
            return Contents(self._place, format_, shards, last_tick, dict(summed))

        return await self._run(work)

    async def rows(self, table: Table[Any], after: Values | None) -> list[Values]:
        """Return the first rows behind a key."""
        keys = ", ".join(table.key_columns)
        where = "" if after is None else f" WHERE ({keys}) > ({', '.join('?' * len(after))})"
        sql = f"SELECT {', '.join(stored_columns(table))} FROM {table.name}{where} ORDER BY {keys} LIMIT {limits.COPY_ROWS}"

        def work(connection: apsw.Connection) -> list[Values]:
            found, size = [], 0
            for row in connection.execute(sql, after or ()):
                found.append(row)
                size += size_of(row)
                if size >= limits.COPY_BYTES:
                    break
            return found

        return await self._run(work)

    async def begin(self, source: Contents, tables: Sequence[Table[Any]]) -> bool:
        """Mark the file, or find the mark, or rows without it."""

        def work(connection: apsw.Connection) -> bool:
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (MARK,)).get:
                check_mark(connection.execute(f"SELECT source, last_tick FROM {MARK}").get, source)
                return True
            if connection.execute("SELECT 1 FROM writer WHERE node <> ''").get:
                raise in_use(self._place)
            for name in ("counter", *(table.name for table in tables)):
                if connection.execute(f"SELECT 1 FROM {name} LIMIT 1").get:
                    return False
            connection.execute(f"CREATE TABLE {MARK} (source TEXT NOT NULL, last_tick INTEGER NOT NULL) STRICT")
            connection.execute(f"INSERT INTO {MARK} VALUES (?, ?)", (source.place, source.last_tick))
            connection.execute("UPDATE store SET format = ?, shards = ?", (source.format, source.shards))
            return True

        return await self._write(work)

    async def last(self, table: Table[Any]) -> Values | None:
        """Return the greatest key."""
        order = ", ".join(f"{column} DESC" for column in table.key_columns)
        sql = f"SELECT {', '.join(table.key_columns)} FROM {table.name} ORDER BY {order} LIMIT 1"
        return await self._run(lambda connection: connection.execute(sql).fetchone())

    async def add(self, table: Table[Any], rows: Sequence[Values]) -> None:
        """Write rows in one transaction."""
        columns = stored_columns(table)
        sql = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"

        def work(connection: apsw.Connection) -> None:
            connection.executemany(sql, rows)

        await self._write(work)
        self._uncopied += sum(map(size_of, rows))
        if self._uncopied > limits.COPY_CHECKPOINT_BYTES:  # or the WAL grows as large as the store
            self._uncopied = 0
            await self._run(lambda connection: connection.wal_checkpoint())

    async def finish(self, source: Contents) -> None:
        """Take over counters and ticks, and remove the mark."""

        def work(connection: apsw.Connection) -> None:
            connection.executemany("INSERT INTO counter (name, node, value) VALUES (?, '', ?)", source.counters.items())
            connection.execute("UPDATE writer SET last_tick = max(last_tick, ?) WHERE node = ''", (source.last_tick,))
            connection.execute(f"DROP TABLE {MARK}")

        await self._write(work)

    async def _write(self, work: Callable[[apsw.Connection], R]) -> R:
        def whole(connection: apsw.Connection) -> R:
            def once() -> R:
                with transaction(connection):
                    return work(connection)

            return insist(self._file.randomness, once)

        return await self._run(whole)

    async def _run(self, work: Callable[[apsw.Connection], R]) -> R:
        file = self._file
        file.check()
        try:
            return await file.off_loop(lambda: work(file.writing))
        except ERRORS as error:
            raise file.judged(error) from error
