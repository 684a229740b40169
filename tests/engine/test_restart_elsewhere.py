"""Turns that are run again from where no app is, while an engine has them open and somebody waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import App, Engine, Process, Store, VirtualClock
from perdure.clock import SECOND
from perdure.conversations.tables import EVENTS
from perdure.core.table import Scan
from perdure.engine import inspection
from perdure.errors import TurnFailed
from tests.engine.orders import crash, eventually, holds
from tests.engine.test_residency import out_of_memory, rests


class Slow:
    """An app whose process runs quick steps, and then one that does not end by itself."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.open = asyncio.Event()
        self.app = App("slow")

        @self.app.process
        async def work(p: Process, naps: bool) -> str:
            first = await p.step(self.quick, name="quick")
            if naps:
                await p.step(self.quick, name="quick")
                await p.sleep(3600)
            return first + await p.step(self.slow, name="slow")

        self.work = work

    async def quick(self) -> str:
        self.effects.append("quick")
        return f"{len(self.effects)} "

    async def slow(self) -> str:
        self.effects.append("slow")
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.effects.append("called off")
            raise
        return "done"


async def replied(engine: Engine, message_id: str) -> None:
    async def sealed() -> bool:
        return (await engine.explain(message_id)).reply is not None

    await eventually(sealed)


async def told(call: asyncio.Task[str], text: str) -> None:
    await holds(call.done)
    with pytest.raises(TurnFailed, match=text):
        await call


async def test_a_turn_in_memory_stops_at_once_and_its_callers_hear(store: Store) -> None:
    slow = Slow()
    async with Engine(store, slow.app) as engine:
        call = asyncio.create_task(engine.call(slow.work, False, id="w"))
        await holds(lambda: "slow" in slow.effects)

        assert await inspection.restart_from(store, "quick", "w") == "w~2"

        await told(call, "restarted from 'quick' as 'w~2'")
        await holds(lambda: slow.effects == ["quick", "slow", "called off", "quick", "slow"])
        slow.open.set()
        await replied(engine, "w~2")
        assert slow.effects == ["quick", "slow", "called off", "quick", "slow"]


async def test_callers_of_a_turn_that_has_left_memory_hear(store: Store, clock: VirtualClock) -> None:
    slow = Slow()
    async with Engine(store, slow.app) as engine:
        call = asyncio.create_task(engine.call(slow.work, True, id="w"))
        await rests(engine, "w")
        clock.advance(SECOND)
        await out_of_memory(engine)

        assert await inspection.restart_from(store, "quick#2", "w") == "w~2"
        assert await inspection.restart_from(store, "quick", "w") == "w~3"

        await told(call, "restarted from 'quick#2' as 'w~2'")
        await rests(engine, "w")
        slow.open.set()
        clock.advance(3600 * SECOND)
        await replied(engine, "w~3")


async def test_a_turn_that_is_being_read_does_not_go_on(store: Store) -> None:
    slow, read, go = Slow(), asyncio.Event(), asyncio.Event()
    engine = Engine(store, slow.app)
    await engine.__aenter__()
    call = asyncio.create_task(engine.call(slow.work, False, id="w"))
    await holds(lambda: "slow" in slow.effects)
    await crash(engine)
    call.cancel()
    reader: Any = store.access.reader
    scan = reader.scan

    async def scanned(asked: Scan[Any]) -> Any:
        rows = await scan(asked)
        if asked.index is EVENTS:
            read.set()
            await go.wait()
        return rows

    reader.scan = scanned
    async with Engine(store, slow.app) as engine:
        await read.wait()
        await inspection.restart_from(store, "quick", "w")
        await holds(lambda: any(resident.missed for resident in engine._owner.residents.values()))
        go.set()

        await holds(lambda: slow.effects.count("quick") == 2)
