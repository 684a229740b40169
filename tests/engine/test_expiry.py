"""Queued messages that no handler is for, and whose time is over before anybody receives them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from perdure import Address, App, Process, on, testing
from perdure.engine import inspection
from perdure.errors import NoRoute
from perdure.testing import EffectLedger, VirtualEngine
from tests.engine.orders import eventually

SOON = timedelta(seconds=5)
ORDER = Address.process("o")


class Place(msgspec.Struct, tag="place"):
    pass


class Go(msgspec.Struct, tag="go"):
    pass


class Note(msgspec.Struct, tag="note"):
    text: str


class Ask(msgspec.Struct, tag="ask"):
    pass


class Desk:
    """An order that looks at notes only when it is told to go on."""

    def __init__(self) -> None:
        self.ledger = EffectLedger()
        self.release = asyncio.Event()
        self.release.set()
        self.app = App("desk")
        desk = self

        @self.app.process
        class Order(Process):
            @on(Place, start=True, key=lambda _message: "order")
            async def place(self, _message: Place) -> list[str]:
                await self.receive(Go)
                await self.step(desk.work)
                found = []
                while (note := await self.receive(Note, timeout=timedelta(seconds=1))) is not None:
                    found.append(note.text)
                return found

            @on(Ask)
            async def asked(self, _message: Ask) -> str:
                return "answered"

    async def work(self) -> None:
        self.ledger.note("work")
        await self.release.wait()

    async def open(self, engine: VirtualEngine) -> asyncio.Task[object]:
        placed = asyncio.create_task(engine.deliver(Place(), id="o", to=Address.start("Order", id="o"), wait=True))
        await engine.settled()
        return placed

    async def scenario(self, engine: VirtualEngine) -> object:
        placed = await self.open(engine)
        await engine.deliver(Note("late"), id="late", to=ORDER, expires_after=SOON)
        await engine.deliver(Note("kept"), id="kept", to=ORDER)
        await engine.advance(SOON)
        await engine.deliver(Go(), id="go", to=ORDER)
        letters = await dead(engine)
        return await placed, letters


async def dead(engine: VirtualEngine) -> list[tuple[str, str]]:
    return [(str(one.message_id), one.reason) for one in await inspection.dead_letters(engine.store)]


async def _has_died(engine: VirtualEngine) -> bool:
    return await dead(engine) == [("late", "no-handler")]


async def test_a_queued_message_without_a_handler_is_a_dead_letter_when_it_expires() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        placed = await desk.open(engine)
        late = asyncio.create_task(engine.deliver(Note("late"), id="late", to=ORDER, expires_after=SOON, wait=True))
        await engine.settled()
        await engine.advance(SOON - timedelta(microseconds=1))
        assert await dead(engine) == []
        await engine.advance(timedelta(microseconds=1))

        with pytest.raises(NoRoute, match="has no handler for a 'note' and did not receive it in time"):
            await late
        assert await dead(engine) == [("late", "no-handler")]
        await engine.deliver(Go(), id="go", to=ORDER)
        assert await placed == []


async def test_one_that_was_parked_for_the_key_expires_behind_it_as_well() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        await engine.deliver(Note("late"), id="late", to=Address.key("order"), expires_after=SOON)
        placed = asyncio.create_task(engine.deliver(Place(), id="o", wait=True))
        await engine.settled()
        await engine.advance(SOON)
        assert await dead(engine) == [("late", "no-handler")]
        await engine.deliver(Go(), id="go", to=Address.key("order"))
        assert await placed == []


async def test_a_message_with_a_handler_waits_in_line_as_long_as_that_takes() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        await desk.open(engine)
        asked = asyncio.create_task(engine.deliver(Ask(), id="a", to=ORDER, expires_after=SOON, wait=True))
        await engine.settled()
        await engine.advance(2 * SOON)
        await engine.deliver(Go(), id="go", to=ORDER)
        assert await asked == "answered"
        assert await dead(engine) == []


async def test_mail_with_a_handler_has_no_expiry_once_it_is_queued() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        placed = await desk.open(engine)
        await engine.deliver(Ask(), id="a", to=ORDER, expires_after=SOON)
        await engine.deliver(Note("n"), id="n", to=ORDER, expires_after=SOON)
        expiries = [(await inspection.explain(engine.store, id)).expires_at for id in ("a", "n")]
        assert expiries[0] is None
        assert expiries[1] is not None
        await engine.deliver(Go(), id="go", to=ORDER)
        assert await placed == ["n"]


async def test_a_turn_that_has_an_expired_message_in_memory_does_not_get_it() -> None:
    desk = Desk()
    desk.release.clear()
    async with testing.engine(desk.app) as engine:
        placed = await desk.open(engine)
        await engine.deliver(Go(), id="go", to=ORDER)
        await engine.deliver(Note("late"), id="late", to=ORDER, expires_after=SOON)
        await engine.deliver(Note("kept"), id="kept", to=ORDER)
        await engine.deliver(Note("lasting"), id="lasting", to=ORDER, expires_after=3 * SOON)
        engine.clock.advance(SOON)
        await eventually(lambda: _has_died(engine))
        desk.release.set()

        assert await placed == ["kept", "lasting"]
        await engine.advance(3 * SOON)
        assert await dead(engine) == [("late", "no-handler")]


async def test_a_crash_at_each_commit_lets_it_expire_once() -> None:
    desk = Desk()
    report = await testing.crashes(desk.app, desk.scenario, ledger=desk.ledger)
    report.check(windows={"work"})
