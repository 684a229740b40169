"""Processes on packages: each goes on with the version that it started on."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, query
from perdure.clock import SECOND
from perdure.engine.app import ProcessType
from perdure.errors import NoRoute, PackageMissing, ProcessTypeRetired, QueryNotFound, UnknownProcessType
from tests.engine.orders import eventually, reaches
from tests.engine.shop import ONE, THREE, TWO, Paid, Placed, lose, pay, place, reply, run, send, version
from tests.packages.built import deploy

NODE = App("node")
HOUR = 3600 * SECOND


async def test_a_process_starts_where_the_route_leads_and_stays_there(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        assert await run(engine, "hello", "a", id="1") == "hello a from 1"
        await place(engine, "o")
        await reaches(engine, "o", "waiting")

        await deploy(store, TWO)

        assert await run(engine, "hello", "b", id="2") == "hello b from 2"
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"
        assert (await engine.process("o")).package_hash == ONE.identity
        assert (await engine.process("2")).package_hash == TWO.identity


async def test_a_process_goes_on_with_its_version_after_a_restart(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await deploy(store, TWO)
    async with Engine(store, NODE) as engine:
        assert not engine.versions.loaded
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"
        assert engine.versions.loaded == (ONE.identity,)


async def test_nobody_keeps_a_version_whose_processes_have_left_memory(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        assert await run(engine, "hello", "a", id="1") == "hello a from 1"
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        assert engine.versions.pins(ONE.identity) == 1
        await pay(engine, "o")
        await reply(engine, "placed o")
        await eventually(lambda: _unpinned(engine))
    assert not [name for name in sys.modules if name.startswith(f"shop@{ONE.identity[:16]}")]


async def _unpinned(engine: Engine) -> bool:
    return engine.versions.pins(ONE.identity) == 0


async def test_durable_fields_and_later_turns_are_of_the_version_of_the_process(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await engine.deliver(Paid("c"), id="1", to=Address.start("Counter", key="c", id="c"))
        assert await reply(engine, "1") == 101
    await deploy(store, TWO)
    async with Engine(store, NODE) as engine:
        await engine.deliver(Paid("c"), id="2", to=Address.key("c"))
        await engine.deliver(Paid("d"), id="3", to=Address.start("Counter", key="d", id="d"))
        assert (await reply(engine, "2"), await reply(engine, "3")) == (102, 201)
        assert [(await engine.process(name)).fields for name in "cd"] == [{"count": 102}, {"count": 201}]


async def test_a_query_is_answered_by_the_version_of_the_process(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        await deploy(store, TWO)
        async with engine.versions.using("Order", TWO.identity) as made:
            assert isinstance(made, ProcessType)
            assert await engine.query(made.base.summary, "o", 5) == [5, 1, 1]  # type: ignore[attr-defined]  # the shop's own
        with pytest.raises(QueryNotFound):
            await engine.query(Local.local, "o")


class Local(Process):
    """A class that has a query which no version of the shop has."""

    @query
    def local(self) -> int:
        return 0


async def test_a_child_starts_on_the_version_of_its_parent(store: Store, clock: VirtualClock) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await send(engine, "parent", "child", id="p")
        await reaches(engine, "p", "waiting")
        await deploy(store, TWO)
        clock.advance(HOUR)
        assert await reply(engine, "p") == "hello child from 1"


async def test_a_child_of_a_type_that_the_package_has_not_starts_where_the_route_leads(store: Store, clock: VirtualClock) -> None:
    more = """
@app.process
async def boss(p: perdure.Process) -> None:
    p.send(Placed("o"), to=perdure.Address.start("Elsewhere", id="e"))
"""
    other = """
@app.process
class Elsewhere(perdure.Process):
    @perdure.on(Placed, start=True)
    async def placed(self, placed: Placed) -> str:
        return "elsewhere"
