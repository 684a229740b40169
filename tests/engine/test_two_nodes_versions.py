"""Two engines on one database, and processes whose version cannot be loaded."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from perdure import Address, App, Engine, TrustPolicy, VirtualClock, open_store
from perdure.errors import PackageUntrusted
from perdure.packages.signing import public_key, sign
from tests.engine.nodes import comes, leases_of
from tests.engine.shop import ONE, Placed, pay
from tests.packages.built import deploy
from tests.packages.samples import SEED

NODE = App("node")
TRUST = TrustPolicy([public_key(SEED)])
SIGNED = msgspec.structs.replace(ONE, signatures=(sign(ONE.identity, SEED),))
NAMES = [f"o{number}" for number in range(16)]


async def asked(engine: Engine, name: str) -> Any:
    return await engine.deliver(Placed(name), id=f"placed {name}", to=Address.start("Order", key=name, id=name), wait=True)


async def test_who_asks_a_node_that_gave_a_stranded_process_back_is_not_told_of_before(postgres_url: str, unhurried: None) -> None:
    del unhurried
    clock = VirtualClock()
    async with open_store(postgres_url, clock=clock) as first, Engine(first, NODE, trust=TRUST) as a:
        await deploy(first, ONE)
        refused = await asyncio.gather(*(asked(a, name) for name in NAMES), return_exceptions=True)
        assert {type(error) for error in refused} == {PackageUntrusted}
        async with open_store(postgres_url, clock=clock) as second, Engine(second, NODE, trust=TRUST) as b:
            await leases_of(a)._round()
            await leases_of(b)._round()
            moved = [name for name in NAMES if b._owner.shards.mine("default", name)]
            assert 0 < len(moved) < len(NAMES)
            await deploy(second, SIGNED)

            async def all_wait() -> bool:
                return {one.status for one in await b.processes()} == {"waiting"}

            await comes(all_wait)
            asking = [asyncio.create_task(asked(a, name)) for name in moved]
            for name in moved:
                await pay(b, name)
            assert await asyncio.gather(*asking) == [f"paid {name} on version 1" for name in moved]
