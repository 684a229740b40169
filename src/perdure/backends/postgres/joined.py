"""Writes within a transaction that is the application's own: what it commits, and nothing else, happens."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from perdure import limits
from perdure.backends.marks import check_finished
from perdure.backends.migrations import EXPAND, lacking, last_known, too_new
from perdure.backends.postgres.address import channel_of, checked_schema
from perdure.backends.postgres.borrowed import Borrowed, Refused
from perdure.backends.postgres.connection import Failure, failure_of, translated
from perdure.backends.postgres.migrations import COLUMNS, applied, beyond, columns_in, known_migrations, remembered
from perdure.backends.postgres.statements import LANE, NOW, Statements, by_shape, by_table, first_version
from perdure.backends.postgres.writers import SLOT
from perdure.core.backend import Found, ScanPage, Ticks, Wanted
from perdure.core.table import Key, RowT, Scan, Table
from perdure.core.view import Unread, View
from perdure.core.write import Write
from perdure.errors import StoreBusy, StoreNotFound, UsageError
from perdure.identity import Randomness

_AGAIN: Final = frozenset({Failure.CONFLICT, Failure.DUPLICATE})


class _Lane(NamedTuple):
    """A writer's row that is ours until the application commits."""

    node: str
    incarnation: int
    batch: int
    slot: int


class JoinedWriter:
    """Decides and writes like a writer, in a transaction of somebody else: with locks, and it never commits.

    Each transaction takes a writer's row that no other has just now, so that its ticks are its own, nobody waits for it, and
    other nodes see that something was committed. Whatever is refused is undone to a savepoint: the application's own work stays.
    """

    def __init__(self, connection: Borrowed, schema: str, randomness: Randomness) -> None:
        self._connection = connection
        self._schema = checked_schema(schema)
        self._place = f"schema {schema}"
        self._randomness = randomness
        self._statements: Statements | None = None
        self._busy = False

    async def run(self, write: Write[Any], *, size: int = 0) -> Any:
        """Run one write and return its result."""
        return (await self.commit(write, size=size))[0]

    async def commit(self, *writes: Write[Any], size: int = 0) -> tuple[Any, ...]:
        """Run the writes and return their results; they are committed with the application's transaction.

        Raises:
            RejectedError: one of them refused; nothing of these was written.
            StoreBusy, TransactionRefused, StoreError: nothing of these was written.
            UsageError: there is no transaction, it is not read committed, or two calls at the same time use one connection.
        """
        del size
        if self._busy:
            raise UsageError("one call at a time on a connection: await the one before")
        self._busy = True
        try:
            await self.opened()
            for _ in range(1 + limits.CONFLICT_TRIES):
                await self.rows("savepoint perdure")
                try:
                    results = await self._attempt(writes)
                except Refused as error:
                    await self._undo()
                    if failure_of(error) not in _AGAIN:
                        raise translated(error, self._place) from error
                except BaseException:
                    await self._undo()
                    raise
                else:
                    await self.rows("release savepoint perdure")
                    return results
            raise StoreBusy(f"{self._place}: others changed the same rows at every try; roll back, and repeat later")
        finally:
            self._busy = False

    async def opened(self) -> Statements:
        """Look, the first time, whether there is a store of this version, and whether this transaction will do."""
        if self._statements is None:
            await self._connection.begun()
            ((isolation,),) = await self.rows("select current_setting('transaction_isolation')")
            if isolation != "read committed":
                raise UsageError(f"expected a transaction that is read committed, found {isolation}; what it has seen before may be old")
            types = columns_in(await self.rows(COLUMNS, (self._schema,)))
            if "migration" not in types:
                raise StoreNotFound(f"{self._place}: no store in this schema of this database; check the connection, or open_store first")
            check_finished(self._place, types)
            found = applied(await self.rows(remembered(self._schema, types)))
            if any(migration.phase == EXPAND for migration in lacking(self._place, found, known_migrations())):
                raise UsageError(f"{self._place}: the store is of an older version; open it once with this one, which brings it up to date")
            self._statements = Statements(self._schema, types)
        return self._statements

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        """Run one statement in the transaction."""
        return await self._connection.rows(sql, values)

    async def _undo(self) -> None:
        """Go back to the savepoint, if the connection still works; the cause of it is more important."""
        await self.rows("rollback to savepoint perdure")

    async def _attempt(self, writes: tuple[Write[Any], ...]) -> tuple[Any, ...]:
        statements = await self.opened()
        lane = await self._lane()
        keys: dict[Key[Any], None] = {}
        scans: list[Scan[Any]] = []
        for write in writes:
            for read in write.reads():
                if isinstance(read, Key):
                    keys[read] = None
                else:
                    scans.append(read)
        now, last_tick, found = await self._read(Wanted(list(keys), ()), lane)
        view = View(now=now, last_tick=last_tick, ticks=found.ticks)
        view.load(found)
        if scans:
            view.load((await self._read(Wanted((), scans), lane))[2])
        results = await self._decide(writes, view, lane)
        changes, counts = view.changes(), view.counts()
        if changes or counts:
            mark = (lane.batch + 1, view.last_tick, now, lane.node, lane.incarnation)
            first = first_version(self._randomness)
            await self.rows(*statements.write(changes, view.unchanged(), mark, counts, first=first))
            # Sent by the application's own commit; other nodes look from time to time, too.
            notice = "\n".join([lane.node, *view.signals()])
            await self.rows("select pg_notify($1::text, $2::text)", (channel_of(self._schema), notice))
        return results

    async def _decide(self, writes: tuple[Write[Any], ...], view: View, lane: _Lane) -> tuple[Any, ...]:
        for _ in range(limits.DISCOVERY_ROUNDS_MAX):
            view.begin()
            try:
                results = tuple([write.decide(view) for write in writes])
                view.end()
            except Unread as unread:
                view.rollback()
                what = unread.what
                wanted = Wanted((what,), ()) if isinstance(what, Key) else Wanted((), (what,))
                view.load((await self._read(wanted, lane))[2])
            else:
                return results
        raise AssertionError("a decision reads without end")

    async def _lane(self) -> _Lane:
        """Take a writer's row that no transaction has, or make one; and let the server end us if we keep it for long."""
        schema, knows = self._schema, last_known(known_migrations())
        # In each transaction: a store may have been narrowed since the one before.
        for number, name in await self.rows(beyond(schema), (knows,)):
            raise too_new(self._place, number, name, knows)
        await self.rows(
            "select set_config(name, $1::text, true) from pg_settings where name = 'idle_in_transaction_session_timeout' "
            "and (setting::bigint = 0 or setting::bigint > $1::text::bigint)",
            (str(limits.POSTGRES_IDLE_MS),),
        )
        found = await self.rows(
            f"select node, incarnation, batch, slot from {schema}.writer where node like '{LANE}%' and lane = 0 limit 1 for update skip locked"
        )
        if not found:
            found = await self.rows(
                f"insert into {schema}.writer (node, lane, incarnation, batch, last_tick, seen_at, slot) "
                f"select $1::text, 0, 1, 0, 0, {NOW}, {SLOT.format(schema=schema, slots=limits.TICK_SLOTS)} returning node, incarnation, batch, slot",
                (LANE + self._randomness(16).hex(),),
            )
        return _Lane(*found[0])

    async def _read(self, wanted: Wanted, lane: _Lane) -> tuple[int, int, Found]:
        """Lock rows in their order, or read ranges: a later statement sees what was committed while an earlier one waited."""
        statements = await self.opened()
        tables, shapes = by_table(wanted.keys), by_shape(wanted.scans)
        sql, values = statements.read(tables, shapes, lock=True)
        ((*parts, last_tick, now),) = await self.rows(sql, values)
        rows: dict[Key[Any], Any] = {}
        for (table, keys), records in zip(tables.items(), parts, strict=False):
            for number, *record in records:
                rows[keys[number - 1]] = statements.table(table).entry(tuple(record))
        pages: list[tuple[Scan[Any], ScanPage]] = []
        for same, records in zip(shapes.values(), parts[len(tables) :], strict=True):
            keyed = [(number, statements.table(same[0].index.table).keyed(tuple(record))) for number, *record in records]
            for n, scan in enumerate(same, 1):
                inside = [entry for number, entry in keyed if number == n]
                taken = inside[: scan.limit]
                rows.update(taken)
                last = scan.index.order_of(taken[-1][0].parts, taken[-1][1][1]) if taken else ()
                pages.append((scan, ScanPage(tuple(key for key, _ in taken), len(inside) <= scan.limit, last, scan.limit)))
        return now, last_tick, Found(now, last_tick, wanted.keys, rows, pages, Ticks(lane.slot, limits.TICK_SLOTS), certain=False)


