"""Where turns run, and what stays in memory when they are over."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from datetime import timedelta

import pytest

from perdure import Address, App, Engine, Process, VirtualClock, on
from perdure.clock import SECOND
from tests.engine.conftest import Running
from tests.engine.orders import Place, eventually


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The collector of cycles does not run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
async def test_a_turn_that_is_over_is_freed_without_the_collector_of_cycles(running: Running) -> None:
    app = App("memory")
    turns: list[weakref.ref[object]] = []

    async def number(value: int) -> int:
        return value

    @app.process
    async def function(p: Process, value: int) -> int:
        turns.append(weakref.ref(p._open()))
        return await p.step(number, value)

    @app.process
    class Shop(Process):
        orders: int = 0

        @on(Place, start=True, key=lambda _message: "shop")
        async def place(self, message: Place) -> int:
            turns.append(weakref.ref(self._open()))
            self.orders += await self.step(number, 1)
            return self.orders

    async with running(app) as engine:
        for call in range(3):
            await engine.call(function, call)
            await engine.call(Shop.place, Place(str(call)))
        await engine.store.commit()  # whatever was under way is over

        assert len(turns) == 6
        assert [turn for turn in turns if turn() is not None] == []


async def test_a_turn_is_never_driven_from_inside_a_task(running: Running) -> None:
    app = App("outside")
    inside: list[object] = []

    async def number() -> int:
        return 1

    @app.process
    async def hello(p: Process) -> None:
        loop = running_engine[0]._owner.loop
        for _ in range(2):
            inside.append(asyncio.current_task(loop))
            await p.step(number)
        inside.append(asyncio.current_task(loop))

    running_engine = []
    async with running(app) as engine:
        running_engine.append(engine)
        await engine.call(hello)

    assert inside == [None, None, None]


def make_sleepers() -> App:
    """An app whose processes sleep for a day."""
    app = App("sleepers")

    @app.process
    class Sleeper(Process):
        @on(Place, start=True)
        async def place(self, _message: Place) -> None:
            await self.sleep(timedelta(days=1))

    return app


async def put_to_sleep(engine: Engine, numbers: range) -> None:
    """Start that many processes, and wait until their turns wait."""

    async def waiting() -> bool:
        return all(resident.rests for resident in engine._owner.residents.values()) and not engine._owner.dispatcher.crowded

    await asyncio.gather(*(engine.deliver(Place("x"), id=f"{number}", to=Address.start("Sleeper")) for number in numbers))
    await eventually(waiting)


async def forget_rows(engine: Engine) -> None:
    """Forget what is kept for speed alone, and what nobody can reach."""
    await engine.store.commit()
    engine.store.access.writer._backend._cache.clear()  # type: ignore[attr-defined]  # SQLite's, the only one
    gc.collect()


async def test_what_sleeps_leaves_nothing_in_memory(running: Running, clock: VirtualClock) -> None:
    sleepers = 500

    async with running(make_sleepers()) as engine:

        async def empty() -> bool:
            return not engine._owner.residents

        blocks = []
        for share in range(3):
            await put_to_sleep(engine, range(share * sleepers, (share + 1) * sleepers))
            clock.advance(2 * SECOND)
            await eventually(empty)
            await forget_rows(engine)
            blocks.append(sys.getallocatedblocks())  # objects of every kind: the collector does not know them all

        first, second, third = blocks
        assert min(second - first, third - second) < sleepers / 2, "less than one object for two that sleep"


async def test_a_turn_that_waits_in_memory_takes_less_than_9_kb(running: Running) -> None:
    sleepers = 100
    async with running(make_sleepers()) as engine:
        await put_to_sleep(engine, range(sleepers))
        await forget_rows(engine)

        tracemalloc.start()
        try:
            await put_to_sleep(engine, range(sleepers, 2 * sleepers))
            await forget_rows(engine)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert len(engine._owner.residents) == 2 * sleepers
        assert taken < 9_000 * sleepers
