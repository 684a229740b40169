"""Processes on packages: each goes on with the version that it started on."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from perdure import Address, App, Engine, Store
from perdure.engine.encoded import sealed_reply
from tests.engine.orders import reaches
from tests.packages.built import built, deploy

FLOWS = """\
import msgspec
import perdure

app = perdure.App("shop")


class Placed(msgspec.Struct):
    id: str


class Paid(msgspec.Struct):
    id: str


@app.process
class Order(perdure.Process):
    version: int = {version}
    seen: int = 0

    @perdure.on(Placed, start=True, key=lambda placed: placed.id)
    async def placed(self, placed: Placed) -> str:
        self.seen += 1
        paid = await self.receive(Paid)
        return f"paid {{paid.id}} on version {version}"

    @perdure.query
    def summary(self) -> list[int]:
        return [{version}, self.version, self.seen]


@app.process
async def hello(p: perdure.Process, name: str) -> str:
    return f"hello {{name}} from {version}"


@app.process
async def parent(p: perdure.Process, name: str) -> str:
    return await p.call(hello, name)
"""


class Placed(msgspec.Struct):
    id: str


class Paid(msgspec.Struct):
    id: str


class Other(msgspec.Struct):
    id: str


def version(number: int) -> Any:
    return built({"shop/__init__.py": "", "shop/flows.py": FLOWS.format(version=number)})


ONE, TWO = version(1), version(2)


async def reply_of(engine: Engine, kind: str, payload: Any, *, id: str, to: Address) -> Any:
    await engine.deliver_encoded(kind, msgspec.json.encode(payload), id=id, to=to)
    found = await sealed_reply(engine.store.access, id, source="", tenant="default", until=10**18)
    assert found is not None
    assert found.error is None, found
    return msgspec.json.decode(found.response)


async def test_a_process_starts_where_the_route_leads_and_stays_there(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, App("node")) as engine:
        assert await reply_of(engine, "hello()", ["a"], id="1", to=Address.start("hello", id="1")) == "hello a from 1"
        first = asyncio.ensure_future(engine.deliver(Placed("o"), id="p", to=Address.start("Order", key="o", id="o"), wait=True))
        await reaches(engine, "o", "waiting")

        await deploy(store, TWO)

        assert await reply_of(engine, "hello()", ["b"], id="2", to=Address.start("hello", id="2")) == "hello b from 2"
        await engine.deliver(Paid("o"), id="paid", to=Address.key("o"))
        assert await first == "paid o on version 1"
        assert (await engine.process("o")).package_hash == ONE.identity
        assert (await engine.process("2")).package_hash == TWO.identity


async def test_a_process_goes_on_with_its_version_after_a_restart(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, App("node")) as engine:
        await engine.deliver(Placed("o"), id="p", to=Address.start("Order", key="o", id="o"))
        await reaches(engine, "o", "waiting")
    await deploy(store, TWO)
    async with Engine(store, App("node")) as engine:
        assert not engine.versions.loaded
        await engine.deliver(Paid("o"), id="paid", to=Address.key("o"))
        assert await engine.deliver(Placed("o"), id="p", to=Address.start("Order", key="o", id="o"), wait=True) == "paid o on version 1"
        assert engine.versions.loaded == (ONE.identity,)
