"""Nodes of one database without an engine: what each owns, and what its keeper was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from perdure import limits
from perdure.backends.postgres.ownership import LeasedShards
from perdure.core.ownership import Lease, Renew
from perdure.store import Store, open_store

ALL = frozenset(range(limits.SHARDS))
EXPIRED = "update perdure.writer set expires_at = 1 where node = $1"


class Keeping:
    """A keeper that notes what it is told; it releases once it `may`."""

    def __init__(self) -> None:
        self.gains: list[frozenset[int]] = []
        self.forgotten: list[frozenset[int]] = []
        self.released: list[frozenset[int]] = []
        self.releasing: dict[int, Lease] = {}
        self.asked = asyncio.Event()
        self.may = asyncio.Event()
        self.may.set()

    def gained(self, shards: Collection[int]) -> None:
        self.gains.append(frozenset(shards))

    def forget(self, shards: Collection[int]) -> None:
        self.forgotten.append(frozenset(shards))

    async def release(self, leases: Mapping[int, Lease]) -> None:
        self.releasing = dict(leases)
        self.asked.set()
        await self.may.wait()
        self.released.append(frozenset(leases))


class Node:
    """An open store that owns shards."""

    def __init__(self, store: Store) -> None:
        assert isinstance(store.ownership, LeasedShards)
        self.store = store
        self.ownership = store.ownership
        self.keeper = Keeping()

    @property
    def name(self) -> str:
        return self.ownership._node

    @property
    def shards(self) -> frozenset[int]:
        return frozenset(self.ownership.shards)

    async def start(self) -> None:
        await self.ownership.start(self.keeper, self.renew)

    async def renew(self) -> None:
        await self.store.access.writer.run(Renew())

    async def look(self) -> None:
        """One look at who has died and what is free."""
        await self.ownership._round()


class Rows:
    """A connection beside all nodes."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.connection = connection

    async def run(self, sql: str, *values: Any) -> list[Any]:
        return [tuple(row) for row in await self.connection.fetch(sql, *values)]

    async def expire(self, node: Node) -> None:
        """Let the lease of a node be over."""
        await self.run(EXPIRED, node.name)

    async def owned(self) -> dict[str | None, frozenset[int]]:
        """Return the shards of each node, as the database has them."""
        rows = await self.run("select node, array_agg(shard) from perdure.shard group by node")
        return {node: frozenset(shards) for node, shards in rows}

    async def writer(self, node: Node) -> tuple[int, int | None]:
        """Return incarnation and expiry."""
        [(incarnation, expires_at)] = await self.run("select incarnation, expires_at from perdure.writer where node = $1", node.name)
        return incarnation, expires_at

    async def until_waits(self, node: Node) -> None:
        """Return once a node's look waits for somebody else's lock."""
        pid = (await node.ownership._session.connected()).get_server_pid()
        while not await self.connection.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):
            pass  # each look takes its time

    async def epochs(self) -> dict[int, int]:
        return dict(await self.run("select shard, epoch from perdure.shard"))


@asynccontextmanager
async def beside(url: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(url)
    try:
        yield Rows(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def node(url: str) -> AsyncIterator[Node]:
    """A node that has not started."""
    async with open_store(url) as store:
        yield Node(store)
