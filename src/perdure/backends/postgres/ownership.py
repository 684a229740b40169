"""Leases on shards, between nodes on one PostgreSQL database.

A node has one lease, in its writer's row, which each of its batches renews; its shards are its own for as long. Who finds
a lease that has expired raises the incarnation of that writer, which refuses all that it still writes, and only then frees
its shards, both in one statement. Expiry is the database's time; how long our own lease surely lasts we know by our own clock.

Source: architecture.md, "More than one machine".
"""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import asyncpg

from perdure import limits
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.backend import PostgresBackend
from perdure.backends.postgres.connection import Lost, Session, Unreachable, translated
from perdure.backends.postgres.statements import NOW
from perdure.clock import Micros, boottime
from perdure.core.ownership import Keeper, Lease
from perdure.errors import EngineRunning, LeaseLost, StoreError, StoreUnavailable

logger = logging.getLogger("perdure.postgres")


class LeasedShards:
    """See `perdure.core.ownership.Ownership`."""

    whole = False

    def __init__(self, address: Address, backend: PostgresBackend, node: str, shards: int) -> None:
        self._address = address
        self._backend = backend
        self._node = node
        self._count = shards
        self._session = Session(address)
        self._leases: dict[int, Lease] = {}
        self._keeper: Keeper | None = None
        self._renew: Callable[[], Awaitable[object]] | None = None
        self._safe_until: Micros = 0
        self._renewed_at: Micros = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._overtaken = False
        self._giving: list[Lease] = []
        self._looks: dict[int, int] = {}  # how often a shard was found free
        self._keeps_until: Micros = 0
        self._held: Any = None

    # --- what an engine asks --------------------------------------------------------------------

    @property
    def shards(self) -> Collection[int]:
        """What is owned now."""
        return self._leases.keys()

    def lease(self, shard: int) -> Lease | None:
        """Return the lease of a shard, or None when it is not ours."""
        return self._leases.get(shard)

    def owns(self, shard: int) -> bool:
        """Return whether a shard is ours."""
        return shard in self._leases

    def safe(self) -> bool:
        """Return whether nobody else can have taken over."""
        return boottime() < self._safe_until

    async def start(self, keeper: Keeper, renew: Callable[[], Awaitable[object]]) -> None:
        """Begin to lease shards. Raises EngineRunning, StoreUnavailable."""
        if self._tasks:
            raise EngineRunning(
                f"{self._address.place}: this open store runs an engine already; close that one first, or open the store again"
            )
        self._backend.on_renewed, self._backend.on_overtaken = self._on_renewed, self._on_overtaken
        self._renew = renew
        try:
            await self._begin(renew)
        except BaseException:
            await self._unregister()
            raise
        self._keeper = keeper
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._watch(), name="perdure-ownership"),
            loop.create_task(self._keep(), name="perdure-keeps-lease"),
        ]

    async def stop(self) -> None:
        """Give back what is owned."""
        if not self._tasks:
            return
        if self._tasks[0].get_loop() is asyncio.get_running_loop():  # else their loop is over, and they with that
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self._keeper = [], None
        await self._unregister()

    async def _begin(self, renew: Callable[[], Awaitable[object]]) -> None:
        try:
            await self._hold()
            await self._register()
            await renew()
            await self._take()
        except (Lost, Unreachable) as error:
            raise StoreUnavailable(f"{self._address.place}: no server that can be written to: {error}") from error
        except asyncpg.PostgresError as error:
            raise translated(error, self._address.place) from error

    async def _register(self) -> None:
        """Begin a lease that owns nothing: while there was none, others may have seen what was ours as free."""
        schema = self._address.schema
        await self._session.rows(
            f"with me as (update {schema}.writer set expires_at = {NOW} + {limits.LEASE_US} "
            "where node = $1 and lane = 0 and incarnation = $2 returning 1) "
            f"update {schema}.shard set node = null where node = $1 and exists (select 1 from me)",
            (self._node, self._backend.row.incarnation),
        )

    async def _again(self) -> None:
        """Begin a new lease after somebody took the one before."""
        assert self._renew is not None, "started"
        with contextlib.suppress(LeaseLost):
            await self._renew()  # the writer hears of it, if it has not yet
        await self._register()
        await self._renew()  # only a commit tells how long the new lease surely lasts

    async def _unregister(self) -> None:
        """Give back everything, again if the connection was lost: for as long as the store is open and writes, its lease would not end."""
        self._drop(list(self._leases))
        schema = self._address.schema
        sql = (
            f"with me as (update {schema}.writer set expires_at = null where node = $1 and lane = 0) "
            f"update {schema}.shard set node = null where node = $1"
        )
        tries = 0
        while True:
            try:
                await self._session.rows(sql, (self._node,))
                break
            except (Lost, Unreachable, asyncpg.PostgresError) as error:
                tries += 1
                if tries == limits.LEASE_GIVE_TRIES or isinstance(error, asyncpg.PostgresError):
                    place = self._address.place
                    logger.warning("%s: shards were not given back, others take them over once this store is closed: %s", place, error)
                    break
            await asyncio.sleep(limits.POSTGRES_RETRY_SECONDS * 2**tries)
        await self._session.close()

    # --- what the writer tells ------------------------------------------------------------------

    def _on_renewed(self, asked_at: Micros) -> None:
        self._renewed_at = asked_at
        self._safe_until = asked_at + limits.LEASE_US - limits.LEASE_MARGIN_US

    def _on_overtaken(self) -> None:
        """Somebody has found our lease expired: all is lost, before anything more is decided."""
        self._safe_until = 0
        self._overtaken = True
        for lease in self._giving:
            lease.held = False
        self._lose(list(self._leases))

    # --- the rounds -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(limits.LEASE_LOOK_SECONDS)
            try:
                await self._round()
            except (Lost, Unreachable, asyncpg.PostgresError, StoreError) as error:
                logger.warning("%s: leases were not looked at, the next look is soon: %s", self._address.place, error)
                self._session.drop()
            except Exception:  # the loop's edge: without it this node would lose everything it owns
                logger.exception("%s: leases were not looked at, the next look is soon", self._address.place)

    async def _keep(self) -> None:
        """Renew the lease in time, whatever the looks at others wait for: a server that does not answer, a batch of who is late."""
        while True:
            await asyncio.sleep(limits.LEASE_LOOK_SECONDS)
            try:
                await self._renew_in_time()
            except StoreError as error:
                logger.warning("%s: the lease was not renewed, the next try is soon: %s", self._address.place, error)
            except Exception:  # the loop's edge, as above
                logger.exception("%s: the lease was not renewed, the next try is soon", self._address.place)

    async def _renew_in_time(self) -> None:
        assert self._renew is not None, "started"
        if boottime() - self._renewed_at > limits.LEASE_RENEW_US:
            await self._renew()

    async def _round(self) -> None:
        assert self._keeper is not None, "started"
        await self._renew_in_time()
        await self._hold()
        gained = await self._take()
        if gained:
            logger.info("%s: node %s takes up %s shards", self._address.place, self._node, len(gained))
            self._keeper.gained(gained)

    async def _hold(self) -> None:
        """Say, with a lock of the connection, that an engine is open, for who needs the store alone."""
        connection = await self._session.connected()
        if connection is self._held or self._address.pooler:
            return
        if not (await self._session.rows("select pg_try_advisory_lock_shared($1)", (lock_key(self._address.schema, "engine"),)))[0][0]:
            raise EngineRunning(
                f"{self._address.place}: another program holds the store alone, for a sweep or a copy; wait until it has ended"
            )
        self._held = connection

    async def _take(self) -> Collection[int]:
        """Free what others have lost, and take a fair share of what is free; give back what is over it. Return what is new."""
        schema, rows = self._address.schema, self._session.rows
        self._overtaken = False
        nodes = await rows(
            f"select node, incarnation, expires_at < {NOW}, expires_at > {NOW} + {limits.LEASE_US - 2 * limits.LEASE_RENEW_US} "
            f"from {schema}.writer where expires_at is not null"
        )
        for node, incarnation, expired, _ in nodes:
            if expired and node != self._node:
                await self._take_over(node, incarnation)
        if self._node not in {node for node, *_ in nodes}:
            await self._again()
        # One that has not renewed its lease in time may be dead: what would be its share is not left for it.
        live = 1 + sum(in_time for node, _, _, in_time in nodes if node != self._node)
        fair = -(-self._count // live)
        free: list[tuple[int, int]] = [
            tuple(row) for row in await rows(f"select o.shard, o.epoch from {schema}.shard o where {self._is_free()}")
        ]
        over, unwanted = len(self._leases) - fair, self._unwanted(free)
        if unwanted > max(0, -over):
            self._keeps_until = boottime() + limits.LEASE_US
        if over > 0 and self._keeper is not None and boottime() >= self._keeps_until:
            await self._give(sorted(self._leases)[-over:])
        if (most := max(-over, unwanted)) > 0:
            # Of a shard that was changed while this waits only its own new row is looked at, and all else as it was before: without
            # the epoch one that its last owner has taken again would be taken from it.
            await rows(
                f"with me as (select 1 from {schema}.writer where node = $1 and lane = 0 and incarnation = $2 and expires_at > {NOW} for share), "
                "free as (select o.shard from unnest($4::bigint[], $5::bigint[]) u(shard, epoch) "
                f"join {schema}.shard o on o.shard = u.shard and o.epoch = u.epoch where {self._is_free()} "
                "order by o.shard limit $3 for update of o skip locked) "
                f"update {schema}.shard s set node = $1, epoch = s.epoch + 1 from free where s.shard = free.shard and exists (select 1 from me)",
                (self._node, self._backend.row.incarnation, most, [shard for shard, _ in free], [epoch for _, epoch in free]),
            )
        # What an answer that was lost has given us is ours, too.
        ours = {shard for (shard,) in await rows(f"select shard from {schema}.shard where node = $1", (self._node,))}
        if self._overtaken:  # while we asked: these are free again, or another's
            return ()
        self._lose([shard for shard in self._leases if shard not in ours])
        gained = sorted(ours - self._leases.keys())
        for shard in gained:
            self._leases[shard] = Lease()
        return gained

    def _is_free(self) -> str:
        schema = self._address.schema
        return f"(o.node is null or not exists (select 1 from {schema}.writer w where w.node = o.node and w.expires_at is not null))"

    def _unwanted(self, free: Iterable[tuple[int, int]]) -> int:
        """Return how many of the free shards nobody has taken for a while.

        A node that has died counts among those who share until its lease is over: what would be its part waits for nobody else.
        """
        self._looks = {shard: self._looks.get(shard, 0) + 1 for shard, _ in free}
        return sum(looks > limits.LEASE_LOOKS for looks in self._looks.values())

    async def _take_over(self, node: str, incarnation: int) -> None:
        schema = self._address.schema
        freed = await self._session.rows(
            f"with dead as (update {schema}.writer set incarnation = incarnation + 1, expires_at = null "
            f"where node = $1 and lane = 0 and incarnation = $2 and expires_at < {NOW} returning node) "
            f"update {schema}.shard s set node = null from dead where s.node = dead.node returning s.shard",
            (node, incarnation),
        )
        if freed:
            logger.warning("%s: the lease of node %s has expired, its %s shards are free", self._address.place, node, len(freed))

    async def _give(self, shards: list[int]) -> None:
        """Let another node have these, once all that was begun on them is committed."""
        assert self._keeper is not None, "started"
        # Nothing new begins on them from here on; what was handed to the writer before is still committed.
        given = {shard: self._leases.pop(shard) for shard in shards}
        self._giving = list(given.values())
        try:
            await self._keeper.release(given)
        finally:
            for lease in self._giving:
                lease.held = False
        await self._session.rows(
            f"update {self._address.schema}.shard set node = null where node = $1 and shard = any($2::bigint[])", (self._node, shards)
        )

    def _lose(self, shards: list[int]) -> None:
        self._drop(shards)
        if shards and self._keeper is not None:
            logger.warning("%s: node %s has lost %s shards", self._address.place, self._node, len(shards))
            self._keeper.forget(shards)

    def _drop(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._leases.pop(shard).held = False


def lock_key(schema: str, name: str) -> int:
    """Return the number of an advisory lock of a store."""
    return int.from_bytes(hashlib.sha256(f"perdure {schema} {name}".encode()).digest()[:8], "big", signed=True)