class JoinedReader:
    """Reads in the application's transaction: what it has written itself is seen. See `perdure.core.backend.Reader`."""

    def __init__(self, writer: JoinedWriter) -> None:
        self._writer = writer

    async def get(self, key: Key[RowT]) -> RowT | None:
        """Return the row or None."""
        statements = await self._writer.opened()
        found = await self._rows(statements.get(key.table), key.parts)
        return cast("RowT", statements.table(key.table).entry(found[0])[1]) if found else None

    async def get_all(self, keys: Sequence[Key[RowT]]) -> list[RowT | None]:
        """Return the rows, or None for each that is not there."""
        return [await self.get(key) for key in keys]

    async def scan(self, scan: Scan[RowT]) -> list[tuple[Key[RowT], RowT]]:
        """Return the rows in index order."""
        statements = await self._writer.opened()
        keyed: Any = statements.table(scan.index.table).keyed
        return [(key, row) for key, (_, row) in map(keyed, await self._rows(*statements.scan(scan)))]

    async def counter(self, name: str) -> int:
        """Return an exact counter: the sum over all writers."""
        statements = await self._writer.opened()
        found = await self._rows(f"select coalesce(sum(value), 0)::bigint from {statements.schema}.counter where name = $1::text", (name,))
        return int(found[0][0])

    async def count(self, table: Table[Any]) -> int:
        """Return the number of rows, by looking at all of them."""
        statements = await self._writer.opened()
        return int((await self._rows(f"select count(*) from {statements.table(table).name}"))[0][0])

    async def _rows(self, sql: str, values: Sequence[Any] = ()) -> Sequence[tuple[Any, ...]]:
        try:
            return await self._writer.rows(sql, values)
        except Refused as error:
            raise translated(error, "the application's transaction") from error
