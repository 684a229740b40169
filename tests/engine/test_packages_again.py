"""Processes on packages: what they start after a restart, many routes in many hands, and doors that are closed."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Address, App, Engine, Store, VirtualClock
from perdure.clock import SECOND
from perdure.errors import PackagePinned, StoreUnavailable, UsageError
from tests.engine.orders import crash, reaches
from tests.engine.shop import ONE, TWO, pay, place, reply, run, send, version
from tests.packages.built import deploy

NODE = App("node")
HOUR = 3600 * SECOND
LATER = """
@app.process
async def planner(p: perdure.Process) -> str:
    p.send(Placed("later"), to=perdure.Address.start("Order", key="later", id="later"), after=3600)
    return "planned"
"""
FIRST = version(1, LATER)


async def test_a_child_starts_on_the_version_of_its_parent_also_after_a_crash(store: Store, clock: VirtualClock) -> None:
    await deploy(store, ONE)
    engine = await Engine(store, NODE).__aenter__()
    await send(engine, "parent", "child", id="p")
    await reaches(engine, "p", "waiting")
    await crash(engine)
    await engine.versions.close()  # of this interpreter, which goes on
    await deploy(store, TWO)
    clock.advance(HOUR)
    async with Engine(store, NODE) as engine:
        assert await reply(engine, "p") == "hello child from 1"


async def test_a_sibling_keeps_the_whole_package_over_a_restart(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await deploy(store, TWO)
    async with Engine(store, NODE) as engine:
        with pytest.raises(PackagePinned):
            await store.packages.unload(ONE.identity)
        await store.packages.put_package_route("hello", ONE.identity)
        assert await run(engine, "hello", "a", id="h") == "hello a from 1"


async def test_what_is_sent_for_later_starts_on_the_version_of_its_sender(store: Store, clock: VirtualClock) -> None:
    await deploy(store, FIRST)
    async with Engine(store, NODE) as engine:
        assert await run(engine, "planner", id="p") == "planned"
    await deploy(store, TWO)
    async with Engine(store, NODE) as engine:
        clock.advance(HOUR)
        await reaches(engine, "later", "waiting")
        assert (await engine.process("later")).package_hash == FIRST.identity


async def test_what_is_sent_for_later_follows_the_route_when_the_senders_version_is_gone(store: Store, clock: VirtualClock) -> None:
    await deploy(store, FIRST)
    async with Engine(store, NODE) as engine:
        assert await run(engine, "planner", id="p") == "planned"
        await deploy(store, TWO)
        await store.packages.retire("planner")
        await store.packages.unload(FIRST.identity)  # the sender is over, and nothing has begun that needs it
        clock.advance(HOUR)
        await reaches(engine, "later", "waiting")
        assert (await engine.process("later")).package_hash == TWO.identity


async def test_flips_under_starts_fail_none_and_every_process_runs_what_it_recorded(store: Store) -> None:
    for package in (ONE, TWO):
        await deploy(store, package)
    said: dict[str, str] = {}

    async def starts(engine: Engine, caller: int) -> None:
        for number in range(6):
            name = f"{caller} {number}"
            said[name] = await run(engine, "hello", "a", id=name)

    async def flips() -> None:
        for number in range(12):
            if number % 3:
                await deploy(store, (ONE, TWO)[number % 2])
            else:
                await store.packages.rollback("hello")
            await asyncio.sleep(0)

    async with Engine(store, NODE) as engine:
        await asyncio.gather(flips(), *(starts(engine, caller) for caller in range(16)))
        recorded = {one.process_id: one.package_hash for one in await engine.processes(limit=1_000)}

    number_of = {str(ONE.identity): 1, str(TWO.identity): 2}
    assert said == {name: f"hello a from {number_of[str(package)]}" for name, package in recorded.items()}
    assert len(said) == 96
    assert len(set(recorded.values())) == 2


async def test_a_start_after_a_deploy_has_returned_is_on_the_new_version(store: Store) -> None:
    async with Engine(store, NODE) as engine:
        for number in range(1, 9):
            package = version(number)
            await deploy(store, package)
            assert await run(engine, "hello", "a", id=f"h{number}") == f"hello a from {number}"


async def test_a_deploy_again_loads_nothing_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        assert await run(engine, "hello", "a", id="1") == "hello a from 1"
        read: list[str] = []
        get = store.packages.get_package

        async def counted(content_hash: str) -> object:
            read.append(content_hash)
            return await get(content_hash)

        monkeypatch.setattr(store.packages, "get_package", counted)
        await deploy(store, ONE)
        assert await run(engine, "hello", "b", id="2") == "hello b from 1"
        assert (read, engine.versions.loaded) == ([], (ONE.identity,))


async def test_an_engine_that_is_closed_starts_nothing_and_its_store_goes_on(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    with pytest.raises(UsageError, match="not open"):
        await engine.deliver_encoded("hello()", b'["a"]', id="h", to=Address.start("hello", id="h"))
    await deploy(store, TWO)
    async with Engine(store, NODE) as engine:
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"
    await store.close()
    with pytest.raises(StoreUnavailable):
        await deploy(store, ONE)
