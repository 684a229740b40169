"""The writer's five calls on one PostgreSQL connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from perdure import limits
from perdure.backends.cache import Entry, RowCache
from perdure.backends.postgres.connection import Failure, Lost, Session, Unreachable, failure_of, translated
from perdure.backends.postgres.statements import Statements, by_shape, by_table, first_version
from perdure.backends.postgres.writers import Fenced, Writers
from perdure.clock import Clock, Micros, ServerClock, boottime
from perdure.core.backend import (
    Batch,
    BatchConflict,
    BatchRefused,
    CommitUnknown,
    Found,
    ScanPage,
    Ticks,
    Wanted,
    WriterFenced,
    WriterRow,
)
from perdure.core.table import Key, Scalar, Scan
from perdure.errors import StoreUnavailable, StoreWentBack, TransactionRefused, UsageError
from perdure.identity import Randomness

logger = logging.getLogger("perdure.postgres")
_PASSING: Final = frozenset({Failure.BUSY, Failure.CONFLICT, Failure.ELSEWHERE, Failure.FULL})
_LOG_EVERY: Final = 10  # tries between two lines about a server that does not answer


class _Read(NamedTuple):
    """What a batch has read."""

    rows: dict[Key[Any], Entry]
    pages: list[tuple[Scan[Any], ScanPage]]


class PostgresBackend:
    """See `perdure.core.backend.Backend`.

    A batch is one statement that reads and one that writes, and neither holds a lock while decisions are made: what was
    read is compared, by version, when it is written. Rows are kept in memory between batches on the same terms: one that
    another node has changed since makes the batch a conflict, and it is read and decided again.

    Args:
        session: the connection.
        statements: of this store.
        node: the name of this writer, one per open store.
        clock: the store's time.
        place: of the store, for people.
        knows: the last migration of this installation.

    Source: architecture.md, "Backends".
    """

    def __init__(
        self, session: Session, statements: Statements, *, node: str, clock: Clock, place: str, knows: int, randomness: Randomness
    ) -> None:
        self._randomness = randomness
        self._session = session
        self._statements = statements
        self._writers = Writers(statements.schema, place=place, knows=knows)
        self._node = node
        self._clock = clock
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._cache = RowCache()
        self._row: WriterRow | None = None
        self._slot = 0
        self._last_tick = 0
        self._open = False
        self._locked = False
        self._asked = False
        self._now: Micros = 0
        self._read_keys: set[Key[Any]] = set()
        self._why_not: str | None = None
        self._leaving = False
        self.on_renewed: Callable[[Micros], None] = lambda _asked_at: None
        self.on_overtaken: Callable[[], None] = lambda: None
        self.on_fenced: Callable[[], None] = lambda: None
        self._fences = 0
        self._unsettled = False
        self._made = 0

    # --- the five calls --------------------------------------------------------------------------

    async def fence(self) -> WriterRow:
        """Open a new incarnation; the first time, fold the writers that were not seen for long."""
        self._check()
        self._end()
        if self._fences:  # what is under way on the old connection is waited for, and nothing of it may come behind us
            self._session.drop()
        self._cache.clear()
        before, asked_at = self._row, boottime()
        first = before is None
        now = None if isinstance(self._clock, ServerClock) else self._clock.now()

        async def work() -> Fenced | None:
            if first:
                await self._writers.fold_unseen(self._session, now)
            self._fences += 1
            return await self._writers.fence(self._session, self._node, now, incarnation=self._fences, first=first)

        try:
            fenced: Fenced | None = await self._insist(work, patient=not first)
        except asyncpg.PostgresError as error:
            raise translated(error, self._place) from error
        if fenced is None:
            raise StoreWentBack(f"{self._place}: writer {self._node} has no row any more; find out which server answers")
        self._session.wrote()
        self._row, self._slot = fenced.row, fenced.slot
        self._fences, self._made = fenced.row.incarnation, self._session.made
        self._unsettled = False
        if fenced.leased:
            self.on_renewed(asked_at)
        elif before is not None:
            self.on_overtaken()  # what was leased, if anything was, is no longer ours
        self._last_tick = max(self._last_tick, fenced.last_tick)
        if isinstance(self._clock, ServerClock):
            self._clock.learn(fenced.now, 0)  # rather late by the way of the answer than early
        self._now = max(self._now, fenced.now if now is None else now)
        self.on_fenced()
        return fenced.row

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        """Read what is not in memory: with one statement, or with locks and then ranges."""
        self._check()
        first = not self._open
        if first:
            self._open, self._locked, self._asked = True, locked, False
            self._read_keys.clear()
            await self._connected()
        read = _Read({}, [])
        missing = wanted.keys if self._locked else self._remembered(wanted.keys, read.rows)
        # What is in memory, and what is read behind something else, need not have been true at one moment.
        certain = first and not read.rows and not self._locked
        self._read_keys.update(missing)
        if missing or wanted.scans:
            await self._ask(Wanted(missing, wanted.scans), read, first=first, lock=locked)
        elif first:
            self._now = max(self._now, self._clock.now())
        return self._found(wanted, read, certain=certain)

    def read_now(self, wanted: Wanted) -> Found | None:
        """Return what is in memory; None for anything that has to be asked for."""
        if self._locked or wanted.scans:
            return None
        read = _Read({}, [])
        return None if self._remembered(wanted.keys, read.rows) else self._found(wanted, read, certain=False)

    async def apply(self, batch: Batch) -> None:
        """Write and commit; without changes, only see that what was read is still so."""
        assert self._open, "a batch is opened by its prefetch"
        assert self._row is not None, "a writer is fenced before its first batch"
        self._check()
        self._still_connected()
        if batch.number == self._row.batch and not (batch.changes or batch.counts):
            await self._check_read(batch)
            return
        asked_at = boottime()
        last_tick = max(self._last_tick, batch.last_tick)
        unchanged = batch.unchanged()
        mark = (batch.number, last_tick, self._now, self._row.node, self._row.incarnation)
        first = first_version(self._randomness)
        sql, values = self._statements.write(batch.changes, unchanged, mark, batch.counts, first=first)
        self._unsettled = True
        try:
            await self._session.rows(sql, values)
            if self._session.in_transaction:
                await self._session.commit()
        except (Lost, Unreachable) as error:
            self._end()
            raise CommitUnknown(str(error)) from error
        except asyncpg.PostgresError as error:
            self._unsettled = False
            raise await self._not_written(error, batch, unchanged) from error
        except asyncio.CancelledError:
            self._session.drop()
            raise
        self._end()
        self._session.wrote()
        self._unsettled = False
        self._row = WriterRow(self._row.node, self._row.incarnation, batch.number)
        self._last_tick = last_tick
        self._remember(batch, first)
        self.on_renewed(asked_at)

    async def abandon(self) -> None:
        """Give up the open batch, if there is one."""
        self._end()
        try:
            await self._session.rollback()
        except (Lost, Unreachable, asyncpg.PostgresError) as error:
            logger.info("%s: %s", self._place, error)
            self._session.drop()

    async def close(self) -> None:
        """Fold this writer's row, unless it has to tell what became of the last batch, and close."""
        if self._why_not is not None:
            return
        await self.abandon()
        try:
            if self._row is not None and not self._unsettled:
                async with asyncio.timeout(limits.POSTGRES_CONNECT_SECONDS):
                    await self._writers.fold(self._session, self._row.node)
        except (Lost, Unreachable, TimeoutError, asyncpg.PostgresError) as error:
            # Nothing is lost: the row is folded by another when it is old.
            logger.info("%s: closed without folding its writer: %s", self._place, error)
        finally:
            self._why_not = f"{self._place}: the store is closed; open it again"
            await self._session.close()

    # --- what the database uses ------------------------------------------------------------------

    @property
    def row(self) -> WriterRow:
        """The writer as it is known to be."""
        assert self._row is not None, "a writer is fenced first"
        return self._row

    def leave(self) -> None:
        """Wait no longer for a server that does not answer: the store closes."""
        self._leaving = True

    def stay(self) -> None:
        """Wait for it again."""
        self._leaving = False

    def forget(self) -> None:
        """Another node has committed something: what is in memory may be old. Only a matter of speed."""
        self._cache.clear()

    # --- inside ----------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._why_not is not None:
            raise StoreUnavailable(self._why_not)
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("a store belongs to the event loop that opened it; open another one here")

    async def _insist(self, work: Callable[[], Any], *, patient: bool = False) -> Any:
        """Repeat `work` while the server does not answer, or `patient`, while it has no time or no room: what was accepted waits."""
        tries = 0
        while True:
            try:
                return await work()
            except (Lost, Unreachable) as error:
                failed: Exception = error
            except asyncpg.PostgresError as error:
                if not patient or failure_of(error) not in _PASSING:
                    raise
                failed = error
            self._session.drop()
            # One that was lost while nobody looked says nothing of the server.
            if self._leaving and (tries or not isinstance(failed, Lost)):
                raise StoreUnavailable(f"{self._place}: the store closes, and no server answers: {failed}") from failed
            if tries % _LOG_EVERY == 0:
                logger.warning("%s: no server that can be written to, trying again: %s", self._place, failed)
            tries += 1
            await asyncio.sleep(min(limits.POSTGRES_RETRY_SECONDS * 2 ** min(tries, 10), limits.POSTGRES_RETRY_MOST_SECONDS))

    async def _connected(self) -> None:
        """See to a connection; what is in memory was read on this very one."""
        if not self._session.live:
            await self._insist(self._session.connected)
        if self._session.made != self._made:
            self._made = self._session.made
            self._cache.clear()

    def _still_connected(self) -> None:
        """Raise BatchConflict when the batch was not read on the connection that is to write it."""
        if not self._session.live or self._session.made != self._made:
            self._end()
            raise BatchConflict("the connection was lost before the batch was written")

    def _remembered(self, keys: Sequence[Key[Any]], rows: dict[Key[Any], Entry]) -> list[Key[Any]]:
        """Put what is in memory into `rows`, and return the keys of the rest."""
        missing = []
        for key in keys:
            entry = self._cache.get(key)
            if entry is None:
                missing.append(key)
            else:
                rows[key] = entry
        return missing

    async def _ask(self, wanted: Wanted, read: _Read, *, first: bool, lock: bool) -> None:
        """Read from the server; lost at the first read of a batch, the connection is made again."""
        try:
            if lock:
                await self._read_locked(wanted, read)
            elif first:
                await self._insist(lambda: self._read(wanted, read))
            else:
                await self._read(wanted, read)
        except (Lost, Unreachable) as error:
            raise BatchConflict(f"the connection was lost while the batch was read: {error}") from error
        except asyncpg.PostgresError as error:
            raise self._refusal(error) from error

    async def _read_locked(self, wanted: Wanted, read: _Read) -> None:
        """Lock the rows in their order, then read ranges in a later statement, which sees what was committed meanwhile."""
        if not self._session.in_transaction:
            await self._insist(self._session.begin)
        if wanted.keys:
            await self._read(Wanted(wanted.keys, ()), read, lock=True)
        if wanted.scans:
            await self._read(Wanted((), wanted.scans), read)

    async def _read(self, wanted: Wanted, read: _Read, *, lock: bool = False) -> None:
        tables, shapes = by_table(wanted.keys), by_shape(wanted.scans)
        sql, values = self._statements.read(tables, shapes, lock=lock)
        began = self._loop.time()
        (found,) = await self._session.rows(sql, values)
        server: Micros = found[-1]
        if isinstance(self._clock, ServerClock):
            self._clock.learn(server, self._loop.time() - began)
        if not self._asked:
            self._asked = True
            self._now = max(self._now, server if isinstance(self._clock, ServerClock) else self._clock.now())
        self._last_tick = max(self._last_tick, found[-2])
        for (table, keys), records in zip(tables.items(), found, strict=False):
            table_sql = self._statements.table(table)
            for record in records:
                key, entry = keys[record[0] - 1], table_sql.entry(record[1:])
                read.rows[key] = entry
                if table_sql.versioned:
                    self._cache.put(key, entry, table_sql.weight(entry[1]))
        for n, same in enumerate(shapes.values(), len(tables)):
            self._pages(same, found[n], read)

    def _pages(self, same: list[Scan[Any]], records: Any, read: _Read) -> None:
        table_sql = self._statements.table(same[0].index.table)
        entries: list[list[tuple[Key[Any], Entry]]] = [[] for _ in same]
        for record in records:
            entries[record[0] - 1].append(table_sql.keyed(record[1:]))
        for scan, found in zip(same, entries, strict=True):
            taken = found[: scan.limit]
            read.rows.update(taken)
            last: tuple[Scalar, ...] = ()
            if taken:
                key, (_, row) = taken[-1]
                last = scan.index.order_of(key.parts, row)
            read.pages.append((scan, ScanPage(tuple(key for key, _ in taken), len(found) <= scan.limit, last, scan.limit)))

    def _found(self, wanted: Wanted, read: _Read, *, certain: bool) -> Found:
        return Found(self._now, self._last_tick, wanted.keys, read.rows, read.pages, Ticks(self._slot, limits.TICK_SLOTS), certain)

    async def _check_read(self, batch: Batch) -> None:
        seen: dict[Any, list[tuple[Key[Any], int]]] = {}
        for key, rev in batch.unchanged():
            seen.setdefault(key.table, []).append((key, rev))
        sql, values = self._statements.check(seen)
        self._end()
        try:
            found = (await self._session.rows(sql, values))[0][0] if seen else 0  # what is locked still is
            await self._session.rollback()
        except (Lost, Unreachable) as error:
            raise BatchConflict(f"the connection was lost: {error}") from error
        except asyncpg.PostgresError as error:
            raise self._refusal(error) from error
        if found != sum(map(len, seen.values())):
            self._drop(key for rows in seen.values() for key, _ in rows)
            raise BatchConflict("a row that the batch was decided on has changed")

    async def _not_written(self, error: asyncpg.PostgresError, batch: Batch, unchanged: Any) -> Exception:
        """Say why a batch was refused; nothing of it is written."""
        self._drop(change.key for change in batch.changes)
        self._drop(key for key, _ in unchanged)
        failure, locked = failure_of(error), self._locked
        looked_for = set(self._read_keys)
        await self.abandon()
        if failure is Failure.FENCED:
            self._cache.clear()
            return WriterFenced()
        if failure is Failure.DUPLICATE:
            # One that was read as absent is a conflict. One that nobody had looked for will be there next time, too.
            inserts = [change.key for change in batch.changes if not change.rev]
            # A partition has a name of its own, which says of no table that it was another one.
            taken = self._statements.taken(error.sqlstate or "")
            named = [key for key in inserts if key.table.name == (taken or error.table_name)] or inserts
            if not locked or any(key in looked_for for key in named):
                return BatchConflict(str(error))
            if taken is not None:
                told = f"{self._place}: a row of {taken} is there already that was to be inserted; nothing of the transaction was written"
                return BatchRefused(TransactionRefused(told), divisible=True)
        return self._refusal(error)

    def _refusal(self, error: asyncpg.PostgresError) -> Exception:
        failure, told = failure_of(error), translated(error, self._place)
        if failure in {Failure.CONFLICT, Failure.DUPLICATE, Failure.ELSEWHERE} and not (failure is Failure.DUPLICATE and self._locked):
            return BatchConflict(str(told))
        return BatchRefused(told, divisible=failure in {Failure.REFUSED, Failure.DUPLICATE})

    def _drop(self, keys: Any) -> None:
        for key in keys:
            self._cache.drop(key)

    def _end(self) -> None:
        self._open = False

    def _remember(self, batch: Batch, first: int) -> None:
        put = self._cache.put
        for change in batch.changes:
            key, row = change.key, change.row
            if row is None:
                self._cache.drop(key)
            else:
                table_sql = self._statements.table(key.table)
                if table_sql.versioned:
                    put(key, (change.rev + 1 if change.rev else first, row), table_sql.weight(row))
