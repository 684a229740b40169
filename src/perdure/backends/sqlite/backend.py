"""The writer's five calls on one SQLite connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import apsw

from perdure import limits
from perdure.backends.cache import Entry, RowCache
from perdure.backends.sqlite import writers
from perdure.backends.sqlite.checkpoints import Checkpoints
from perdure.backends.sqlite.connection import ERRORS, Failure, failure_of, insist, transaction
from perdure.backends.sqlite.file import SqliteFile
from perdure.backends.sqlite.statements import Statements, Values, astuple
from perdure.core.backend import Batch, BatchConflict, BatchRefused, CommitUnknown, Found, ScanPage, Wanted, WriterFenced, WriterRow
from perdure.core.table import Key, Scalar, Scan
from perdure.errors import StoreCorrupt

logger = logging.getLogger("perdure.sqlite")
Placement = Literal["inline", "thread"]
_BEGIN: Final = "BEGIN IMMEDIATE"


class SqliteBackend:
    """See `perdure.core.backend.Backend`.

    Batches exclude one another, here and in other processes: the lock is taken before the first read. So a plain
    prefetch is as good as a locked one, rows that were read need no second look, and the checks by version are a net
    under the rows in memory.

    Args:
        file: the open database.
        node: the name of this writer, one per open store.
        placement: `inline` runs statements on the loop's thread and only COMMIT elsewhere; `thread` runs all elsewhere.

    Source: architecture.md, "Backends".
    """

    def __init__(self, file: SqliteFile, node: str, *, placement: Placement = "inline") -> None:
        self._file = file
        self._node = node
        self._commit_seconds = limits.SQLITE_QUICK_COMMIT
        self._inline = file.memory or placement == "inline"
        self._statements = Statements()
        self._cache = RowCache()
        self._checkpoints = Checkpoints(file)
        self._row: WriterRow | None = None
        self._unsettled = False
        self._open = False
        self._data_version = -1
        self._last_tick = 0
        self._now = 0
        self._on_change: Callable[[], None] = lambda: None
        self._poll: asyncio.TimerHandle | None = None

    # --- the five calls --------------------------------------------------------------------------

    async def fence(self) -> WriterRow:
        """Open a new incarnation; the first time, fold the writers that were not seen for long."""
        file = self._file
        await self.abandon()
        file.check()
        await self._checkpoints.finished()
        self._now = max(self._now, file.clock.now())

        def work() -> WriterRow:
            with transaction(file.writing):
                file.check_known()
                if self._row is None:
                    writers.fold_unseen(file.writing, self._now)
                return writers.fence(file.writing, self._node, self._now)

        try:
            self._row = await file.off_loop(partial(insist, file.randomness, work))
        except ERRORS as error:
            raise file.judged(error) from error
        return self._row

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        """Read, within the open batch or a new one; `locked` changes nothing."""
        del locked
        try:
            if not self._open:
                await self._begin()
            if self._inline:
                return self._read(wanted)
            return await self._file.off_loop(partial(self._read, wanted))
        except ERRORS as error:
            raise self._refusal(error) from error

    def read_now(self, wanted: Wanted) -> Found:
        """Read what a decision discovers, within the open batch; it is our thread's turn, wherever the rest runs."""
        try:
            return self._read(wanted)
        except ERRORS as error:
            raise self._refusal(error) from error

    async def apply(self, batch: Batch) -> None:
        """Write and commit."""
        assert self._open, "a batch is opened by its prefetch"
        assert self._row is not None, "a writer is fenced before its first batch"
        self._file.check()
        row = WriterRow(self._row.node, self._row.incarnation, batch.number)
        try:
            if self._inline:
                self._write(batch, row)
                await self._commit_timed(few=len(batch.changes) <= limits.SQLITE_ALONE_ROWS)
            else:
                await self._file.off_loop(partial(self._write_and_commit, batch, row))
        except ERRORS as error:
            raise self._unknown_or_refusal(error) from error
        except (BatchConflict, WriterFenced):
            self._cache.clear()
            await self.abandon()
            raise
        except asyncio.CancelledError:
            self._unsettled = True
            raise
        self._open = False
        self._row = row
        self._last_tick = batch.last_tick
        self._remember(batch)
        self._checkpoints.committed()

    async def abandon(self) -> None:
        """Give up the open batch, if there is one."""
        if self._open:
            self._open = False
            if self._file.usable and self._file.writing.in_transaction:
                try:
                    self._file.writing.execute("ROLLBACK")
                except ERRORS as error:
                    raise self._file.judged(error) from error

    async def close(self) -> None:
        """Fold this writer's row, unless it has to tell what became of the last batch, copy the WAL, and close; a poisoned store is only closed."""
        self.watch(0, self._on_change)
        try:
            await self.abandon()
            await self._checkpoints.close()
            if self._file.usable:
                await self._file.off_loop(self._finish)
        except ERRORS as error:
            raise self._file.judged(error) from error
        finally:
            await self._file.close()
            self._on_change()  # whoever waits for a commit would wait for ever

    # --- other processes ---------------------------------------------------------------------------

    def watch(self, listeners: int, on_change: Callable[[], None]) -> None:
        """Look for other processes' commits while somebody listens."""
        self._on_change = on_change
        if self._poll is not None and not listeners:
            self._poll.cancel()
            self._poll = None
        elif self._poll is None and listeners and self._file.usable and not self._file.memory:
            self._poll = asyncio.get_running_loop().call_later(limits.SQLITE_POLL_MS / 1000, self._look)

    def _look(self) -> None:
        # The writing connection does not count its own commits; while a batch is open, its begin has looked.
        if self._file.usable and not self._file.under_way and not self._open:
            try:
                self._catch_up()
            except apsw.BusyError:
                logger.debug("busy; the next look is soon")
            except ERRORS as error:
                logger.warning("look: %s", self._file.judged(error))
        if self._file.usable:
            self._poll = asyncio.get_running_loop().call_later(limits.SQLITE_POLL_MS / 1000, self._look)
        else:
            self._poll = None
            self._on_change()

    def _catch_up(self) -> None:
        """Drop what is remembered of the file if another process has changed it."""
        version = 0 if self._file.memory else self._file.writing.execute("PRAGMA data_version").get
        if version != self._data_version:
            self._data_version = version
            self._cache.clear()
            self._last_tick = writers.last_tick(self._file.writing)
            self._on_change()

    # --- inside ------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        file = self._file
        file.check()
        await self._checkpoints.finished()
        file.check()
        begin = partial(file.writing.execute, _BEGIN)
        try:
            if self._inline:
                begin()
            else:
                await file.off_loop(partial(insist, file.randomness, begin))
        except apsw.BusyError:
            # Somebody else writes: the loop goes on while we wait.
            await file.off_loop(partial(insist, file.randomness, begin))
        self._open = True
        self._now = max(self._now, file.clock.now())
        self._catch_up()

    def _read(self, wanted: Wanted) -> Found:
        rows: dict[Key[Any], Entry] = {}
        for key in wanted.keys:
            entry = self._cache.get(key) or self._select(key)
            if entry is not None:
                rows[key] = entry
        pages = [(scan, self._page(scan, rows)) for scan in wanted.scans]
        return Found(self._now, self._last_tick, wanted.keys, rows, pages)

    def _select(self, key: Key[Any]) -> Entry | None:
        sql = self._statements[key.table]
        found = self._file.writing.execute(sql.get, key.parts).fetchone()
        if found is None:
            return None
        entry = sql.entry(found)
        if sql.cached:
            self._cache.put(key, entry, sql.weight(entry[1]) if sql.blobs else 0)
        return entry

    def _page(self, scan: Scan[Any], rows: dict[Key[Any], Entry]) -> ScanPage:
        sql = self._statements[scan.index.table]
        # One row more than asked for tells whether the range ends here.
        found = self._file.writing.execute(*sql.scan(scan, scan.limit + 1)).fetchall()
        entries = [sql.keyed(values) for values in found[: scan.limit]]
        rows.update(entries)
        last: tuple[Scalar, ...] = ()
        if entries:
            key, (_, row) = entries[-1]
            last = scan.index.order_of(key.parts, row)
        return ScanPage(tuple(key for key, _ in entries), len(found) <= scan.limit, last, scan.limit)

    def _write(self, batch: Batch, row: WriterRow) -> None:
        connection = self._file.writing
        inserts: dict[str, list[Values]] = {}
        versioned: dict[str, list[Values]] = {}
        for change in batch.changes:
            key, rev, new = change.key, change.rev, change.row
            sql = self._statements[key.table]
            if new is None:
                versioned.setdefault(sql.delete, []).append((*key.parts, rev))
            elif not rev:
                inserts.setdefault(sql.insert, []).append(key.parts + astuple(new))
            else:
                if change.renewed:
                    statement = sql.renew
                elif (
                    sql.indexed is not None
                    and (known := self._cache.get(key)) is not None
                    and known[0] == rev
                    and sql.indexed(known[1]) == sql.indexed(new)
                ):
                    statement = sql.keep
                else:
                    statement = sql.update
                versioned.setdefault(statement, []).append((*astuple(new), *key.parts, rev))
        writers.advance(connection, row, max(self._last_tick, batch.last_tick), self._now)
        before = connection.total_changes()
        for statement, rows in versioned.items():
            connection.executemany(statement, rows)
        if connection.total_changes() - before != sum(map(len, versioned.values())):
            raise BatchConflict("a row is not the one that this batch was decided on")
        for statement, rows in inserts.items():
            connection.executemany(statement, rows)
        if batch.counts:
            writers.add(connection, row.node, batch.counts)

    def _write_and_commit(self, batch: Batch, row: WriterRow) -> None:
        self._write(batch, row)
        self._commit()

    async def _commit_timed(self, *, few: bool) -> None:
        """Commit: a small batch on a quick disk at once, which spares two changes of thread; any other beside the loop."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if few and self._inline and self._commit_seconds < limits.SQLITE_QUICK_COMMIT:
            self._commit()
        else:
            await self._file.off_loop(self._commit)
        self._commit_seconds = loop.time() - begun

    def _commit(self) -> None:
        self._file.writing.execute("COMMIT")

    def _remember(self, batch: Batch) -> None:
        put, statements = self._cache.put, self._statements
        for change in batch.changes:
            key, row = change.key, change.row
            sql = statements[key.table]
            if row is None:
                self._cache.drop(key)
            elif sql.cached:
                put(key, (change.rev + 1, row), sql.weight(row) if sql.blobs else 0)

    def _refusal(self, error: Exception) -> Exception:
        """Nothing was written: say whose fault it is."""
        self._cache.clear()
        failure, told = failure_of(error), self._file.judged(error)
        if failure in {Failure.BUSY, Failure.FULL, Failure.REFUSED}:
            return BatchRefused(told, divisible=failure is Failure.REFUSED)
        return told

    def _unknown_or_refusal(self, error: Exception) -> Exception:
        """Say whether it is certain that nothing was written: the transaction is still open, or had no room."""
        certain = failure_of(error) is Failure.FULL or (self._file.usable and self._file.writing.in_transaction)
        told = self._refusal(error)
        return told if certain and isinstance(told, BatchRefused | StoreCorrupt) else CommitUnknown(str(told))

    def _finish(self) -> None:
        file = self._file
        if file.writing.in_transaction:
            file.writing.execute("ROLLBACK")  # of a writer that was cancelled while it waited for the lock
        try:
            if self._row is not None and not self._unsettled:
                insist(file.randomness, self._fold)
            if not file.memory:
                file.reading.close()
                file.writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                # Nothing is left to copy: SQLite may remove the empty WAL when the last connection closes.
                file.writing.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        except (apsw.BusyError, apsw.FullError) as error:
            # Nothing is lost: the WAL is copied by another process or at the next opening, the row is folded when it is old.
            logger.info("%s: closed without its last checkpoint: %s", file.path, error)

    def _fold(self) -> None:
        with transaction(self._file.writing):
            writers.fold(self._file.writing, self._node)
