"""The databases that the core is tried on, each with the made-up domain, each failing where it is told to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from perdure import limits
from perdure.backends.postgres.database import PostgresDatabase
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.core.backend import Backend, Batch, Found, Ticks, Wanted, WriterRow
from perdure.core.table import Key
from tests.core.memory import MemoryBackend
from tests.core.shop import JOB, LINE
from tests.postgres import shop as on_postgres
from tests.sqlite import shop as on_sqlite

T = TypeVar("T")


class Subject:
    """One database under one writer. `before` and `after` are called with the name of each call, and may raise.

    `commit` is a call within `apply`: before it nothing is written, after it everything is.
    """

    ticks = Ticks()

    def __init__(self, inner: Backend, *, locked: bool = False) -> None:
        self.inner = inner
        self.locked = locked
        self.before: Callable[[str], None] = lambda _call: None
        self.after: Callable[[str], None] = lambda _call: None
        self.calls: Counter[str] = Counter()
        self.writer_row: WriterRow | None = None

    # --- the calls of a backend ----------------------------------------------------------------------

    async def fence(self) -> WriterRow:
        self._begin("fence")
        row = await self.inner.fence()
        self.after("fence")
        return row

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        self._begin("prefetch")
        found = await self.inner.prefetch(wanted, locked=locked or self.locked)
        self.after("prefetch")
        return found

    def read_now(self, wanted: Wanted) -> Found | None:
        return self.inner.read_now(wanted)

    async def apply(self, batch: Batch) -> None:
        self._begin("apply")
        try:
            self._begin("commit")
        except Exception:
            await self.inner.abandon()
            raise
        await self.inner.apply(batch)
        self.after("commit")

    async def abandon(self) -> None:
        self._begin("abandon")
        await self.inner.abandon()

    async def close(self) -> None:
        self._begin("close")
        await self.inner.close()

    def _begin(self, call: str) -> None:
        self.calls[call] += 1
        self.before(call)

    # --- what a test sees and does of the database itself ----------------------------------------------

    async def state(self) -> Any:
        """Return every row, the counters, and the last tick."""
        raise NotImplementedError

    def jobs(self) -> set[Any]:
        """Return the ids of the jobs that are committed."""
        raise NotImplementedError

    def row(self) -> WriterRow:
        """Return the writer's row as the database has it."""
        raise NotImplementedError

    def set_row(self, incarnation: int, batch: int) -> None:
        """Change the writer's row, which no batch has open."""
        raise NotImplementedError

    async def refuse_job(self, id: int) -> None:
        """Let the database refuse this job."""
        raise NotImplementedError

    async def refuse_lines(self) -> None:
        """Let the database refuse every tenth line."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Give everything back, whatever became of the writer."""
        self.before = lambda _call: None
        await self.close()


class InMemory(Subject):
    """A dictionary."""

    inner: MemoryBackend

    def __init__(self, *, at_once: bool = False, ticks: Ticks | None = None) -> None:
        super().__init__(MemoryBackend(at_once=at_once))
        self.ticks = self.inner.ticks = ticks or self.ticks

    async def state(self) -> Any:
        database = self.inner.database
        return {key: row for key, (_, row) in database.rows.items()}, +database.counters, database.last_tick

    def jobs(self) -> set[Any]:
        return {key.parts[0] for key in self.inner.database.rows if key.table is JOB}

    def row(self) -> WriterRow:
        return self.inner.database.writers[self.inner.node]

    def set_row(self, incarnation: int, batch: int) -> None:
        self.inner.database.writers[self.inner.node] = WriterRow(self.inner.node, incarnation, batch)

    async def refuse_job(self, id: int) -> None:
        self._refuse(lambda key: key == JOB.key(id))

    async def refuse_lines(self) -> None:
        self._refuse(lambda key: key.table is LINE and key.parts[0] in range(0, 1_000_000, 10))

    def _refuse(self, which: Callable[[Key[Any]], bool]) -> None:
        self.inner.refuse = which


class OnSqlite(Subject):
    """SQLite, in memory."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database.backend)
        self._connection = database._file.writing

    async def state(self) -> Any:
        return on_sqlite.rows_of(self._connection), on_sqlite.counters_of(self._connection), on_sqlite.tick_of(self._connection)

    def jobs(self) -> set[Any]:
        return {id for (id,) in self._connection.execute("SELECT id FROM job")}

    def row(self) -> WriterRow:
        [row] = self._connection.execute("SELECT node, incarnation, batch FROM writer WHERE node <> ''")
        return WriterRow(*row)

    def set_row(self, incarnation: int, batch: int) -> None:
        self._connection.execute("UPDATE writer SET incarnation = ?, batch = ? WHERE node <> ''", (incarnation, batch))

    async def refuse_job(self, id: int) -> None:
        self._refuse("job", f"new.id = {id}")

    async def refuse_lines(self) -> None:
        self._refuse("line", "new.n % 10 = 0")

    def _refuse(self, table: str, when: str) -> None:
        self._connection.execute(f"CREATE TRIGGER refused BEFORE INSERT ON {table} WHEN {when} BEGIN SELECT raise(ABORT, 'refused'); END")


class OnPostgres(Subject):
    """PostgreSQL, looked at over another connection."""

    ticks = Ticks(1, limits.TICK_SLOTS)

    def __init__(self, url: str, database: PostgresDatabase, *, locked: bool = False) -> None:
        super().__init__(database.backend, locked=locked)
        self._url = url
        self._database = database

    async def state(self) -> Any:
        database = self._database
        return await on_postgres.rows_of(database), await on_postgres.counters_of(database), await on_postgres.tick_of(database)

    def jobs(self) -> set[Any]:
        return {id for (id,) in self._fetch("select id from perdure.job")}

    def row(self) -> WriterRow:
        [row] = self._fetch("select node, incarnation, batch from perdure.writer where node <> ''")
        return WriterRow(*row)

    def set_row(self, incarnation: int, batch: int) -> None:
        self._fetch("update perdure.writer set incarnation = $1, batch = $2 where node <> ''", incarnation, batch)

    async def refuse_job(self, id: int) -> None:
        await on_postgres.fetch(self._url, f"alter table perdure.job add constraint refused check (id <> {id})")

    async def refuse_lines(self) -> None:
        await on_postgres.fetch(self._url, "alter table perdure.line add constraint refused check (n % 10 <> 0)")

    async def leave(self) -> None:
        await super().leave()
        await self._database.close()
        on_postgres.give_back(self._url)

    def _fetch(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return _apart(on_postgres.fetch(self._url, sql, *values))


def _apart(work: Coroutine[Any, Any, T]) -> T:
    """Run something to its end in the middle of what this thread's loop runs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
