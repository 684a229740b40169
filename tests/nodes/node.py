"""One engine node in a process of its own, under load: `python -m tests.nodes.node URL LEDGER NAME LEASE [unfenced]`.

It says `node <its name in the database>`, then `ack <id>` for each message that was accepted and `reply <id>` for each
that was answered. It begins nothing more when it reads a line, and closes at the end of its input. LEASE is in seconds; LEDGER
is where the database is reached that the effects are noted in.

`unfenced` is the mistake that the proof has to find: the incarnation is not compared, and leases are taken for held.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from typing import Any

import asyncpg

from perdure import Address, Engine, limits, open_store
from perdure.backends.postgres.ownership import LeasedShards
from perdure.backends.postgres.statements import Statements
from perdure.clock import SECOND
from perdure.core.ownership import Lease
from perdure.errors import PerdureError
from tests.nodes.app import Add, Answer, Begin, Effects, make_app

PRODUCERS = 6
ACCOUNTS = 20  # that all nodes write to
OWN = 3  # that only this one writes to
AGAIN = 0.05  # seconds until a refused call is repeated


def set_lease(seconds: float) -> None:
    lease: Any = limits
    lease.LEASE_US = round(seconds * SECOND)
    lease.LEASE_MARGIN_US = lease.LEASE_US // 5
    lease.LEASE_RENEW_US = lease.LEASE_US // 4
    lease.LEASE_LOOK_SECONDS = seconds / 10
    lease.POSTGRES_ANSWER_SECONDS = min(limits.POSTGRES_ANSWER_SECONDS, 2 * seconds)


def take_down_the_fence() -> None:
    """Write whoever owns what."""
    shards: Any = LeasedShards
    shards.safe = lambda self: True
    shards._lose = lambda self, shards: None
    held: Any = Lease
    held.held = property(lambda self: True, lambda self, value: None)
    sql: Any = Statements
    written = sql._write_sql
    sql._write_sql = lambda self, *shape: written(self, *shape).replace("incarnation = $5", "$5::bigint is not null")


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


class Load:
    """What a node delivers, each with an id of its own, and then waits for."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._numbers = itertools.count()
        self._random = random.Random(name)
        self._job = engine.app.extras["job"]  # type: ignore[attr-defined]  # the app's own
        self.over = False

    async def produce(self) -> None:
        kinds = (self._add, self._add, self._add, self._call, self._talk)
        while not self.over:
            id = f"{self._name}.{next(self._numbers)}"
            await self._random.choice(kinds)(id)
            say("reply", id)

    async def _add(self, id: str) -> None:
        shared = self._random.random() < 0.7
        account = f"{self._random.randrange(ACCOUNTS)}" if shared else f"{self._name}.{self._random.randrange(OWN)}"
        more = self._random.choice(("", "", "send", "spawn", "call"))
        await self._through(Add(account, id, more, f"{self._random.randrange(ACCOUNTS)}"), id)

    async def _call(self, id: str) -> None:
        await insist(lambda: self._engine.call(self._job, id, id=id))
        say("ack", id)

    async def _talk(self, id: str) -> None:
        await insist(lambda: self._engine.deliver(Begin(id), id=id))
        say("ack", id)
        await insist(lambda: self._engine.deliver(Answer(f"{id}/answer"), id=f"{id}/answer", to=Address.key(f"talk:{id}")))
        say("ack", f"{id}/answer")
        await insist(lambda: self._engine.deliver(Begin(id), id=id, wait=True))

    async def _through(self, message: Add, id: str) -> None:
        await insist(lambda: self._engine.deliver(message, id=id))
        say("ack", id)
        await insist(lambda: self._engine.deliver(message, id=id, wait=True))


async def insist(call: Any) -> Any:
    """Repeat what may be repeated, with the same id."""
    while True:
        try:
            return await call()
        except PerdureError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(AGAIN)


async def main(url: str, ledger: str, name: str) -> None:
    async with asyncpg.create_pool(ledger, min_size=1, max_size=4) as pool, open_store(url) as store:
        assert isinstance(store.ownership, LeasedShards)
        node = store.ownership._node
        async with Engine(store, make_app(Effects(node, pool))) as engine:
            say("node", node)
            load = Load(engine, name)
            producers = [asyncio.create_task(load.produce()) for _ in range(PRODUCERS)]
            told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            await asyncio.wait([told, *producers], return_when=asyncio.FIRST_COMPLETED)
            load.over = True
            await asyncio.gather(*producers)
            say("quiet")
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    set_lease(float(sys.argv[4]))
    if sys.argv[5:] == ["unfenced"]:
        take_down_the_fence()
    asyncio.run(main(*sys.argv[1:4]))
