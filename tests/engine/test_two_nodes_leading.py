"""Two engines on one database: what concerns no process alone is done by one node at a time, and goes on with the other."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from perdure import App, Flow, Process, Retention, VirtualClock
from perdure.clock import SECOND
from tests.engine.nodes import Nodes, comes, happens, two_nodes
from tests.engine.orders import Ledger, make_app
from tests.engine.test_two_nodes import number_of

MANY = 12


@pytest.fixture
def url(postgres_url: str, unhurried: None) -> str:
    del unhurried
    return postgres_url


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def at_least(ran: list[str], count: int) -> bool:
    return len(ran) >= count


async def test_a_schedule_fires_once_for_each_slot_whoever_leads(url: str, clock: VirtualClock) -> None:
    app, ran = App("timetable"), []

    async def note(slot: str) -> None:
        ran.append(slot)

    @app.schedule(interval=timedelta(hours=1))
    @app.process
    async def hourly(p: Process, slot: datetime) -> None:
        await p.step(note, slot.astimezone(UTC).isoformat())

    async with two_nodes(url, app, clock) as nodes:
        for count in range(1, 4):
            clock.advance(3600 * SECOND)
            await happens(partial(at_least, ran, count), nodes)
            await comes(partial(number_of, nodes, "ended", count))
        await nodes.kill(nodes.a)
        await nodes.take_over(nodes.a, nodes.b)
        for count in range(4, 7):
            clock.advance(3600 * SECOND)
            await happens(partial(at_least, ran, count), nodes)

        assert len(ran) == len(set(ran)) == 6


async def test_a_slot_that_waits_for_the_firing_before_it_is_released_though_that_ran_on_the_other_node(
    url: str, clock: VirtualClock
) -> None:
    app, ran, gate = App("timetable"), [], asyncio.Event()

    async def note(slot: str) -> None:
        ran.append(slot)
        await gate.wait()

    @app.schedule(interval=timedelta(hours=1), overlap="queue")
    @app.process
    async def hourly(p: Process, slot: datetime) -> None:
        await p.step(note, slot.astimezone(UTC).isoformat())

    async with two_nodes(url, app, clock) as nodes:
        for _ in range(4):
            clock.advance(3600 * SECOND)
            await comes(partial(slots_decided, nodes, clock.now()))
        await happens(partial(at_least, ran, 1), nodes)

        gate.set()

        await happens(partial(at_least, ran, 4), nodes)
        assert len(set(ran)) == 4
        owners = {
            nodes.a._owner.shards.mine("default", process_id) for (process_id,) in await nodes.run("select process_id from perdure.process")
        }
        assert owners == {True, False}, "some on each node"


async def slots_decided(nodes: Nodes, now: int) -> bool:
    return await nodes.run("select count(*) from perdure.schedule where next_at <= $1", now) == [(0,)]


async def test_limits_of_a_flow_hold_over_both_nodes_and_over_a_takeover(url: str, clock: VirtualClock) -> None:
    app, now, most = App("flow"), Counter[str](), Counter[str]()

    async def work(name: str) -> str:
        now["all"] += 1
        most["all"] = max(most["all"], now["all"])
        for _ in range(5):
            await asyncio.sleep(0)
        now["all"] -= 1
        return name

    @app.process(flow=Flow(concurrency=3))
    async def job(p: Process, name: str) -> str:
        return await p.step(work, name)

    async with two_nodes(url, app, clock) as nodes:
        ids = [nodes.id_on(engine) for engine in (nodes.a, nodes.b) for _ in range(MANY)]
        replies = await asyncio.gather(*((nodes.a if number % 3 else nodes.b).call(job, name, id=name) for number, name in enumerate(ids)))
        assert replies == ids
        assert most["all"] <= 3

        more = [nodes.id_on(nodes.a) for _ in range(MANY)]
        calls = [asyncio.create_task(nodes.b.call(job, name, id=name)) for name in more]
        await comes(partial(some_done, nodes, 2 * MANY + 1))
        await nodes.kill(nodes.a)
        now.clear()
        await nodes.take_over(nodes.a, nodes.b)
        assert await asyncio.gather(*calls) == more


async def some_done(nodes: Nodes, count: int) -> bool:
    [(found,)] = await nodes.run("select count(*) from perdure.turn where state = 'finished'")
    return bool(found >= count)


async def test_only_the_node_that_leads_sweeps(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    app = make_app(ledger)
    hello = app.extras["hello"]  # type: ignore[attr-defined]  # the app's own
    week = Retention(turns=timedelta(days=7), finished_processes=timedelta(days=7))
    async with two_nodes(url, app, clock, retention=week) as nodes:
        await asyncio.gather(
            *(engine.call(hello, name, id=name) for engine in (nodes.a, nodes.b) for name in (nodes.id_on(nodes.a), nodes.id_on(nodes.b)))
        )
        swept = Counter[str]()
        for name, engine in (("a", nodes.a), ("b", nodes.b)):
            sweeper = engine._sweeper
            whole = sweeper.sweep

            async def counted(name: str = name, whole: Any = whole) -> Any:
                swept[name] += 1
                return await whole()

            sweeper.sweep = counted  # type: ignore[method-assign]  # counts
        clock.advance(8 * 86_400 * SECOND)

        async def gone() -> bool:
            clock.advance(60 * SECOND)
            return await nodes.run("select count(*) from perdure.turn") == [(0,)]

        await comes(gone)
        assert swept["a"]
        assert not swept["b"]
