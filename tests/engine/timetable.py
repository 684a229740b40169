"""An app with scheduled processes, and a clock that goes from alarm to alarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from perdure import App, Engine, Process, VirtualClock

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
STILL = 12  # rounds of the loop; what a step or a callback goes through takes fewer
START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z


class Log:
    """The slots whose processes ran, in order; a gate that holds them."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def note(self, name: str, slot: datetime) -> int:
        self.ran.append((name, int(slot.timestamp()) * SECOND))
        await self.open.wait()
        return len(self.ran)

    def slots(self, name: str) -> list[int]:
        return [slot for ran, slot in self.ran if ran == name]


def timetable(log: Log, **declared: dict[str, Any]) -> App:
    """Return an app with a function process for each name, scheduled as it says."""
    app = App("timetable")
    for name, timing in declared.items():
        app.schedule(timing.pop("cron", None), **timing)(app.process(_process(log, name)))
    return app


def _process(log: Log, name: str) -> Callable[..., object]:
    async def run(p: Process, slot: datetime) -> int:
        return await p.step(log.note, name, slot)

    run.__name__ = name
    return run


async def quiet(engine: Engine) -> None:
    """Let the engine do all that is to be done at this instant."""
    owner, writer, still = engine._owner, engine.store.access.writer, 0
    wheel = owner.wheel
    for _ in range(1_000_000):
        due = wheel._next is not None and wheel._next <= engine.clock.now()
        idle = writer._wake is not None and not writer._wake.done()
        busy = wheel._turning or wheel.schedules._turning or due or owner._later or owner._running_later or not idle
        still = 0 if busy else still + 1
        if still > STILL:
            return
        await asyncio.sleep(0)
    raise AssertionError("the engine never came to rest")


async def until(engine: Engine, clock: VirtualClock, end: int) -> None:
    """Move the clock from alarm to alarm up to `end`."""
    await quiet(engine)
    while (alarm := clock.next_alarm()) is not None and alarm <= end:
        clock.advance(alarm - clock.now())
        await quiet(engine)
    clock.advance(end - clock.now())
    await quiet(engine)
