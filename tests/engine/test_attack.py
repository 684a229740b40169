"""Attacks on the engine, each in its smallest form: waking, restarts, and orders of commits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from perdure import Address, App, Engine, Process, Store, TenantId, VirtualClock, on
from perdure.codec import JSON
from perdure.core.table import Scan
from perdure.engine import inspection
from perdure.engine.delivery import Deliver
from perdure.engine.notes import NO_APP, Envelope
from perdure.errors import MessageNotFound, StoreUnavailable, UsageError
from perdure.timers.tables import DUE
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Comment, Ledger, Place, crash, eventually, make_app, only_process, reaches

TENANT = TenantId("default")


class Numbers(Process):
    n: int = 0


async def settles(engine: Engine, message_id: str, status: str = "done") -> None:
    async def stored() -> bool:
        try:
            return (await engine.explain(message_id)).status == status
        except MessageNotFound:  # its commit is under way
            return False

    await eventually(stored)


async def never() -> None:
    await asyncio.Event().wait()


# --- what is started, and who is told ----------------------------------------------------------------------------


async def test_a_start_with_a_kind_that_the_type_does_not_handle_is_refused(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        with pytest.raises(UsageError, match="'approve'"):
            await engine.deliver(Approve("1"), id="a", to=Address.start("Order", id="x"))
        with pytest.raises(UsageError, match="'place'"):
            await engine.deliver(Place("1"), id="b", to=Address.start("hello", id="y"))
        assert await inspection.processes(engine.store) == []


@pytest.mark.parametrize("type_name", ["Nothing", "hello"])
async def test_a_turn_that_sends_to_what_cannot_start_makes_a_dead_letter(running: Running, type_name: str) -> None:
    app = make_app(Ledger())

    @app.process
    async def stray(p: Process) -> str:
        p.send(Comment("9", "x"), to=Address.start(type_name, id="new"))
        p.send(Place("2"), to=Address.start("Order", key="order:2"))
        return "sent"

    async with running(app) as engine:
        assert await engine.call(stray, id="s") == "sent"
        assert (await only_process(engine)).status in {"runnable", "idle"}
        [letter] = await inspection.dead_letters(engine.store)
        assert letter.reason == "no-handler"


async def test_a_caller_is_told_when_the_engine_closes_before_its_message_is_accepted(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        task = asyncio.ensure_future(engine.call(app.type_named("hello").target, "x", id="g"))
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(task, 5)


async def test_a_caller_that_gives_up_leaves_nothing_behind(running: Running) -> None:
    app = App("slow")

    @app.process
    async def slow(p: Process) -> None:
        await p.step(never)

    async with running(app) as engine:
        for _ in range(5):
            task = asyncio.ensure_future(engine.call(slow, id="s"))
            await reaches(engine, "s", "runnable")
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert sum(map(len, engine._owner.waiters._waiters.values())) == 0


async def test_a_redrive_whose_caller_leaves_still_wakes_the_process(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "early"), id="c", expires_after=timedelta(seconds=1))
        clock.advance(2_000_000)
        await settles(engine, "c", "dead")
        await engine.deliver(Place("1"), id="p", wait=True)
        task = asyncio.ensure_future(engine.redrive("c"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await settles(engine, "c~2")


async def test_a_turn_with_more_payload_than_one_batch_is_committed(running: Running) -> None:
    app = make_app(Ledger())

    @app.process
    async def loud(p: Process) -> str:
        for number in range(6):
            p.send(Comment("1", str(number) + "x" * 1_000_000), to=Address.key("nobody"))
        return "sent"

    async with running(app) as engine:
        assert await asyncio.wait_for(engine.call(loud, id="l"), 5) == "sent"
        assert [one.status for one in await inspection.messages(engine.store)].count("parked") == 6


async def test_fields_that_the_code_cannot_read_any_more_stop_one_process_and_can_be_read_again(running: Running) -> None:
    def app(first: object) -> App:
        made = App("fields")

        class Counter(Process):
            n: Any = first

            @on(Comment, start=True, key=lambda message: message.order_id)
            async def comment(self, message: Comment) -> str:
                self.n = int(message.text) if first == 0 else message.text
                return str(self.n)

        made.process(Counter)
        if first == 0:  # the change of the code: what was anything has to be a number now
            made.types["Counter"]._decode_fields = JSON.decoder(Numbers)
        return made

    async with running(app("")) as engine:
        await engine.deliver(Comment("1", "one"), id="a", wait=True)
    async with running(app(0)) as engine:
        with pytest.raises(Exception, match="fields"):
            await asyncio.wait_for(engine.deliver(Comment("1", "2"), id="b", wait=True), 5)
        process = await only_process(engine, "Counter")
        await reaches(engine, process.process_id, "stuck")
        assert await engine.deliver(Comment("2", "3"), id="c", wait=True) == "3"
    async with running(app("")) as engine:
        assert await asyncio.wait_for(engine.deliver(Comment("1", "2"), id="b", wait=True), 5) == "2"


# --- poison, and what only looks like it ---------------------------------------------------------------------------


async def test_a_clean_stop_while_a_process_is_read_is_not_a_crash(store: Store) -> None:
    app = App("short")
    gate = asyncio.Event()

    @app.process
    async def job(p: Process) -> str:
        await p.step(gate.wait)
        return "done"

    async with Engine(store, app) as engine:
        await engine.deliver(Place("x"), id="u", to=Address.key("k"))
        task = asyncio.ensure_future(engine.call(job, id="j"))
        await reaches(engine, "j", "runnable")
    await asyncio.wait([task])
    task.exception()
    for _ in range(10):
        async with Engine(store, app):
            pass
    gate.set()
    async with Engine(store, app) as engine:
        assert await asyncio.wait_for(engine.call(job, id="j"), 5) == "done"


async def test_a_stuck_process_is_not_poison_however_often_the_engine_starts(running: Running) -> None:
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
    await asyncio.wait([task])
    task.exception()
    for number in range(10):
        async with running(new) as engine:
            if not number:
                await engine.deliver(Approve("1"), id="a", to=Address.process("j"))
            await reaches(engine, "j", "stuck")
            await eventually(partial(_idle, engine))
    async with running(old) as engine:
        assert await engine.call(old.type_named("job").target, id="j") == "done"


async def _idle(engine: Engine) -> bool:
    return not engine._owner.residents


async def test_mail_that_no_receive_wants_does_not_make_a_waiting_process_a_suspect(running: Running, store: Store) -> None:
    app = App("where")

    @app.process
    async def picky(p: Process) -> str:
        return (await p.receive(Approve, where=lambda message: message.by == "boss")).by

    async with running(app) as engine:
        await engine.deliver(Comment("1", "x"), id="u", to=Address.key("k"))
        task = asyncio.ensure_future(engine.call(picky, id="p"))
        await reaches(engine, "p", "waiting")
        await engine.deliver(Approve("1", by="nobody"), id="a", to=Address.process("p"))
        await reaches(engine, "p", "waiting")
        await engine.deliver(Approve("1", by="boss"), id="b", to=Address.process("p"))
        assert await task == "boss"


async def test_a_suspect_with_a_due_timer_does_not_stop_the_lane_of_the_others(store: Store, clock: VirtualClock) -> None:
    app = App("lane")
    runs: dict[str, int] = {}

    async def note(name: str, steady: bool) -> None:
        runs[name] = runs.get(name, 0) + 1
        if not steady:
            await asyncio.Event().wait()

    calm = [False]

    @app.process
    async def job(p: Process, name: str) -> str:
        async def work() -> None:
            await p.step(note, name, calm[0], name="work")

        async def nap() -> None:
            await p.sleep(3600)

        await asyncio.gather(work(), nap())
        return name

    names = ["a", "b", "c", "d"]
    engine = Engine(store, app)
    await engine.__aenter__()
    tasks = [asyncio.ensure_future(engine.call(job, name, id=name)) for name in names]
    await eventually(lambda: _ran(runs, names, 1))
    for number in range(2):
        await crash(engine)
        engine = Engine(store, app)
        await engine.__aenter__()
        if number == 0:
            await eventually(lambda: _ran(runs, names, 2))
    await crash(engine)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    clock.advance(7_200_000_000)
    calm[0] = True
    async with Engine(store, app) as engine:
        replies = await asyncio.wait_for(asyncio.gather(*(engine.call(job, name, id=name) for name in names)), 5)
        assert replies == names


async def _ran(runs: dict[str, int], names: list[str], times: int) -> bool:
    return all(runs.get(name, 0) >= times for name in names)


async def test_an_engine_that_cannot_start_gives_the_store_back(store: Store) -> None:
    def app(with_handler: bool) -> App:
        made = App("gone")

        class Job(Process):
            if with_handler:

                @on(Place, start=True, key=lambda message: message.order_id)
                async def place(self, message: Place) -> None:
                    await self.step(never)

            @on(Comment, key=lambda message: message.order_id)
            async def comment(self, message: Comment) -> None: ...

        made.process(Job)
        return made

    engine = Engine(store, app(with_handler=True))
    await engine.__aenter__()
    await engine.deliver(Place("1"), id="p")
    process = await only_process(engine, "Job")
    for _ in range(9):
        await reaches(engine, process.process_id, "runnable")
        await crash(engine)
        engine = Engine(store, app(with_handler=False))
        await engine.__aenter__()
    await engine.close()


async def test_a_timer_of_a_turn_that_is_read_again_and_ends_at_once_goes_with_it(store: Store) -> None:
    app = App("timer")

    @app.process
    class Waits(Process):
        @on(Place, start=True, key=lambda message: message.order_id)
        async def place(self, message: Place) -> None:
            await self.receive(Approve, timeout=timedelta(seconds=9))

    engine = Engine(store, app)
    await engine.__aenter__()
    await engine.deliver(Place("1"), id="p")
    process = (await only_process(engine, "Waits")).process_id
    await reaches(engine, process, "waiting")
    await crash(engine)
    await inspection_deliver(store, process)
    async with Engine(store, app) as engine:
        await settles(engine, "p")
        assert await store.access.reader.scan(Scan(DUE, (), 10)) == []


async def inspection_deliver(store: Store, process_id: str) -> None:
    """Deliver an approval from where no app is."""
    envelope = Envelope(
        tenant_id="default",
        source="",
        message_id="a",
        digest=b"x",
        kind="approve",
        payload=b'{"type":"approve","order_id":"1"}',
        address=Address.process(process_id),
        process_id=process_id,
    )
    await store.access.writer.run(Deliver(NO_APP, envelope))
