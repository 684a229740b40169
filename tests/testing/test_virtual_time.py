"""Time that passes by itself when nothing is under way, and only then."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import Address, App, Process, limits, testing
from perdure.clock import SECOND
from perdure.errors import UsageError
from perdure.testing.idle import when_idle
from tests.testing.shop import Approve, Place, Shop

DAY = 86_400 * SECOND


class Waits:
    """A loop's selector that counts how often the loop really waits."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.count = 0

    def select(self, timeout: float | None) -> Any:
        self.count += timeout is None or timeout > 0
        return self.inner.select(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def a_real_wait() -> None:
    """Return when the loop has had nothing to do and has really waited for a thread."""
    idle = threading.Event()

    def listener(alone: bool) -> bool:
        idle.set()
        return False

    with when_idle(listener):
        await asyncio.get_running_loop().run_in_executor(None, idle.wait)


async def test_a_three_day_approval_is_over_without_one_real_wait() -> None:
    loop: Any = asyncio.get_running_loop()
    waits, before = Waits(loop._selector), loop._selector
    loop._selector = waits
    shop = Shop()

    async with testing.engine(shop.app, max_threads=1) as engine:
        began = engine.clock.now()
        assert await engine.call(shop.order.place, Place("1"), id="p1") == "expired"
        assert 3 * DAY < engine.clock.now() - began < 3 * DAY + 60 * SECOND
        waited = waits.count  # not those after it: the close of the store waits for a thread

    assert loop._selector is waits, "the loop is as it was"
    loop._selector = before
    assert waited == 0


async def test_an_approval_that_comes_in_time_is_taken_before_any_time_passes() -> None:
    shop = Shop()

    async with testing.engine(shop.app) as engine:
        await engine.deliver(Place("1"), id="p1")
        await engine.advance(timedelta(hours=1))
        await engine.deliver(Approve("1"), id="a1", to=Address.key("order:1"))
        began = engine.clock.now()
        assert await engine.call(shop.order.place, Place("1"), id="p1") == "parcel 1"
        assert engine.clock.now() == began


async def test_time_stands_still_when_nobody_waits_for_a_reply() -> None:
    shop = Shop()

    async with testing.engine(shop.app) as engine:
        began = engine.clock.now()
        await engine.deliver(Place("1"), id="p1")
        await testing.settled(engine)
        await a_real_wait()
        assert shop.ledger.counts["charge 1"] == 1
        assert engine.clock.now() == began


def waiting_app(step: Any) -> tuple[App, Any, Any]:
    app = App("steps")

    @app.process
    async def works(p: Process) -> str:
        return await p.step(step)

    @app.process
    async def sleeps(p: Process) -> str:
        await p.sleep(3600)
        return "slept"

    return app, works, sleeps


async def test_time_stands_still_while_an_async_step_waits_for_the_world_outside() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def ask() -> str:
        begun.set()
        await gate.wait()
        return "asked"

    app, works, sleeps = waiting_app(ask)
    async with testing.engine(app) as engine:
        began = engine.clock.now()
        calls = [asyncio.ensure_future(engine.call(handler, id=handler.__name__)) for handler in (works, sleeps)]
        await begun.wait()
        await a_real_wait()
        assert engine.clock.now() == began
        gate.set()
        assert await asyncio.gather(*calls) == ["asked", "slept"]
        assert engine.clock.now() == began + 3600 * SECOND


async def test_time_stands_still_while_a_thread_works() -> None:
    begun, gate = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        gate.wait()
        return "worked"

    app, works, sleeps = waiting_app(work)
    async with testing.engine(app) as engine:
        began = engine.clock.now()
        calls = [asyncio.ensure_future(engine.call(handler, id=handler.__name__)) for handler in (works, sleeps)]
        await asyncio.get_running_loop().run_in_executor(None, begun.wait)
        await a_real_wait()
        meanwhile = engine.clock.now()
        gate.set()  # before anything can fail: the thread would keep the interpreter from ending
        assert meanwhile == began
        assert await asyncio.gather(*calls) == ["worked", "slept"]


async def test_by_hand_the_time_passes_only_as_told_and_what_is_due_on_the_way_happens_on_its_way() -> None:
    app = App("naps")
    woken: list[int] = []

    @app.process
    async def naps(p: Process) -> int:
        for _ in range(3):
            await p.sleep(timedelta(days=1))
            woken.append(engine.clock.now())
        return len(woken)

    async with testing.engine(app, auto_advance=False) as engine:
        began = engine.clock.now()
        call = asyncio.ensure_future(engine.call(naps, id="n"))
        await engine.settled()
        assert not call.done()
        await engine.advance(timedelta(days=2, hours=1))
        assert woken == [began + DAY, began + 2 * DAY]
        assert engine.clock.now() == began + 2 * DAY + 3600 * SECOND
        engine.clock.advance(timedelta(hours=23))
        assert await call == 3


async def test_it_starts_when_the_test_says() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)

    async with testing.engine(Shop().app, start=start) as engine:
        assert engine.clock.now() == start.timestamp() * SECOND

    with pytest.raises(UsageError, match="time zone"):
        async with testing.engine(Shop().app, start=datetime(2030, 1, 1)):  # noqa: DTZ001  # what it is about
            raise AssertionError("unreachable")


async def test_a_reply_that_can_never_come_is_an_error_instead_of_a_test_that_hangs() -> None:
    shop = Shop()

    async with testing.engine(shop.app) as engine:
        with pytest.raises(UsageError, match="nothing is due: it would never come"):
            await engine.deliver(Approve("1"), id="a1", to=Address.key("nobody"), wait=True)


async def test_a_reply_is_not_waited_for_longer_than_a_hundred_years() -> None:
    app = App("ages")

    @app.process
    async def ever(p: Process) -> None:
        while True:
            await p.sleep(timedelta(days=10_000))

    async with testing.engine(app) as engine:
        with pytest.raises(UsageError, match="in a hundred years"):
            await engine.call(ever, id="e")


async def test_a_reply_is_not_waited_for_over_more_than_so_many_steps_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("schedule")
    monkeypatch.setattr(limits, "TESTING_ADVANCES_MAX", 20)

    @app.process
    async def every_minute(p: Process, minutes: int) -> int:
        for _ in range(minutes):
            await p.sleep(60)
        return minutes

    async with testing.engine(app) as engine:
        assert await engine.call(every_minute, 15, id="few") == 15
        assert await engine.call(every_minute, 15, id="few more") == 15
        with pytest.raises(UsageError, match="in 20 steps of the clock"):
            await engine.call(every_minute, 1000, id="many")


async def test_a_loop_that_does_not_say_when_it_is_idle_is_refused() -> None:
    loop: Any = asyncio.get_running_loop()
    selector, loop._selector = loop._selector, None
    try:
        with pytest.raises(UsageError, match="event loop of asyncio's own"), when_idle(lambda alone: alone):
            raise AssertionError("unreachable")
    finally:
        loop._selector = selector
