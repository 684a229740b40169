"""Two engines on one PostgreSQL database, in one process: each owns half of the shards, and every look at leases is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from perdure import App, Engine, Retention, VirtualClock, open_store
from perdure.backends.postgres.ownership import LeasedShards
from perdure.engine import inspection
from perdure.engine.notes import LEADING

LOOKS = 10_000  # until something is taken for never
NEVER = 86_400.0  # seconds between two looks at leases


class Nodes:
    """Engine `a`, which owns the first shard, and engine `b`."""

    def __init__(self, url: str, clock: VirtualClock) -> None:
        self.url = url
        self.beside: asyncpg.Connection[Any] = None  # type: ignore[assignment]  # opened by `two_nodes`
        self.clock = clock
        self.a: Engine = None  # type: ignore[assignment]  # opened by `two_nodes`
        self.b: Engine = None  # type: ignore[assignment]  # opened by `two_nodes`
        self._named = 0

    def id_on(self, engine: Engine) -> str:
        """Return a new process id that belongs to a shard of this engine's."""
        while True:
            self._named += 1
            name = f"p{self._named}"
            if engine._owner.shards.mine("default", name):
                return name

    async def look(self, *engines: Engine) -> None:
        """One look at leases of each."""
        for engine in engines:
            await leases_of(engine)._round()

    async def kill(self, engine: Engine) -> None:
        """Drop everything of an engine, as kill -9 does: its lease stands until it is over."""
        engine._owner.drop()
        await asyncio.gather(*engine._owner._tasks, return_exceptions=True)
        engine._sweeping.stop()
        engine._open = False  # closing it would give back what a killed node does not
        leases = leases_of(engine)
        for task in leases._tasks:
            task.cancel()
        await asyncio.gather(*leases._tasks, return_exceptions=True)
        leases._tasks = []
        await engine.store.access.writer.commit()  # what it had under way would renew its lease

    async def expire(self, engine: Engine) -> None:
        """Let its lease be over."""
        await self.run("update perdure.writer set expires_at = 1 where node = $1", leases_of(engine)._node)

    async def take_over(self, dead: Engine, by: Engine) -> None:
        await self.expire(dead)
        await self.look(by)

    async def run(self, sql: str, *values: Any) -> list[Any]:
        return [tuple(row) for row in await self.beside.fetch(sql, *values)]

    async def status(self, process_id: str) -> str:
        return (await inspection.process(self.a.store, process_id)).status

    async def comes_to(self, process_id: str, *statuses: str) -> None:
        """Wait until a process is stored with one of these."""

        async def stored() -> bool:
            found = await inspection.processes(self.a.store)
            return any(one.process_id == process_id and one.status in statuses for one in found)

        await comes(stored)


def leases_of(engine: Engine) -> LeasedShards:
    assert isinstance(engine.store.ownership, LeasedShards)
    return engine.store.ownership


async def comes(condition: Callable[[], Awaitable[bool]]) -> None:
    """Let the loop run until the condition, which asks the server, holds; so its answers are what this waits for."""
    for _ in range(LOOKS):
        if await condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def happens(condition: Callable[[], object], nodes: Nodes) -> None:
    """Let the loop run until something in memory holds; each look takes as long as the server's answer."""

    async def true() -> bool:
        await nodes.a.store.access.reader.counter("")
        return bool(condition())

    await comes(true)


@asynccontextmanager
async def two_nodes(url: str, app: App, clock: VirtualClock, *, retention: Retention | None = None, **bounds: Any) -> AsyncIterator[Nodes]:
    """Open both, with half of the shards each."""
    nodes = Nodes(url, clock)
    async with AsyncExitStack() as stack:
        nodes.beside = await asyncpg.connect(url)
        stack.push_async_callback(nodes.beside.close)
        engines = []
        for _ in range(2):
            store = await stack.enter_async_context(open_store(url, clock=clock))
            engines.append(await stack.enter_async_context(Engine(store, app, retention=retention, **bounds)))
        nodes.a, nodes.b = engines
        await nodes.look(nodes.a, nodes.b)
        assert nodes.a._owner.rules.owns(LEADING)
        assert len(leases_of(nodes.a).shards) == len(leases_of(nodes.b).shards)
        yield nodes
