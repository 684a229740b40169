"""Reads outside of a batch: each statement is a snapshot of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import apsw

from perdure.backends.sqlite.connection import ERRORS
from perdure.backends.sqlite.file import SqliteFile
from perdure.backends.sqlite.statements import Statements
from perdure.core.table import Key, RowT, Scan, Table

R = TypeVar("R")


class SqliteReader:
    """Reads on the loop's own thread, which is faster than any hand-over; see `perdure.core.backend.Reader`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._statements = Statements()

    async def get(self, key: Key[RowT]) -> RowT | None:
        """Return the row or None."""
        sql = self._statements[key.table]
        found = await self._read(lambda connection: connection.execute(sql.get, key.parts).fetchone())
        if found is None:
            return None
        return cast("RowT", sql.entry(found)[1])

    async def get_all(self, keys: Sequence[Key[RowT]]) -> list[RowT | None]:
        """Return the rows, or None for each that is not there."""
        return [await self.get(key) for key in keys]

    async def scan(self, scan: Scan[RowT]) -> list[tuple[Key[RowT], RowT]]:
        """Return the rows in index order."""
        sql = self._statements[scan.index.table]
        statement, values = sql.scan(scan, scan.limit)
        found: Any = await self._read(lambda connection: connection.execute(statement, values).fetchall())
        keyed: Any = map(sql.keyed, found)
        return [(key, row) for key, (_, row) in keyed]

    async def counter(self, name: str) -> int:
        """Return an exact counter: the sum over all writers."""
        statement = "SELECT coalesce(sum(value), 0) FROM counter WHERE name = ?"
        value: int = await self._read(lambda connection: connection.execute(statement, (name,)).get)
        return value

    async def count(self, table: Table[Any]) -> int:
        """Return the number of rows, by looking at all of them."""
        statement = self._statements[table].count
        value: int = await self._file.aside(lambda connection: connection.execute(statement).get)
        return value

    async def _read(self, read: Callable[[apsw.Connection], R]) -> R:
        file = self._file
        file.check()
        assert not (file.memory and file.reading.in_transaction), "in memory, nobody reads between a batch's begin and end"
        try:
            return read(file.reading)
        except apsw.BusyError:  # the moment in which another process repairs the WAL, or removes it
            return await self._file.aside(read)
        except ERRORS as error:
            raise file.judged(error) from error
