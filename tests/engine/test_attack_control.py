"""Attacks on cancel, pause and resume, each in its smallest form."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, on
from perdure.engine import inspection
from perdure.engine.control import CancelProcess, PauseProcess
from perdure.engine.leaving import MarkStuck, Resume
from perdure.engine.turn import Turn
from perdure.errors import IllegalTransition, ProcessCancelled, ProcessEnded
from tests.engine.conftest import Running
from tests.engine.orders import crash, holds, reaches

TENANT = "default"


class Go(msgspec.Struct, tag="go"):
    n: int = 0


class Word(msgspec.Struct, tag="word"):
    text: str = ""


class Gate:
    """A step that begins, and ends when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.effects: list[str] = []

    async def slow(self, name: str) -> str:
        self.effects.append(name)
        self.begun.set()
        await self.open.wait()
        return name

    async def quick(self, name: str) -> str:
        self.effects.append(name)
        return name


def boxes(gate: Gate) -> App:
    app = App("boxes")

    @app.process
    class Box(Process):
        @on(Go, start=True, key=lambda _message: "box")
        async def go(self, message: Go) -> int:
            await self.step(gate.slow, str(message.n))
            return message.n

    @app.process
    async def two(p: Process) -> list[str]:
        return [await p.step(gate.slow, "first"), await p.step(gate.quick, "second")]

    app.extras = {"go": Box.go, "two": two}  # type: ignore[attr-defined]  # handed to the tests
    return app


async def settle(engine: Engine) -> None:
    for _ in range(200):
        await asyncio.sleep(0)
    await engine.store.commit()


async def only(store: Store) -> inspection.ProcessInfo:
    [found] = await inspection.processes(store)
    return await inspection.process(store, found.process_id)


async def names(store: Store, process_id: str) -> list[str]:
    return [event.name for event in await inspection.timeline(store, process_id) if event.name]


# --- cancel ------------------------------------------------------------------------------------------------------


async def test_who_waits_for_the_message_after_a_turn_hears_that_the_process_was_cancelled_at_its_end(store: Store) -> None:
    gate = Gate()
    app = boxes(gate)
    async with Engine(store, app) as engine:
        calls = [asyncio.create_task(engine.deliver(Go(n), id=str(n), wait=True)) for n in range(2)]
        await gate.begun.wait()
        await settle(engine)
        process = await only(store)
        await store.access.writer.run(CancelProcess(engine._owner.rules, TENANT, process.process_id, "now"))
        gate.open.set()
        assert await calls[0] == 0
        await holds(calls[1].done)
        with pytest.raises(ProcessEnded):
            await calls[1]


async def test_who_waits_hears_of_a_process_that_is_ended_by_force_from_where_no_app_is(store: Store) -> None:
    gate = Gate()
    app = boxes(gate)
    async with Engine(store, app) as engine:
        calls = [asyncio.create_task(engine.deliver(Go(n), id=str(n), wait=True)) for n in range(2)]
        await gate.begun.wait()
        await settle(engine)

        await inspection.cancel(store, (await only(store)).process_id, reason="by hand", force=True)

        await holds(lambda: all(call.done() for call in calls))
        with pytest.raises(ProcessCancelled, match="by hand"):
            await calls[0]
        with pytest.raises(ProcessEnded):
            await calls[1]
        await holds(lambda: engine._owner.residents == {})
        assert [letter.reason for letter in await inspection.dead_letters(store)] == ["process-ended"]


async def test_force_from_where_no_app_is_ends_a_process_without_an_engine_to_do_it(store: Store) -> None:
    gate = Gate()
    async with Engine(store, boxes(gate)) as engine:
        await engine.deliver(Go(), id="g")
        await gate.begun.wait()
        process = await only(store)
    await inspection.cancel(store, process.process_id, force=True)
    async with Engine(store, App("another")) as engine:
        await reaches(engine, process.process_id, "ended")


# --- pause and resume ----------------------------------------------------------------------------------------------


async def test_a_step_that_runs_while_its_process_is_paused_and_resumed_runs_once(running: Running) -> None:
    gate = Gate()
    app = boxes(gate)
    async with running(app) as engine:
        call = asyncio.create_task(engine.call(app.extras["two"], id="t"))  # type: ignore[attr-defined]
        await gate.begun.wait()
        await engine.pause("t")
        await engine.resume("t")
        await settle(engine)
        gate.open.set()
        await holds(call.done)
        assert await call == ["first", "second"]
    assert gate.effects == ["first", "second"]


async def test_a_process_that_is_resumed_by_another_before_its_step_has_ended_goes_on(store: Store) -> None:
    gate = Gate()
    app = boxes(gate)
    async with Engine(store, app) as engine:
        call = asyncio.create_task(engine.call(app.extras["two"], id="t"))  # type: ignore[attr-defined]
        await gate.begun.wait()
        await engine.pause("t")
        await inspection.resume(store, "t")
        await settle(engine)
        gate.open.set()
        await holds(call.done)
        assert await call == ["first", "second"]
    assert gate.effects == ["first", "second"]


async def test_a_process_that_waits_is_stored_so_again_after_another_has_paused_and_resumed_it(store: Store) -> None:
    app = App("waits")

    @app.process
    async def waits(p: Process) -> None:
        await p.receive(Word)

    async with Engine(store, app) as engine:
        call = asyncio.create_task(engine.call(waits, id="t"))
        await reaches(engine, "t", "waiting")
        await inspection.pause(store, "t")
        await inspection.resume(store, "t")
        await reaches(engine, "t", "waiting")
    await asyncio.gather(call, return_exceptions=True)