"""
    await deploy(store, version(1, more))
    there = version(2, other)
    await deploy(store, there)
    await store.packages.put_package_route("boss", version(1, more).identity)
    async with Engine(store, NODE) as engine:
        await run(engine, "boss", id="b")
        await reaches(engine, "e", "idle")
        assert (await engine.process("e")).package_hash == there.identity


async def test_a_route_goes_before_the_apps_own_type_and_without_one_that_runs(store: Store) -> None:
    app = App("local")

    @app.process
    async def hello(p: Process, name: str) -> str:
        return f"hello {name}, locally"

    async with Engine(store, app) as engine:
        assert await engine.call(hello, "a", id="1") == "hello a, locally"
        await deploy(store, ONE)
        assert await engine.call(hello, "b", id="2") == "hello b from 1"
        assert [(await engine.process(name)).package_hash for name in "12"] == [None, ONE.identity]


async def test_what_no_code_can_take_is_refused_before_it_is_accepted(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        with pytest.raises(UnknownProcessType, match="neither this app nor a deployed package"):
            await engine.deliver(Placed("x"), id="1", to=Address.start("Nothing", id="x"))
        with pytest.raises(NoRoute, match="no handler for 'Placed'"):  # told by the manifest: nothing is loaded yet
            await engine.deliver(Placed("x"), id="2", to=Address.start("hello", id="x"))
        assert not engine.versions.loaded
        await store.packages.retire("hello")
        with pytest.raises(ProcessTypeRetired):
            await send(engine, "hello", "a", id="3")
        await lose(store, ONE)
        with pytest.raises(PackageMissing):
            await place(engine, "x")
        assert await engine.processes() == []


async def test_running_processes_of_a_retired_type_go_on(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        await store.packages.retire("Order")
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"


async def test_tenants_and_weights_decide_where_a_process_starts(store: Store) -> None:
    await deploy(store, ONE)
    await deploy(store, TWO, route=False)
    await deploy(store, THREE, route=False)
    await store.packages.set_route("Order", TWO.identity, tenant="acme")
    await store.packages.set_route("Order", THREE.identity, weight=10_000)
    async with Engine(store, NODE) as engine:
        await engine.deliver(Placed("a"), id="1", to=Address.start("Order", key="a", id="a"), tenant="acme")
        await place(engine, "b")
        await reaches(engine, "b", "waiting")
        assert (await engine.process("a", tenant="acme")).package_hash == TWO.identity
        assert (await engine.process("b")).package_hash == THREE.identity


async def test_a_schedule_starts_a_type_that_only_a_package_has(store: Store, clock: VirtualClock) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await engine.schedules.create("hourly", Placed("s"), to=Address.start("Order", key="s"), interval=timedelta(hours=1))
        clock.advance(HOUR)

        async def started() -> bool:
            return [one.package_hash for one in await engine.processes(type="Order")] == [ONE.identity]

        await eventually(started)


NARROW = """
@app.process(flow=perdure.Flow(concurrency=1))
async def narrow(p: perdure.Process) -> str:
    await p.sleep(3600)
    return "through"
"""


async def one_waits(engine: Engine) -> list[str]:
    """Wait until one process runs, and return those that wait for its place."""

    async def only() -> bool:
        statuses = [one.status for one in await engine.processes()]
        return statuses.count("waiting") == 1 and set(statuses) <= {"waiting", "idle", "ended"}

    await eventually(only)
    return [one.process_id for one in await engine.processes() if one.status == "idle"]


async def test_flow_control_is_that_of_the_package(store: Store, clock: VirtualClock) -> None:
    await deploy(store, version(1, NARROW))
    async with Engine(store, NODE) as engine:
        for name in "abc":
            await send(engine, "narrow", id=name)
        assert len(await one_waits(engine)) == 2
    async with Engine(store, NODE) as engine:  # who waits begins, though nothing was loaded when the engine started
        for left in (1, 0):
            clock.advance(HOUR)
            await eventually(lambda left=left: _left(engine, left))  # type: ignore[misc]  # a default that binds the number
            assert len(await one_waits(engine)) == left


async def _left(engine: Engine, count: int) -> bool:
    return [one.status for one in await engine.processes()].count("idle") == count


async def test_one_that_waits_for_a_place_begins_after_the_one_before_it_was_ended_by_force(store: Store) -> None:
    await deploy(store, version(1, NARROW))
    async with Engine(store, NODE) as engine:
        for name in "ab":
            await send(engine, "narrow", id=name)
        [waits] = await one_waits(engine)
    async with Engine(store, NODE) as engine:
        await engine.cancel("a" if waits == "b" else "b", force=True)
        await reaches(engine, waits, "waiting")


async def test_who_waits_for_a_place_begins_when_the_limits_of_its_type_are_known_again(store: Store) -> None:
    narrow = version(1, NARROW)
    await deploy(store, narrow)
    async with Engine(store, NODE) as engine:
        for name in "ab":
            await send(engine, "narrow", id=name)
        [waits] = await one_waits(engine)
    await lose(store, narrow)
    async with Engine(store, NODE) as engine:
        await engine.cancel("a" if waits == "b" else "b", force=True)
        assert (await engine.process(waits)).status == "idle"
        await deploy(store, narrow)
        await reaches(engine, waits, "waiting")
