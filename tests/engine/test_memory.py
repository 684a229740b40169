"""Where turns run, and what stays in memory when they are over."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from perdure import App, Process, on
from tests.engine.conftest import Running
from tests.engine.orders import Place


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
