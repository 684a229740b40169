"""What survives: restarts at every point, steps that are not repeated, timers, stuck processes, poison."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Retry, Store, VirtualClock, on, step_info
from perdure.engine import inspection
from perdure.errors import NondeterministicTurn, PoisonMessage
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Ledger, Place, crash, eventually, make_app, only_process, reaches

DAY = 86_400_000_000


class Gate:
    """A step that waits until it is let through, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.keys: set[str] = set()
        self.open = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        self.keys.add(step_info().idempotency_key)
        await self.open.wait()
        return self.runs


async def test_a_restart_goes_on_after_the_last_recorded_step(running: Running) -> None:
    ledger, gate = Ledger(), Gate()

    async def second() -> int:
        return await gate()

    def app() -> App:
        made = App("resume")

        @made.process
        async def job(p: Process, name: str) -> str:
            first = await p.step(ledger.note, name)
            number = await p.step(second)
            return f"{first} {number}"

        return made

    first = app()
    async with running(first) as engine:
        await engine.deliver(  # a call without waiting
            Place("ignored"), id="j0", to=Address.key("nobody")
        )
        task = asyncio.ensure_future(engine.call(first.type_named("job").target, "a", id="j"))
        await eventually(lambda: _ran(gate, 1))
    with pytest.raises(Exception, match="answered after a restart"):
        await task
    gate.open.set()
    again = app()
    async with running(again) as engine:
        assert await engine.call(again.type_named("job").target, "a", id="j") == "A 2"
    assert ledger.effects == ["a"]
    assert len(gate.keys) == 1


async def _ran(gate: Gate, times: int) -> bool:
    return gate.runs >= times