async def test_a_paused_process_with_an_answer_about_a_key_under_way_records_what_its_steps_do(running: Running) -> None:
    gate, app = Gate(), App("keys")

    @app.process
    async def keyed(p: Process) -> None:
        task = asyncio.create_task(p.step(gate.slow, "slow"))
        await p.step(gate.quick, "quick")
        await p.bind("k")
        await task
        await p.step(gate.quick, "more")

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(keyed, id="t"))
        await gate.begun.wait()
        writer = engine.store.access.writer
        [resident] = engine._owner.residents.values()
        await holds(lambda: isinstance(resident.turn, Turn) and resident.turn._blocked)
        assert writer.waiting or resident._unsaved
        resident.hold()
        await writer.run(PauseProcess(engine._owner.rules, TENANT, "t", ""))
        gate.open.set()
        await holds(lambda: engine._owner.residents == {})
        assert await names(engine.store, "t") == ["quick", "bind", "slow"]
        await engine.resume("t")
        await call
    assert gate.effects == ["quick", "slow", "more"]


async def test_mail_in_memory_is_not_taken_while_the_process_is_paused(running: Running) -> None:
    gate, app, taken = Gate(), App("mail"), list[str]()

    @app.process
    async def reads(p: Process) -> str:
        await p.step(gate.slow, "slow")
        taken.append((await p.receive(Word)).text)
        return taken[-1]

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(reads, id="t"))
        await gate.begun.wait()
        await engine.deliver(Word("w"), id="w", to=Address.process("t"))
        await engine.pause("t")
        gate.open.set()
        await settle(engine)
        assert (taken, await names(engine.store, "t")) == ([], ["slow"])
        await engine.resume("t")
        assert await call == "w"


async def test_what_came_for_a_process_that_was_resumed_before_its_turn_ended_is_handled(running: Running) -> None:
    gate = Gate()
    app = boxes(gate)
    async with running(app) as engine:
        calls = [asyncio.create_task(engine.deliver(Go(n), id=str(n), wait=True)) for n in range(2)]
        await gate.begun.wait()
        await settle(engine)
        process = await only(engine.store)
        await engine.pause(process.process_id)
        await engine.resume(process.process_id)
        gate.open.set()
        await holds(lambda: all(call.done() for call in calls))
        assert [await call for call in calls] == [0, 1]
    assert gate.effects == ["0", "1"]


async def test_a_process_that_is_paused_as_it_is_recovered_stays_paused(store: Store) -> None:
    gate = Gate()
    app = boxes(gate)
    engine = Engine(store, app)
    await engine.__aenter__()
    call = asyncio.create_task(engine.call(app.extras["two"], id="t"))  # type: ignore[attr-defined]
    await gate.begun.wait()
    await crash(engine)
    call.cancel()
    await inspection.pause(store, "t")
    assert await store.access.writer.run(Resume(TENANT, "t")) is None
    assert (await inspection.process(store, "t")).status == "paused"


async def test_code_that_does_not_fit_does_not_end_a_pause(store: Store) -> None:
    gate = Gate()
    app = boxes(gate)
    async with Engine(store, app) as engine:
        await engine.deliver(Go(), id="g")
        await gate.begun.wait()
        process = await only(store)
        await engine.pause(process.process_id)
        await store.access.writer.run(
            MarkStuck(TENANT, process.process_id, process.open_message or "", "it does not fit", process.package_hash)
        )
        assert (await only(store)).status == "paused"


async def test_only_a_message_that_failed_is_skipped(running: Running) -> None:
    gate = Gate()
    async with running(boxes(gate)) as engine:
        await engine.deliver(Go(), id="g")
        await gate.begun.wait()
        process = await only(engine.store)
        await engine.pause(process.process_id)
        with pytest.raises(IllegalTransition, match="resume"):
            await engine.skip(process.process_id)
        assert (await only(engine.store)).status == "paused"


async def test_a_redriven_message_does_not_end_a_pause(running: Running) -> None:
    app, fails = App("parks"), [True]

    @app.process
    class Parks(Process):
        @on(Go, start=True, key=lambda _message: "box", on_error="park")
        async def go(self, message: Go) -> int:
            if fails[0]:
                raise ValueError(message.n)
            return message.n

    async with running(app) as engine:
        with pytest.raises(ValueError, match="1"):
            await engine.deliver(Go(1), id="g", wait=True)
        process = await only(engine.store)
        await engine.resume(process.process_id)
        await engine.pause(process.process_id, reason="audit")
        fails[0] = False

        await engine.redrive("g")

        await settle(engine)
        assert (await only(engine.store)).note == "paused: audit"
        await engine.resume(process.process_id)
        assert await engine.deliver(Go(1), id="g~2", wait=True) == 1


async def test_who_asks_again_after_a_stuck_process_was_resumed_by_another_waits_for_its_answer(store: Store) -> None:
    fits, gate, app = [True], Gate(), App("edits")

    @app.process
    async def edited(p: Process) -> str:
        if not fits[0]:
            await p.bind("other")
        await p.step(gate.quick, "quick")
        await p.receive(Word)
        await p.receive(Go)
        return "done"

    async with Engine(store, app) as engine:
        call = asyncio.create_task(engine.call(edited, id="e"))
        await reaches(engine, "e", "waiting")
    await asyncio.gather(call, return_exceptions=True)
    fits[0] = False
    async with Engine(store, app) as engine:
        await engine.deliver(Word(), id="w", to=Address.process("e"))
        await reaches(engine, "e", "stuck")
        fits[0] = True
        await inspection.resume(store, "e")
        await reaches(engine, "e", "waiting")
        call = asyncio.create_task(engine.call(edited, id="e"))
        await settle(engine)
        await engine.deliver(Go(), id="g", to=Address.process("e"))
        assert await call == "done"
