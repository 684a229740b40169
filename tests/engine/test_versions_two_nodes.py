"""Versions on two nodes: each loads what it runs, and what is stranded on one goes on where it can."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from perdure import Address, App, Engine, VirtualClock
from perdure.packages.signing import TrustPolicy, public_key, sign
from tests.engine.nodes import two_nodes
from tests.engine.shop import ONE, TWO, Paid, lose, place, reply, send
from tests.packages.built import deploy

NODE = App("node")
SEED = bytes(range(32))
TRUST = TrustPolicy([public_key(SEED)])
SIGNED = replace(ONE, signatures=(sign(ONE.identity, SEED),))


@pytest.fixture
def url(postgres_url: str, unhurried: None) -> str:
    del unhurried
    return postgres_url


async def pay(engine: Engine, name: str) -> None:
    await engine.deliver(Paid(name), id=f"paid {name}", to=Address.process(name))


async def test_each_node_loads_what_it_runs_wherever_a_process_is_started(url: str, clock: VirtualClock) -> None:
    async with two_nodes(url, NODE, clock) as nodes:
        await deploy(nodes.a.store, ONE)
        here, there = nodes.id_on(nodes.a), nodes.id_on(nodes.b)
        await send(nodes.a, "hello", "a", id=here)
        assert await reply(nodes.a, here) == "hello a from 1"
        assert (nodes.a.versions.loaded, nodes.b.versions.loaded) == ((ONE.identity,), ())

        await send(nodes.a, "hello", "b", id=there)
        assert await reply(nodes.b, there) == "hello b from 1"
        assert nodes.b.versions.loaded == (ONE.identity,)

        await deploy(nodes.b.store, TWO)
        for engine, other in ((nodes.a, nodes.b), (nodes.b, nodes.a)):
            name = nodes.id_on(other)
            await send(engine, "hello", "c", id=name)
            assert await reply(engine, name) == "hello c from 2"


async def test_what_was_stranded_on_a_node_that_died_goes_on_at_the_other_when_it_can(url: str, clock: VirtualClock) -> None:
    async with two_nodes(url, NODE, clock, trust=TRUST) as nodes:
        await deploy(nodes.a.store, ONE)
        name = nodes.id_on(nodes.a)
        await place(nodes.b, name)
        await nodes.comes_to(name, "stranded")
        await nodes.kill(nodes.a)
        await deploy(nodes.b.store, SIGNED, route=False)
        await pay(nodes.b, name)
        assert await nodes.status(name) == "stranded", "nobody looks after it"
        await nodes.take_over(nodes.a, nodes.b)
        assert await reply(nodes.b, f"placed {name}") == f"paid {name} on version 1"


@pytest.mark.parametrize("kind", ["begun", "not begun"])
async def test_a_node_that_trusts_a_key_goes_on_with_what_another_has_stranded(url: str, clock: VirtualClock, kind: str) -> None:
    async with two_nodes(url, NODE, clock, trust=TRUST) as nodes:
        await deploy(nodes.a.store, SIGNED if kind == "begun" else ONE)
        name = nodes.id_on(nodes.a)
        await place(nodes.b, name)
        await nodes.comes_to(name, "waiting" if kind == "begun" else "stranded")
        if kind == "begun":
            await lose(nodes.a.store, ONE)
            await nodes.kill(nodes.a)
            await pay(nodes.b, name)
            await nodes.take_over(nodes.a, nodes.b)
            await nodes.comes_to(name, "stranded")
            await deploy(nodes.b.store, SIGNED, route=False)
        else:
            await deploy(nodes.b.store, SIGNED, route=False)
            await pay(nodes.b, name)
        assert await reply(nodes.b, f"placed {name}") == f"paid {name} on version 1"


async def test_who_waits_at_one_node_for_what_is_stranded_at_the_other_gets_the_reply_when_it_goes_on(
    url: str, clock: VirtualClock
) -> None:
    async with two_nodes(url, NODE, clock, trust=TRUST) as nodes:
        await deploy(nodes.a.store, ONE)
        name = nodes.id_on(nodes.b)
        await send(nodes.a, "hello", "a", id=name)
        await nodes.comes_to(name, "stranded")
        asked = asyncio.ensure_future(reply(nodes.a, name))
        await deploy(nodes.a.store, SIGNED, route=False)
        assert await asked == "hello a from 1"
        assert nodes.b.versions.loaded == (ONE.identity,)
