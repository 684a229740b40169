"""A backend of dictionaries, for tests of the core: optimistic, many nodes on one database, and it fails where it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from perdure.clock import Clock, VirtualClock
from perdure.core.backend import Batch, BatchConflict, BatchRefused, Found, ScanPage, Ticks, Wanted, WriterFenced, WriterRow
from perdure.core.table import Key, Scan, Table
from perdure.errors import TransactionRefused


class MemoryDatabase:
    def __init__(self) -> None:
        self.rows: dict[Key[Any], tuple[int, Any]] = {}
        self.writers: dict[str, WriterRow] = {}
        self.counters: Counter[str] = Counter()
        self.last_tick = 0


class MemoryBackend:
    """`before` and `after` are called with the name of each call, and may raise."""

    def __init__(
        self, database: MemoryDatabase | None = None, *, node: str = "n1", clock: Clock | None = None, at_once: bool = False
    ) -> None:
        self.database = database or MemoryDatabase()
        self.clock = clock or VirtualClock()
        self.node = node
        self.at_once = at_once
        self.incarnation = 0
        self.ticks = Ticks()
        self.before: Callable[[str], None] = lambda _call: None
        self.after: Callable[[str], None] = lambda _call: None
        self.refuse: Callable[[Key[Any]], bool] = lambda _key: False
        self.calls: Counter[str] = Counter()

    async def fence(self) -> WriterRow:
        self._begin("fence")
        old = self.database.writers.get(self.node, WriterRow(self.node, 0, 0))
        row = self.database.writers[self.node] = WriterRow(self.node, old.incarnation + 1, old.batch)
        self.incarnation = row.incarnation
        self.after("fence")
        return row

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        del locked
        self._begin("prefetch")
        found = self._found(wanted)
        self.after("prefetch")
        return found

    def _found(self, wanted: Wanted) -> Found:
        rows = {key: found for key in wanted.keys if (found := self.database.rows.get(key)) is not None}
        pages = []
        for scan in wanted.scans:
            page = self._page(scan)
            rows |= {key: self.database.rows[key] for key in page.keys}
            pages.append((scan, page))
        return Found(self.clock.now(), self.database.last_tick, wanted.keys, rows, pages, self.ticks)

    def read_now(self, wanted: Wanted) -> Found | None:
        return self._found(wanted) if self.at_once else None

    async def apply(self, batch: Batch) -> None:
        self._begin("apply")
        database = self.database
        writer = database.writers[self.node]
        if writer.incarnation != self.incarnation or writer.batch != batch.number - 1:
            raise WriterFenced
        for key, rev in [(change.key, change.rev) for change in batch.changes] + list(batch.unchanged()):
            if database.rows.get(key, (0, None))[0] != rev:
                if key.table.kind == "log":
                    raise BatchRefused(TransactionRefused(f"{key.parts} exists"), divisible=True)
                raise BatchConflict
        for change in batch.changes:
            if self.refuse(change.key):
                raise BatchRefused(TransactionRefused(f"{change.key.parts} is refused"), divisible=True)
        self._begin("commit")
        for change in batch.changes:
            if change.row is None:
                del database.rows[change.key]
            else:
                database.rows[change.key] = (change.rev + 1, change.row)
        database.counters.update(batch.counts)
        database.last_tick = max(database.last_tick, batch.last_tick)
        database.writers[self.node] = WriterRow(self.node, self.incarnation, batch.number)
        self.after("commit")

    async def abandon(self) -> None:
        self._begin("abandon")

    async def close(self) -> None:
        self._begin("close")

    # --- reads outside of a batch ----------------------------------------------------------------

    async def get(self, key: Key[Any]) -> Any:
        return self.database.rows.get(key, (0, None))[1]

    async def get_all(self, keys: Sequence[Key[Any]]) -> list[Any]:
        return [await self.get(key) for key in keys]

    async def scan(self, scan: Scan[Any]) -> list[tuple[Key[Any], Any]]:
        return [(key, self.database.rows[key][1]) for key in self._page(scan).keys]

    async def counter(self, name: str) -> int:
        return self.database.counters[name]

    async def count(self, table: Table[Any]) -> int:
        return sum(key.table is table for key in self.database.rows)

    # --- inside ----------------------------------------------------------------------------------

    def _begin(self, call: str) -> None:
        self.calls[call] += 1
        self.before(call)

    def _page(self, scan: Scan[Any]) -> ScanPage:
        index, found = scan.index, []
        for key, (_, row) in self.database.rows.items():
            if key.table is not index.table or (index.where is not None and not index.where(row)):
                continue
            place = index.order_of(key.parts, row)
            after = scan.after is None or place[: len(scan.after)] > scan.after
            upto = scan.upto is None or place[: len(scan.upto)] <= scan.upto
            if index.prefix_of(key.parts, row) == scan.prefix and after and upto:
                found.append((place, key))
        found.sort(key=lambda pair: pair[0])
        head = found[: scan.limit]
        return ScanPage(tuple(key for _, key in head), len(found) <= scan.limit, head[-1][0] if head else (), scan.limit)
