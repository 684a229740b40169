"""Several writers on one shop, what comes between their reading and writing, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from perdure.backends.postgres.database import PostgresDatabase
from perdure.clock import VirtualClock
from perdure.core.backend import Backend, Batch, Found, Wanted, WriterRow
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.core.writer import Writer
from tests.core.shop import OWNER, Act, Owner
from tests.postgres.shop import fetch, open_shop


class Meanwhile:
    """A backend. `then` happens once, between what the next batch reads and what it writes; `locked` tells how each batch was read."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.then: Callable[[], Awaitable[Any]] | None = None
        self.locked: list[bool] = []
        self._open = False

    async def fence(self) -> WriterRow:
        return await self.inner.fence()

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        if not self._open:
            self._open = True
            self.locked.append(locked)
        return await self.inner.prefetch(wanted, locked=locked)

    def read_now(self, wanted: Wanted) -> Found | None:
        return self.inner.read_now(wanted)

    async def apply(self, batch: Batch) -> None:
        self._open = False
        then, self.then = self.then, None
        if then is not None:
            await then()
        await self.inner.apply(batch)

    async def abandon(self) -> None:
        self._open = False
        await self.inner.abandon()

    async def close(self) -> None:
        await self.inner.close()


class Node:
    """One open store with its writer."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self.reader = database.reader
        self.backend = Meanwhile(database.backend)
        self.writer = Writer(self.backend, on_signals=lambda _topics: None)
        self.run = self.writer.run
        self.commit = self.writer.commit

    def meanwhile(self, then: Callable[[], Awaitable[Any]]) -> None:
        """Let something happen once, between what the next batch reads and what it writes."""
        self.backend.then = then

    def statements(self) -> list[str]:
        """Return a list of everything that the writer's connection executes from now on."""
        session, seen = self.database.backend._session, list[str]()
        rows = session.rows

        async def watched(sql: str, values: Any = ()) -> Any:
            seen.append(sql)
            return await rows(sql, values)

        session.rows = watched  # type: ignore[method-assign]
        return seen

    async def close(self) -> None:
        await self.writer.close()
        await self.database.close()


class Site:
    """A shop, and the nodes on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = VirtualClock()
        self.nodes: list[Node] = []
        self._connections: list[Any] = []

    async def open(self) -> Node:
        node = Node(await open_shop(self.url, clock=self.clock))
        await node.writer.start()
        self.nodes.append(node)
        return node

    async def fetch(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return await fetch(self.url, sql, *values)

    async def connect(self) -> Any:
        """Connect as another program."""
        connection = await asyncpg.connect(self.url)
        self._connections.append(connection)
        return connection

    async def blocked(self, count: int = 1) -> None:
        """Return once so many wait for somebody else's lock."""
        sql = "select count(*) from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
        watching = await self.connect()
        while await watching.fetchval(sql) < count:
            pass  # each look takes its time

    async def commit_when_waited_for(self, sql: str) -> asyncio.Task[None]:
        """Run a statement in another program's transaction, which it commits once somebody waits for that."""
        holder = await self.connect()
        await holder.execute(f"begin; {sql}")

        async def commit() -> None:
            await self.blocked()
            await holder.execute("commit")

        return asyncio.create_task(commit())

    async def is_locked(self, key: Key[Any]) -> bool:
        """Return whether anybody holds a lock on a row."""
        where = " and ".join(f"{column} = ${n}" for n, column in enumerate(key.table.key_columns, 1))
        try:
            return not await self.fetch(f"select 1 from perdure.{key.table.name} where {where} for update nowait", *key.parts)
        except asyncpg.LockNotAvailableError:
            return True

    async def close(self) -> None:
        for connection in self._connections:
            connection.terminate()
        for node in self.nodes:
            await node.close()


class Add(Act, frozen=True):
    """Read numbers, add one to each, write them; returns the last."""

    keys: tuple[str, ...]

    def reads(self) -> tuple[Read, ...]:
        return tuple(OWNER.key(key) for key in self.keys)

    def decide(self, view: View) -> int:
        now = 0
        for key in self.keys:
            held = view.get(OWNER.key(key))
            now = 1 if held is None else held.parked + 1
            if held is None:
                view.insert(OWNER.key(key), Owner(None, now))
            else:
                view.update(OWNER.key(key), Owner(None, now))
        return now


def add(*keys: str) -> Add:
    return Add(keys)