async def test_a_durable_timer_goes_on_over_a_restart_and_fires_once(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        await engine.deliver(Place("1", total=500), id="p")
        process = await only_process(engine)
        await reaches(engine, process.process_id, "waiting")
    clock.advance(DAY)
    async with running(make_app(ledger)) as engine:
        assert engine._owner.residents == {}  # who waits costs nothing
        clock.advance(2 * DAY)
        await reaches(engine, process.process_id, "idle")
        assert (await only_process(engine)).fields["status"] == "expired"
    assert ledger.effects == ["charge 1", "settle 1"]


async def test_a_waiting_process_is_woken_by_its_message_after_a_restart(running: Running) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        await engine.deliver(Place("1", total=500), id="p")
        process = await only_process(engine)
        await reaches(engine, process.process_id, "waiting")
    async with running(make_app(ledger)) as engine:
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        await reaches(engine, process.process_id, "idle")
        assert (await only_process(engine)).fields["status"] == "approved"
        assert (await engine.explain("a")).status == "done"


async def test_a_failing_step_is_tried_again_durably(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    ledger.fail["charge 1"] = 2
    async with running(make_app(ledger)) as engine:
        await engine.deliver(Place("1"), id="p")
        process = await only_process(engine)
        await reaches(engine, process.process_id, "waiting")
        assert ledger.effects == ["charge 1"]
    clock.advance(1_000_000)
    async with running(make_app(ledger)) as engine:
        await eventually(lambda: _effects(ledger, 2))
        await reaches(engine, process.process_id, "waiting")
        clock.advance(2_000_000)
        await reaches(engine, process.process_id, "idle")
    assert ledger.effects == ["charge 1"] * 3
    assert len(set(ledger.keys)) == 1


async def _effects(ledger: Ledger, count: int) -> bool:
    return len(ledger.effects) >= count


async def test_changed_code_under_an_open_turn_is_stuck_and_the_old_code_goes_on(running: Running) -> None:
    ledger = Ledger()

    def app(step_name: str) -> App:
        made = App("versions")

        @made.process
        async def job(p: Process) -> str:
            await p.step(ledger.note, "a", name=step_name)
            await p.receive(Approve)
            return "done"

        return made

    old, new = app("first"), app("renamed")
    async with running(old) as engine:
        task = asyncio.ensure_future(engine.call(old.type_named("job").target, id="j"))
        await reaches(engine, "j", "waiting")
    with pytest.raises(Exception, match="answered after a restart"):
        await task
    async with running(new) as engine:
        await engine.deliver(Approve("1"), id="a", to=Address.process("j"))
        await reaches(engine, "j", "stuck")
        with pytest.raises(NondeterministicTurn, match="'first' was not reached"):
            await engine.call(new.type_named("job").target, id="j")
        assert "'first' was not reached" in (await inspection.process(engine.store, "j")).note
    async with running(old) as engine:
        assert await engine.call(old.type_named("job").target, id="j") == "done"
    assert ledger.effects == ["a"]


async def test_a_message_that_crashes_the_engine_again_and_again_is_a_dead_letter(store: Store) -> None:
    app = App("poison")
    started: list[int] = []

    async def never() -> None:
        started.append(1)
        await asyncio.Event().wait()

    @app.process
    async def job(p: Process) -> None:
        p.awakeable()
        await p.step(never)

    for number in range(8):
        engine = Engine(store, app)
        await engine.__aenter__()
        if number == 0:
            await engine.deliver(Place("x"), id="unrelated", to=Address.key("k"))
            task = asyncio.ensure_future(engine.call(job, id="j"))
        if number < 7:
            await eventually(partial(_count, started, number + 1))
            assert (await store.info()).rows["awaited_reply"] == 1
            await crash(engine)
            task.cancel()
        else:
            with pytest.raises(PoisonMessage, match="7 times"):
                await engine.call(job, id="j")
            [letter] = await inspection.dead_letters(store)
            assert letter.reason == "poison-message"
            assert (await inspection.process(store, "j")).status == "failed"
            assert (await store.info()).rows["awaited_reply"] == 0
            await engine.close()


async def _count(items: list[int], count: int) -> bool:
    return len(items) >= count


async def test_a_crash_at_each_commit_changes_nothing_in_the_outcome(clock: VirtualClock) -> None:
    """The engine is dropped after its n-th commit, for every n, and resumed; the outcome is that of an undisturbed run."""
    from perdure import open_store

    async def outcome(crash_after: int | None) -> tuple[object, ...]:
        ledger = Ledger()
        app = make_app(ledger)
        async with open_store("sqlite:///:memory:", clock=clock) as store:
            engine = Engine(store, app)
            await engine.__aenter__()
            base = store.access.writer.commits
            waiting = [asyncio.ensure_future(_drive(engine))]
            crashed = False
            while crash_after is not None and not waiting[0].done():
                if store.access.writer.commits - base >= crash_after:
                    await crash(engine)
                    crashed = True
                    break
                await asyncio.sleep(0)
            if crashed:
                waiting[0].cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                engine = Engine(store, app)
                await engine.__aenter__()
                await _drive(engine)
            else:
                await waiting[0]
            process = await only_process(engine)
            timeline = await inspection.timeline(store, process.process_id)
            events = [(entry.event, entry.message_id, entry.name) for entry in timeline if entry.event != "ProcessingStarted"]
            explained = [(one.message_id, one.status, one.reply) for one in await inspection.messages(store)]
            steps = sorted(set(ledger.effects))
            await engine.close()
            return process.fields, process.status, events, explained, steps

    expected = await outcome(None)
    crashes = 0
    for crash_after in range(1, 15):
        assert await outcome(crash_after) == expected, f"crash after commit {crash_after}"
        crashes += 1
    assert crashes == 14


async def _drive(engine: Engine) -> None:
    from tests.engine.orders import Comment

    await engine.deliver(Comment("1", "early"), id="m0")
    await engine.deliver(Place("1", total=500), id="m1")
    await engine.deliver(Approve("1"), id="m2", to=Address.key("order:1"))
    await engine.deliver(Comment("1", "late"), id="m3", wait=True)
    await engine.deliver(Place("1"), id="m4", wait=True)


async def test_recovery_looks_at_runnable_processes_only(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        for number in range(20):
            await engine.deliver(Place(str(number), total=500), id=f"p{number}")
        for info in await inspection.processes(engine.store):
            await reaches(engine, info.process_id, "waiting")
    async with running(app) as engine:
        assert engine._owner.residents == {}


async def test_leaving_memory_runs_finally_blocks_without_recording_anything(running: Running) -> None:
    seen: list[str] = []
    app = App("leave")

    class Done(msgspec.Struct):
        pass

    @app.process
    class Waits(Process):
        n: int = 0

        @on(Place, start=True, key=lambda message: message.order_id)
        async def place(self, message: Place) -> int:
            try:
                await self.receive(Done, timeout=timedelta(days=1))
            finally:
                seen.append("left")
                self.tag("never")
            return 1

    async with running(app) as engine:
        await engine.deliver(Place("1"), id="p")
        process = await only_process(engine, "Waits")
        await reaches(engine, process.process_id, "waiting")
        before = (await only_process(engine, "Waits")).events
    assert seen == ["left"]
    async with running(app) as engine:
        assert (await only_process(engine, "Waits")).events == before
    assert Retry(max_attempts=1).max_attempts == 1
