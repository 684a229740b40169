"""Pausing and resuming processes: nothing begins meanwhile, nothing is lost, and they go on where they were."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, on
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.errors import IllegalTransition, ProcessEnded, ProcessNotFound
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Comment, Ledger, Place, eventually, holds, make_app, only_process, reaches

DAY = 86_400 * SECOND


class Note(msgspec.Struct, tag="note"):
    pass


async def settle(engine: Engine) -> None:
    """Let everything that is under way come to its end."""
    for _ in range(200):
        await asyncio.sleep(0)
    await engine.store.commit()


async def test_a_paused_process_takes_neither_mail_nor_timers_until_it_is_resumed(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        call = asyncio.create_task(engine.deliver(Place("1", 200), id="p", wait=True))
        await reaches(engine, (await _there(engine)).process_id, "waiting")
        process = await only_process(engine)

        assert await engine.pause(process.process_id, reason="audit")
        assert not await engine.pause(process.process_id)
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        clock.advance(4 * DAY)
        await settle(engine)
        assert (await only_process(engine)).note == "paused: audit"
        assert ledger.effects == ["charge 1"]
        await holds(lambda: engine._owner.residents == {})

        await engine.resume(process.process_id)
        assert (await call)["status"] == "approved", "the message was there before anybody looked at the clock"
        assert ledger.effects == ["charge 1", "settle 1"]


async def _there(engine: Engine, process_type: str = "Order") -> inspection.ProcessInfo:
    async def one() -> bool:
        return bool(await inspection.processes(engine.store))

    await eventually(one)
    return await only_process(engine, process_type)


async def test_a_step_that_runs_is_recorded_and_the_next_one_waits_for_the_resume(running: Running) -> None:
    app, effects, go_on = App("steps"), list[str](), asyncio.Event()

    async def slow(name: str) -> str:
        effects.append(name)
        await go_on.wait()
        return name

    @app.process
    async def two(p: Process) -> list[str]:
        return [await p.step(slow, "first"), await p.step(slow, "second")]

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(two, id="t"))
        await eventually(lambda: _is(effects == ["first"]))
        await engine.pause("t")
        go_on.set()
        await settle(engine)
        assert effects == ["first"]
        assert [event.name for event in await inspection.timeline(engine.store, "t") if event.name] == ["slow"]

    async with running(app) as engine:
        await settle(engine)
        assert (await inspection.process(engine.store, "t")).status == "paused", "a restart does not resume it"
        await engine.resume("t")
        assert await engine.call(two, id="t") == ["first", "second"]
    assert effects == ["first", "second"]
    call.cancel()


async def test_an_idle_process_that_is_paused_handles_what_came_in_order(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        await engine.pause(process.process_id)
        for n in range(3):
            await engine.deliver(Comment("1", str(n)), id=f"c{n}")
        await settle(engine)
        assert (await only_process(engine)).fields["comments"] == []

        await engine.resume(process.process_id)
        assert await engine.deliver(Comment("1", "last"), id="last", wait=True) == 4
        assert (await only_process(engine)).fields["comments"] == ["0", "1", "2", "last"]


async def test_a_turn_that_ran_ahead_is_handled_after_the_resume(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        for n in range(5):
            await engine.deliver(Comment("1", str(n)), id=f"c{n}")
        await engine.pause(process.process_id)
        await settle(engine)

        await engine.resume(process.process_id)
        assert await engine.deliver(Comment("1", "last"), id="last", wait=True) == 6
        assert (await only_process(engine)).fields["comments"] == ["0", "1", "2", "3", "4", "last"]


async def test_a_turn_that_ends_while_it_is_paused_stays_paused(running: Running) -> None:
    app, go_on = App("ends"), asyncio.Event()

    @app.process
    class Ends(Process):
        @on(Note, start=True, key=lambda _message: "e")
        async def note(self, message: Note) -> int:
            return await self.step(wait)

    async def wait() -> int:
        await go_on.wait()
        return 1

    async with running(app) as engine:
        calls = [asyncio.create_task(engine.deliver(Note(), id=id, wait=True)) for id in ("1", "2")]
        await reaches(engine, (await _there(engine, "Ends")).process_id, "runnable")
        process = await only_process(engine, "Ends")
        await engine.pause(process.process_id)
        go_on.set()
        await settle(engine)
        assert (await only_process(engine, "Ends")).status == "paused"
        assert [call.done() for call in calls] == [True, False]

        await engine.resume(process.process_id)
        assert await calls[1] == 1


async def test_a_process_is_paused_and_resumed_from_where_no_app_is(store: Store) -> None:
    app = make_app(Ledger())
    async with Engine(store, app) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        assert await inspection.pause(store, process.process_id)
        await engine.deliver(Comment("1", "x"), id="c")
        await settle(engine)
        assert (await only_process(engine)).fields["comments"] == []

        await inspection.resume(store, process.process_id)
        assert await engine.deliver(Comment("1", "y"), id="d", wait=True) == 2


async def test_a_waiting_process_that_is_paused_from_where_no_app_is_begins_nothing_more(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with Engine(store, make_app(ledger)) as engine:
        call = asyncio.create_task(engine.deliver(Place("1", 200), id="p", wait=True))
        await reaches(engine, (await _there(engine)).process_id, "waiting")
        process = await only_process(engine)
        await inspection.pause(store, process.process_id)
        clock.advance(4 * DAY)
        await settle(engine)
        assert ledger.effects == ["charge 1"]

        await inspection.resume(store, process.process_id)
        assert (await call)["status"] == "expired"


async def test_a_paused_process_can_be_cancelled(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        await engine.pause(process.process_id)
        await engine.cancel(process.process_id)
        assert (await only_process(engine)).status == "ended"
        with pytest.raises(ProcessEnded):
            await engine.pause(process.process_id)


async def test_a_resume_of_a_stuck_process_tries_it_again(running: Running) -> None:
    fits = [True]
    app = App("edits")

    @app.process
    class Edited(Process):
        @on(Note, start=True, key=lambda _message: "e")
        async def note(self, message: Note) -> str:
            if fits[0]:
                await self.step(asyncio.sleep, 0)
                await self.sleep(timedelta(seconds=1))
            else:
                await self.bind("other")
            return "done"

    async with running(app) as engine:
        await engine.deliver(Note(), id="n")
        process = await only_process(engine, "Edited")
        await reaches(engine, process.process_id, "waiting")
    fits[0] = False
    clock = engine.clock
    assert isinstance(clock, VirtualClock)
    clock.advance(2 * SECOND)
    async with running(app) as engine:
        await reaches(engine, process.process_id, "stuck")
        fits[0] = True
        await engine.resume(process.process_id)
        assert await engine.deliver(Note(), id="n", wait=True) == "done"


async def test_what_is_not_paused_is_not_resumed_and_who_is_not_there_is_not_paused(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        with pytest.raises(IllegalTransition, match="idle, neither paused nor stuck"):
            await engine.resume(process.process_id)
        for ask in (engine.pause, engine.resume):
            with pytest.raises(ProcessNotFound):
                await ask("nobody")


async def _is(condition: bool) -> bool:  # of a lambda
    return condition
