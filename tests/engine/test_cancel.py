"""Cancelling processes: once, everywhere the code waits, with time to clean up, and through any crash."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, on, open_store
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.engine.control import CancelProcess
from perdure.errors import ProcessCancelled, ProcessEnded, ProcessNotFound
from tests.engine.conftest import Running
from tests.engine.orders import Ledger, crash, eventually, reaches


class Go(msgspec.Struct, tag="go"):
    n: int = 0


class Hanging(Ledger):
    async def hang(self) -> None:
        self.effects.append("hangs")
        await asyncio.get_running_loop().create_future()


class Never(msgspec.Struct, tag="never"):
    pass


async def wait_directly(p: Process, _ledger: Hanging) -> None:
    await p.receive(Never)


async def wait_in_gather(p: Process, ledger: Hanging) -> None:
    await asyncio.gather(p.receive(Never), p.sleep(1e6), p.step(ledger.hang))


async def wait_in_a_group(p: Process, _ledger: Hanging) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(p.receive(Never))
        group.create_task(p.sleep(1e6))


async def wait_under_a_timeout(p: Process, _ledger: Hanging) -> None:
    async with asyncio.timeout(1e6):
        await p.receive(Never, timeout=timedelta(days=1))


async def wait_for_the_first(p: Process, _ledger: Hanging) -> None:
    await p.first(p.receive(Never), p.sleep(1e6))


async def wait_for_a_step(p: Process, ledger: Hanging) -> None:
    await p.step(ledger.hang)


async def wait_for_a_timer(p: Process, _ledger: Hanging) -> None:
    await p.sleep(1e6)


Waits = Callable[[Process, Hanging], Awaitable[None]]
WAITS: list[Waits] = [
    wait_directly,
    wait_in_gather,
    wait_in_a_group,
    wait_under_a_timeout,
    wait_for_the_first,
    wait_for_a_step,
]


def saga(ledger: Hanging, wait: Waits, *, swallow: bool = False) -> App:
    app = App("saga")

    @app.process
    async def book(p: Process) -> str:
        await p.step(ledger.note, "booked", name="book")
        try:
            await wait(p, ledger)
        except asyncio.CancelledError:
            await p.step(ledger.note, "unbooked", name="unbook")
            await p.sleep(60)
            await p.step(ledger.note, "told", name="tell")
            if swallow:
                return "given up"
            raise
        return "kept"

    app.extras = {"book": book}  # type: ignore[attr-defined]  # handed to the tests
    return app


async def booked(engine: Engine, app: App, ledger: Hanging) -> asyncio.Task[Any]:
    """Start it, and let it come to where it waits."""
    call = asyncio.create_task(engine.call(app.extras["book"], id="b"))  # type: ignore[attr-defined]

    async def waits() -> bool:
        found = await inspection.processes(engine.store)
        return "booked" in ledger.effects and (found[0].status == "waiting" or "hangs" in ledger.effects)

    await eventually(waits)
    return call


async def pass_a_minute(engine: Engine, clock: VirtualClock, ledger: Hanging) -> None:
    """Let the sleep of the clean-up begin, and end."""

    async def sleeps() -> bool:
        [found] = await inspection.processes(engine.store)
        return "unbooked" in ledger.effects and found.status == "waiting"

    await eventually(sleeps)
    clock.advance(60 * SECOND)


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
async def test_a_cancelled_handler_gets_one_error_where_it_waits_and_may_clean_up_with_steps(
    running: Running, clock: VirtualClock, wait: Any
) -> None:
    ledger = Hanging()
    app = saga(ledger, wait)
    async with running(app) as engine:
        call = await booked(engine, app, ledger)

        assert await engine.cancel("b", reason="changed plans")
        await pass_a_minute(engine, clock, ledger)

        with pytest.raises(ProcessCancelled, match="cancelled: changed plans"):
            await call
        found = await inspection.process(engine.store, "b")
        assert (found.status, found.note) == ("ended", "cancelled: changed plans")
        assert [effect for effect in ledger.effects if effect != "hangs"] == ["booked", "unbooked", "told"]
        assert not await engine.cancel("b")


async def test_a_handler_that_catches_it_answers_and_ends(running: Running, clock: VirtualClock) -> None:
    ledger = Hanging()
    app = saga(ledger, wait_directly, swallow=True)
    async with running(app) as engine:
        call = await booked(engine, app, ledger)
        await engine.cancel("b")
        assert not await engine.cancel("b", reason="again"), "once is enough"
        await pass_a_minute(engine, clock, ledger)

        assert await call == "given up"
        assert (await inspection.process(engine.store, "b")).note == "cancelled"


async def test_an_idle_process_ends_at_once_and_its_mail_is_answered(running: Running) -> None:
    app = App("idle")

    @app.process
    class Box(Process):
        @on(Go, start=True, key=lambda _message: "box")
        async def go(self, message: Go) -> int:
            return message.n

    async with running(app) as engine:
        await engine.call(Box.go, Go(1))
        await engine.deliver(Never(), id="n", to=Address.key("box"))
        [found] = await inspection.processes(engine.store)

        assert await engine.cancel(found.process_id, reason="over")

        assert (await inspection.process(engine.store, found.process_id)).note == "cancelled: over"
        assert (await engine.explain("n")).status == "dead"
        assert await engine.call(Box.go, Go(2)) == 2, "the key is free for another one"
        with pytest.raises(ProcessEnded):
            await engine.deliver(Go(3), id="3", to=Address.process(found.process_id))


async def test_a_plain_function_is_waited_for_and_its_outcome_recorded_but_nothing_more_begins(running: Running) -> None:
    app, begun, go_on, effects = App("plain"), threading.Event(), threading.Event(), list[str]()

    def charge() -> int:
        begun.set()
        go_on.wait()
        effects.append("charged")
        return 7

    async def ship(_n: int) -> None:
        effects.append("shipped")

    @app.process
    async def order(p: Process) -> None:
        paid = await p.step(charge)
        await p.step(ship, paid)

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(order, id="o"))
        await eventually(lambda: _is(begun.is_set))
        await engine.cancel("o")
        go_on.set()

        with pytest.raises(ProcessCancelled):
            await call
        names = [event.name for event in await inspection.timeline(engine.store, "o")]
        assert effects == ["charged"]
        assert names.index("charge") < names.index("cancel")


async def test_nothing_begins_in_one_branch_while_the_plain_function_of_another_is_waited_for(running: Running) -> None:
    app, effects = App("branches"), list[str]()
    gates = {name: threading.Event() for name in ("one", "two")}

    def plain(name: str) -> None:
        effects.append(f"{name} begins")
        gates[name].wait()
        effects.append(f"{name} ends")

    async def more() -> None:
        effects.append("more")

    async def branch(p: Process, name: str) -> None:
        await p.step(plain, name)
        await p.step(more)

    @app.process
    async def both(p: Process) -> None:
        await asyncio.gather(branch(p, "one"), branch(p, "two"))

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(both, id="b"))
        await eventually(lambda: _is(lambda: len(effects) == 2))
        await engine.cancel("b")
        gates["one"].set()

        async def recorded() -> bool:
            return "plain" in [event.name for event in await inspection.timeline(engine.store, "b")]

        await eventually(recorded)
        gates["two"].set()
        with pytest.raises(ProcessCancelled):
            await call
    assert sorted(effects) == ["one begins", "one ends", "two begins", "two ends"]


async def test_a_process_is_cancelled_from_where_no_app_is(clock: VirtualClock, store: Store) -> None:
    ledger = Hanging()
    app = saga(ledger, wait_directly)
    async with Engine(store, app) as engine:
        call = await booked(engine, app, ledger)
        call.cancel()

    assert await inspection.cancel(store, "b", reason="by night")

    async with Engine(store, app) as engine:
        await pass_a_minute(engine, clock, ledger)
        await reaches(engine, "b", "ended")
    assert ledger.effects == ["booked", "unbooked", "told"]


async def test_an_idle_process_is_cancelled_from_where_no_app_is(store: Store) -> None:
    app = App("idle")

    @app.process
    class Box(Process):
        @on(Go, start=True, key=lambda _message: "box")
        async def go(self, message: Go) -> int:
            return message.n

    async with Engine(store, app) as engine:
        await engine.call(Box.go, Go(1))
        [found] = await inspection.processes(store)
        await inspection.cancel(store, found.process_id)
        await reaches(engine, found.process_id, "ended")


@pytest.mark.parametrize("waits", [wait_directly, wait_for_a_timer])
async def test_a_process_that_begins_to_wait_as_it_is_cancelled_hears_of_it(store: Store, waits: Waits) -> None:
    """The request is committed by another before the turn says that it waits, and nobody tells its owner."""
    app, begun, go_on = App("late"), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await go_on.wait()

    @app.process
    async def late(p: Process) -> None:
        await p.step(slow)
        await waits(p, Hanging())

    async with Engine(store, app) as engine:
        call = asyncio.create_task(engine.call(late, id="l"))
        await begun.wait()
        await store.access.writer.run(CancelProcess(engine._owner.rules, "default", "l", "now"))
        go_on.set()
        with pytest.raises(ProcessCancelled):
            await call


async def test_a_process_whose_turn_ends_as_it_is_cancelled_ends_with_it(store: Store) -> None:
    app, begun, go_on = App("ends"), asyncio.Event(), asyncio.Event()

    async def slow() -> int:
        begun.set()
        await go_on.wait()
        return 1

    @app.process
    class Box(Process):
        @on(Go, start=True, key=lambda _message: "box")
        async def go(self, message: Go) -> int:
            return await self.step(slow)

    async with Engine(store, app) as engine:
        call = asyncio.create_task(engine.call(Box.go, Go()))
        await begun.wait()
        [found] = await inspection.processes(store)
        write = CancelProcess(engine._owner.rules, "default", found.process_id, "now")
        await store.access.writer.run(write)
        go_on.set()
        assert await call == 1
        await reaches(engine, found.process_id, "ended")


async def test_force_ends_a_process_whose_code_does_not_fit_any_more(running: Running) -> None:
    ledger = Hanging()
    app = saga(ledger, wait_directly)
    async with running(app) as engine:
        (await booked(engine, app, ledger)).cancel()
    other = App("saga")

    @other.process
    async def book(p: Process) -> str:
        await p.sleep(1)
        return "other code"

    async with running(other) as engine:
        await engine.deliver(Never(), id="n", to=Address.process("b"))  # wakes it
        await reaches(engine, "b", "stuck")
        await engine.cancel("b", reason="hopeless", force=True)

        found = await inspection.process(engine.store, "b")
        assert (found.status, found.open_message, found.note) == ("ended", None, "cancelled: hopeless")
        with pytest.raises(ProcessCancelled, match="hopeless"):
            await engine.call(book, id="b")


async def test_force_ends_a_process_in_the_middle_of_a_step(running: Running) -> None:
    ledger = Hanging()
    app = saga(ledger, wait_for_a_step)
    async with running(app) as engine:
        call = await booked(engine, app, ledger)

        await engine.cancel("b", force=True)

        with pytest.raises(ProcessCancelled):
            await call
        assert engine._owner.residents == {}
        assert ledger.effects == ["booked", "hangs"]


async def test_who_is_not_there_cannot_be_cancelled(running: Running) -> None:
    async with running(saga(Hanging(), wait_directly)) as engine:
        with pytest.raises(ProcessNotFound, match="nobody"):
            await engine.cancel("nobody")


@pytest.mark.parametrize("commit", range(1, 12))
async def test_a_crash_at_each_commit_of_a_cancellation_changes_nothing(clock: VirtualClock, commit: int) -> None:
    ledger = Hanging()
    app = saga(ledger, wait_directly)
    async with open_store("sqlite:///:memory:", clock=clock) as store:

        async def over() -> bool:
            found = await inspection.process(store, "b")
            if found.status == "waiting" and "unbooked" in ledger.effects:
                clock.advance(60 * SECOND)
            return found.status == "ended"

        engine = Engine(store, app)
        await engine.__aenter__()
        (await booked(engine, app, ledger)).cancel()
        last = store.access.writer.commits + commit
        await engine.cancel("b")
        await eventually(lambda: _either(store.access.writer.commits >= last, over()))
        await crash(engine)
        async with Engine(store, app):
            await eventually(over)
            names = [event.name for event in await inspection.timeline(store, "b") if event.name]
    assert names == ["book", "cancel", "unbook", "sleep", "tell"]
    assert [*dict.fromkeys(ledger.effects)] == ["booked", "unbooked", "told"]


async def _either(reached: bool, over: Awaitable[bool]) -> bool:  # of a lambda
    return await over or reached


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()
