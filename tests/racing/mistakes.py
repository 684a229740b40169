"""Mistakes of backends, each of which loses something in a race."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import apsw

from perdure import limits
from perdure.backends.postgres import statements
from perdure.backends.postgres.backend import PostgresBackend
from perdure.backends.postgres.statements import Statements
from perdure.backends.sqlite import database
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.backends.sqlite.connection import insist
from perdure.core.backend import Batch, Found, Wanted

Put = Callable[[Any, str, Any], None]


class ReadsFirst(SqliteBackend):
    """The mistake: it reads, decides, and takes the lock only then."""

    async def _begin(self) -> None:
        self._open = True
        self._now = max(self._now, self._file.clock.now())
        self._catch_up()

    async def apply(self, batch: Batch) -> None:
        await self._file.off_loop(lambda: insist(self._file.randomness, lambda: self._file.writing.execute("BEGIN IMMEDIATE")))
        await super().apply(batch)

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        try:
            return await super().prefetch(wanted, locked=locked)
        except apsw.BusyError:
            return await super().prefetch(wanted, locked=locked)


def _reads_first(put: Put) -> None:
    put(database, "SqliteBackend", ReadsFirst)


def _change_sql(put: Put, change: Callable[[Any, str, str], str]) -> None:
    """Change the part of the statement that writes a batch, by table and kind."""
    right = statements._change_sql
    put(statements, "_change_sql", lambda sql, kind, numbers, first: change(sql, kind, right(sql, kind, numbers, first)))


def _upserts(put: Put) -> None:
    """A row that appeared since it was read as absent is overwritten in silence."""

    def change(sql: Any, kind: str, text: str) -> str:
        if kind != "insert" or not sql.versioned:
            return text
        sets = ", ".join(f"{field} = excluded.{field}" for field in (*sql.fields, "rev"))
        upsert = f" on conflict ({', '.join(sql.table.key_columns)}) do update set {sets} returning 1"
        return text.removesuffix(" returning 1") + upsert

    _change_sql(put, change)
    right = Statements._write_sql
    vacant = r"when exists \(select 1 from unnest\(.*?\) then \S+refuse\('\w+'\) "
    put(Statements, "_write_sql", lambda self, shape, counted: re.sub(vacant, "", right(self, shape, counted)))


def _looks_without_a_lock(put: Put) -> None:
    """Rows that a decision has only read are compared, and may be changed a moment later."""
    _change_sql(
        put, lambda _sql, kind, text: re.sub(" for (share|no key update) of t$", "", text) if kind in {"unchanged", "lock"} else text
    )


def _scans_with_the_locks(put: Put) -> None:
    """What is committed while the statement waits for its locks is in the rows, and not in the ranges."""

    async def read_locked(self: Any, wanted: Wanted, read: Any) -> None:
        if not self._session.in_transaction:
            await self._insist(self._session.begin)
        await self._read(wanted, read, lock=True)

    put(PostgresBackend, "_read_locked", read_locked)
    put(limits, "LOCK_ROUNDS", 0)  # a batch that is read again for what it has discovered would not notice


def _parks_without_a_row(put: Put) -> None:
    """That nobody has the name is read, and written nowhere."""
    from tests.racing.racer import Park  # it imports this module

    put(Park, "count", lambda _self, _view, _row: None)


MISTAKES: Final[dict[str, Callable[[Put], None]]] = {
    "none": lambda _put: None,
    "reads first": _reads_first,
    "upserts": _upserts,
    "looks without a lock": _looks_without_a_lock,
    "scans with the locks": _scans_with_the_locks,
    "parks without a row": _parks_without_a_row,
}


def make(mistake: str, put: Put = setattr) -> None:
    """Make a mistake from now on, with what sets an attribute."""
    MISTAKES[mistake](put)
