"""A turn that waits leaves memory, and nobody can tell: mail and timers bring it back by replay."""

from __future__ import annotations

import asyncio
import gc
import weakref
from datetime import timedelta

import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, limits
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.errors import UsageError
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Comment, Ledger, Place, eventually, make_app, only_process, reaches

TENANT = "default"


async def out_of_memory(engine: Engine) -> None:
    """Wait until nothing is in memory."""

    async def empty() -> bool:
        return not engine._owner.residents

    await eventually(empty)


async def rests(engine: Engine, process_id: str) -> None:
    """Wait until a turn waits, and the engine knows that it is stored so."""

    async def resting() -> bool:
        resident = engine._owner.residents.get((TENANT, process_id))
        return resident is not None and resident.rests

    await eventually(resting)


async def waiting_order(engine: Engine, order_id: str = "1") -> str:
    """Place an order that waits for its approval; return its process's id."""
    receipt = await engine.deliver(Place(order_id, total=500), id=f"place-{order_id}")
    assert receipt.process_id is not None
    await rests(engine, receipt.process_id)
    return receipt.process_id


async def test_a_waiting_turn_leaves_memory_after_a_second_and_mail_brings_it_back(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        process_id = await waiting_order(engine)
        before = await inspection.process(engine.store, process_id)
        assert list(engine._owner.residents) == [(TENANT, process_id)]

        clock.advance(SECOND)
        await out_of_memory(engine)
        assert await inspection.process(engine.store, process_id) == before  # nobody can tell
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        await reaches(engine, process_id, "idle")

        assert (await only_process(engine)).fields["status"] == "approved"
    assert ledger.effects == ["charge 1", "settle 1"]


async def test_the_timer_of_a_turn_that_has_left_memory_brings_it_back(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        process_id = await waiting_order(engine)
        clock.advance(SECOND)
        await out_of_memory(engine)

        clock.advance(3 * 86_400 * SECOND)
        await reaches(engine, process_id, "idle")

        assert (await only_process(engine)).fields["status"] == "expired"
    assert ledger.effects == ["charge 1", "settle 1"]


async def test_queued_mail_waits_for_a_turn_that_has_left_memory(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        process_id = await waiting_order(engine)
        clock.advance(SECOND)
        await out_of_memory(engine)

        for number in range(3):
            await engine.deliver(Comment("1", f"c{number}"), id=f"c{number}")
        assert not engine._owner.residents  # none of them is for the turn that waits
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        await reaches(engine, process_id, "idle")

        await eventually(lambda: _comments(engine, ["c0", "c1", "c2"]))


async def _comments(engine: Engine, expected: list[str]) -> bool:
    return bool((await only_process(engine)).fields["comments"] == expected)


async def test_code_that_leaves_memory_can_tell_and_records_nothing(running: Running, clock: VirtualClock) -> None:
    app, left = App("leaving"), list[bool]()

    @app.process
    async def careful(p: Process) -> str:
        try:
            return (await p.receive(Approve)).by
        finally:
            left.append(p.leaving)

    async with running(app) as engine:
        task = asyncio.ensure_future(engine.call(careful, id="c"))
        await rests(engine, "c")
        before = (await inspection.process(engine.store, "c")).events
        clock.advance(SECOND)
        await out_of_memory(engine)
        assert (await inspection.process(engine.store, "c")).events == before

        await engine.deliver(Approve("1", by="boss"), id="a", to=Address.process("c"))

        assert await task == "boss"
    assert left == [True, False]


async def test_a_turn_stays_for_twenty_times_its_replay(running: Running, clock: VirtualClock) -> None:
    app = App("slow")

    @app.process
    async def slow(p: Process) -> str:
        clock.advance(SECOND // 10)  # so long takes its code, each time it runs
        await p.receive(Approve)
        return (await p.receive(Place)).order_id

    async with running(app) as engine:
        task = asyncio.ensure_future(engine.call(slow, id="s"))
        await rests(engine, "s")
        clock.advance(SECOND)
        await out_of_memory(engine)
        await engine.deliver(Approve("1"), id="a", to=Address.process("s"))
        await rests(engine, "s")
        clock.advance(SECOND + SECOND // 2)
        await engine.store.commit()
        assert list(engine._owner.residents) == [(TENANT, "s")]

        clock.advance(SECOND)
        await out_of_memory(engine)
        await engine.deliver(Place("9"), id="p", to=Address.process("s"))

        assert await task == "9"


async def test_over_the_bound_the_one_that_waits_longest_leaves_first(store: Store) -> None:
    async with Engine(store, make_app(Ledger()), max_resident=2) as engine:
        orders = [await waiting_order(engine, str(number)) for number in range(4)]

        assert [process_id for _, process_id in engine._owner.residents] == orders[2:]

        await engine.deliver(Approve("0"), id="a", to=Address.key("order:0"))
        await reaches(engine, orders[0], "idle")


async def test_a_turn_with_a_step_under_way_stays(running: Running, clock: VirtualClock) -> None:
    app, gate, begun = App("steps"), asyncio.Event(), list[str]()

    async def slow() -> str:
        begun.append("slow")
        await gate.wait()
        return "done"

    @app.process
    async def both(p: Process) -> str:
        await p.receive(Approve)
        step, approval = await asyncio.gather(p.step(slow), p.receive(Approve, timeout=timedelta(hours=1)))
        return f"{step} {approval}"

    async with running(app) as engine:
        task = asyncio.ensure_future(engine.call(both, id="b"))
        await rests(engine, "b")
        await engine.deliver(Approve("1"), id="a", to=Address.process("b"))
        await eventually(lambda: _begun(begun))
        clock.advance(60 * SECOND)
        await engine.store.commit()
        assert list(engine._owner.residents) == [(TENANT, "b")]

        gate.set()
        clock.advance(3600 * SECOND)

        assert await task == "done None"


async def _begun(begun: list[str]) -> bool:
    return begun == ["slow"]


async def test_a_turn_that_has_left_memory_is_freed_without_the_collector_of_cycles(running: Running, clock: VirtualClock) -> None:
    app, turns = App("freed"), list[weakref.ref[object]]()

    @app.process
    async def waits(p: Process) -> None:
        turns.append(weakref.ref(p._open()))
        async with asyncio.timeout(60):
            await asyncio.gather(p.receive(Approve), p.sleep(30), p.first(p.sleep(20), p.receive(Place)))

    async with running(app) as engine:
        gc.collect()
        gc.disable()
        try:
            task = asyncio.ensure_future(engine.call(waits, id="w"))
            await rests(engine, "w")
            clock.advance(SECOND)
            await out_of_memory(engine)
            assert [turn() for turn in turns] == [None]
        finally:
            gc.enable()
        task.cancel()


async def test_many_leave_in_rounds_and_all_come_back(running: Running, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAKE_UPS", 2)
    app, woken = App("many"), list[int]()

    @app.process
    async def sleeper(p: Process, number: int) -> None:
        await p.sleep(60)
        woken.append(number)

    async with running(app) as engine:
        tasks = [asyncio.ensure_future(engine.call(sleeper, number, id=f"s{number}")) for number in range(25)]
        for number in range(25):
            await rests(engine, f"s{number}")
        clock.advance(SECOND)
        await out_of_memory(engine)

        clock.advance(60 * SECOND)
        await asyncio.gather(*tasks)

    assert sorted(woken) == list(range(25))


@pytest.mark.parametrize("bound", ["max_threads", "max_concurrency", "max_steps", "max_resident"])
async def test_a_bound_of_nothing_is_refused(store: Store, bound: str) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Engine(store, App("none"), **{bound: 0})  # type: ignore[arg-type]  # only bounds are named
