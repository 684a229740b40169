"""Reads outside of a batch: each statement is a snapshot of its own."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import asyncpg

from perdure import limits
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.connection import Lost, Session, Unreachable, translated
from perdure.backends.postgres.statements import Statements, by_table
from perdure.core.table import Key, RowT, Scan, Table
from perdure.errors import StoreUnavailable, UsageError


class Readers:
    """A few connections that are lent out for one statement each; see `perdure.core.backend.Reader`.

    One more is made when a read has waited for longer than most take: they cost a server more than a wait, and are as few as will do.
    """

    def __init__(self, address: Address, statements: Statements) -> None:
        self._address = address
        self._statements = statements
        self._free = [Session(address) for _ in range(limits.POSTGRES_READERS)]
        self._all = tuple(self._free)
        self._turns = asyncio.Semaphore(1)
        self._lent = 1  # at once, at most
        self._loop = asyncio.get_running_loop()
        self._why_not: str | None = None

    async def get(self, key: Key[RowT]) -> RowT | None:
        """Return the row or None."""
        found = await self.rows(self._statements.get(key.table), key.parts)
        return cast("RowT", self._statements.table(key.table).entry(tuple(found[0]))[1]) if found else None

    async def get_all(self, keys: Sequence[Key[RowT]]) -> list[RowT | None]:
        """Return the rows, or None for each that is not there."""
        tables = by_table(keys)
        found = await self.rows(*self._statements.read(tables, {}, lock=False))
        rows: dict[Key[Any], Any] = {}
        for (table, wanted), records in zip(tables.items(), found[0], strict=False):
            entry = self._statements.table(table).entry
            rows.update({wanted[record[0] - 1]: entry(record[1:])[1] for record in records})
        return [rows.get(key) for key in keys]

    async def scan(self, scan: Scan[RowT]) -> list[tuple[Key[RowT], RowT]]:
        """Return the rows in index order."""
        found = await self.rows(*self._statements.scan(scan))
        keyed: Any = self._statements.table(scan.index.table).keyed
        return [(key, row) for key, (_, row) in (keyed(tuple(record)) for record in found)]

    async def counter(self, name: str) -> int:
        """Return an exact counter: the sum over all writers."""
        found = await self.rows(f"select coalesce(sum(value), 0)::bigint from {self._statements.schema}.counter where name = $1", (name,))
        return int(found[0][0])

    async def count(self, table: Table[Any]) -> int:
        """Return the number of rows, by looking at all of them."""
        found = await self.rows(f"select count(*) from {self._statements.table(table).name}")
        return int(found[0][0])

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement that reads, again if its connection is lost: a restart of the server is not noticed.

        Raises:
            StoreUnavailable: the store is closed, or no server answered in time.
            StoreError: what the server raised, translated.
        """
        self.check()
        await self._turn()
        session = self._free.pop()
        try:
            return await self._read(session, sql, values)
        finally:
            self._free.append(session)
            self._turns.release()

    async def _turn(self) -> None:
        """Wait until another session may be lent out; if that takes long, lend out more from now on."""
        if self._turns.locked() and self._lent < len(self._all):
            try:
                async with asyncio.timeout(limits.POSTGRES_READER_SECONDS):
                    await self._turns.acquire()
            except TimeoutError:
                if self._lent < len(self._all):
                    self._lent += 1
                    return
            else:
                return
        await self._turns.acquire()

    async def _read(self, session: Session, sql: str, values: Sequence[Any]) -> list[Any]:
        tries = 0
        while True:
            self.check()  # it may have been closed while this waited
            try:
                return await session.rows(sql, values)
            except (Lost, Unreachable) as error:
                tries += 1
                if tries > limits.POSTGRES_READ_TRIES or self._why_not is not None:
                    raise StoreUnavailable(f"{self._address.place}: no server that answers, repeat later: {error}") from error
            except asyncpg.PostgresError as error:
                raise translated(error, self._address.place) from error
            await asyncio.sleep(min(limits.POSTGRES_RETRY_SECONDS * 2**tries, limits.POSTGRES_RETRY_MOST_SECONDS))

    def check(self) -> None:
        """Raise StoreUnavailable when the store is closed or stopped, UsageError on another event loop."""
        if self._why_not is not None:
            raise StoreUnavailable(self._why_not)
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("a store belongs to the event loop that opened it; open another one here")

    def stop(self, why: str) -> None:
        """Refuse everything from here on."""
        self._why_not = why

    async def close(self) -> None:
        """Close the connections."""
        self.stop(f"{self._address.place}: the store is closed; open it again")
        await asyncio.gather(*(session.close() for session in self._all))
