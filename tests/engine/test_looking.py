"""An engine goes on looking for what is due, and for what others have left, after a look has failed for a bug."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from perdure import Address, App, Engine, Process, Store, VirtualClock
from perdure.clock import SECOND
from perdure.core.table import Index, Scan
from perdure.engine import inspection
from perdure.flows.tables import WANTED
from perdure.messages.tables import DELAYED, LEFT
from perdure.timers.tables import DUE, SCHEDULES_DUE
from tests.engine.orders import Ledger, Place, eventually, holds, make_app, reaches
from tests.engine.timetable import Log, quiet, timetable

LATER = 3600 * SECOND


class Broken:
    """A store that cannot scan some indexes, for a reason that nobody has thought of."""

    def __init__(self, store: Store) -> None:
        reader: Any = store.access.reader
        self.scan = reader.scan
        self.indexes: dict[Index[Any], int] = {}
        self.failed: list[Index[Any]] = []
        setattr(reader, "scan", self._scan)  # noqa: B010  # as one injects a fault

    async def _scan(self, scan: Scan[Any]) -> Any:
        if self.indexes.get(scan.index, 0) > 0:
            self.indexes[scan.index] -= 1
            self.failed.append(scan.index)
            raise LookupError("a bug")
        return await self.scan(scan)


def sleepers() -> App:
    app = App("sleepers")

    @app.process
    async def sleeper(p: Process) -> str:
        await p.sleep(3600)
        return "awake"

    @app.process
    async def planner(p: Process) -> None:
        p.send(Place("1"), to=Address.process("nobody"), after=timedelta(hours=1))

    app.extras = {"sleeper": sleeper, "planner": planner}  # type: ignore[attr-defined]  # handed to the tests
    return app


async def test_timers_fire_and_messages_are_delivered_when_another_look_fails_for_a_bug(store: Store, clock: VirtualClock) -> None:
    broken = Broken(store)
    async with Engine(store, sleepers()) as engine:
        made: Any = engine.app
        call = asyncio.ensure_future(engine.call(made.extras["sleeper"], id="s"))
        await engine.call(made.extras["planner"], id="p")
        await reaches(engine, "s", "waiting")
        broken.indexes = {WANTED: 10}

        clock.advance(LATER)

        assert await call == "awake"
        await eventually(lambda: _dead(store, 1))
        assert WANTED in broken.failed


async def _dead(store: Store, count: int) -> bool:
    return len(await inspection.dead_letters(store)) == count


async def test_a_look_that_failed_for_a_bug_is_made_again(store: Store, clock: VirtualClock) -> None:
    broken = Broken(store)
    async with Engine(store, sleepers()) as engine:
        made: Any = engine.app
        call = asyncio.ensure_future(engine.call(made.extras["sleeper"], id="s"))
        await reaches(engine, "s", "waiting")
        await holds(lambda: not engine._owner.wheel._turning)
        broken.indexes = {DUE: 1, DELAYED: 1}
        clock.advance(LATER)
        await eventually(lambda: _failed(broken, clock, 2, or_done=call))

        clock.advance(SECOND)

        assert await call == "awake"


async def _failed(broken: Broken, clock: VirtualClock, count: int, *, or_done: asyncio.Future[Any] | None = None) -> bool:
    """Return whether so many looks have failed and another is to come; if they failed before the clock moved, it has come."""
    return len(broken.failed) >= count and (clock.next_alarm() is not None or (or_done is not None and or_done.done()))


async def test_schedules_fire_after_a_look_at_them_has_failed_for_a_bug(store: Store, clock: VirtualClock) -> None:
    broken, log = Broken(store), Log()
    async with Engine(store, timetable(log, often={"interval": 60, "catch_up": "all"})) as engine:
        await quiet(engine)
        broken.indexes = {SCHEDULES_DUE: 1}
        clock.advance(60 * SECOND)
        await quiet(engine)
        assert (len(broken.failed), log.ran) == (1, [])

        clock.advance(SECOND)
        await quiet(engine)

        assert len(log.slots("often")) == 1


async def test_what_others_leave_is_found_after_a_look_has_failed_for_a_bug(store: Store, clock: VirtualClock) -> None:
    broken, ledger = Broken(store), Ledger()
    async with Engine(store, make_app(ledger)) as engine:
        await engine.deliver(Place("1", total=5000), id="p", to=Address.start("Order", key="order:1", id="o"))
        await reaches(engine, "o", "waiting")
        broken.indexes = {LEFT: 1}

        await inspection.cancel(store, "o")
        await eventually(lambda: _failed(broken, clock, 1))
        clock.advance(SECOND)

        await reaches(engine, "o", "ended")
