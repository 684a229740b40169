"""What is one transaction, and what nobody sees before it is committed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, TenantId, on, query
from perdure.conversations.tables import PROCESS, ProcessStatus
from perdure.core.table import Scan
from perdure.engine import inspection
from perdure.engine.control import CancelProcess
from perdure.engine.notes import Sealed, owns_all
from perdure.routing.tables import KEY
from perdure.timers.tables import DUE
from tests.engine.conftest import Running
from tests.engine.orders import Comment, Ledger, Place, holds, make_app, only_process, reaches
from tests.engine.test_faults_turns import Held

TENANT = TenantId("default")


class Add(msgspec.Struct, tag="add"):
    amount: int
    step: bool = False


async def settle() -> None:
    for _ in range(300):
        await asyncio.sleep(0)


def hold(store: Store) -> Held:
    held = Held(store.access.writer._backend)
    store.access.writer._backend = held
    return held


async def number(n: int) -> int:
    return n


async def test_a_turn_of_four_steps_is_five_transactions(running: Running, store: Store) -> None:
    app = App("steps")

    @app.process
    async def four(p: Process) -> int:
        return sum([await p.step(number, n) for n in range(4)])

    async with running(app) as engine:
        await settle()
        before = store.access.writer.transactions

        assert await engine.call(four, id="f") == 6

        assert store.access.writer.transactions - before == 5


async def test_the_end_of_a_process_is_one_transaction(running: Running, store: Store) -> None:
    """Its key is free, its timers are gone and its mail is answered when it is seen to have ended."""
    async with running(make_app(Ledger())) as engine:
        rules = msgspec.structs.replace(engine._owner.rules, owns=owns_all)  # it is used when the engine has closed
        await engine.deliver(Place("1", total=500), id="p")
        process = await only_process(engine)
        await reaches(engine, process.process_id, "waiting")
        await engine.deliver(Comment("1", "x"), id="c")
        await settle()
        assert (await engine.store.info()).rows["timer"] == 1

    [(_, notes)] = await store.commit(CancelProcess(rules, TENANT, process.process_id, "now", force=True))

    row = await store.access.reader.get(PROCESS.key(TENANT, process.process_id))
    key = await store.access.reader.get(KEY.key(TENANT, "order:1"))
    assert row is not None
    assert row.status == ProcessStatus.ENDED
    assert key is None or key.process_id is None
    assert await store.access.reader.scan(Scan(DUE, (), 1)) == []
    assert {note.ref: note.outcome for note in notes if isinstance(note, Sealed)} == {"p": "error", "c": "error"}
    assert [(one.message_id, one.reason) for one in await inspection.dead_letters(store)] == [("c", "process-ended")]


async def test_many_who_start_under_one_key_at_the_same_time_start_one_process(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await asyncio.gather(*(engine.deliver(Place("1"), id=f"p{n}", wait=True) for n in range(20)))

        assert len(await inspection.processes(engine.store)) == 1


async def parked(store: Store) -> int:
    return sum(one.status == "parked" for one in await inspection.messages(store))


async def begin(engine: Engine) -> str:
    receipt = await engine.deliver(Add(1), id="first")
    assert receipt.process_id is not None
    await reaches(engine, receipt.process_id, "idle")
    return receipt.process_id


@pytest.mark.parametrize("url", ["file"], indirect=True)  # in memory there is one connection, and who looks holds up everybody
async def test_nobody_outside_sees_what_is_not_committed(running: Running, store: Store) -> None:
    app = App("ahead")
    held = hold(store)

    @app.process
    class Counter(Process):
        total: int = 0

        @on(Add, start=True, key=lambda _message: "counter")
        async def add(self, message: Add) -> int:
            self.total += message.amount
            held.holds = message.amount > 1
            self.send(Comment("1", "x"), to=Address.key("elsewhere"))
            return self.total

        @query
        def so_far(self) -> int:
            return self.total

    async with running(app) as engine:
        process_id = await begin(engine)
        call = asyncio.ensure_future(engine.deliver(Add(10), id="second", wait=True))
        await holds(lambda: held.entered)
        await settle()

        seen = [call.done(), await engine.query(Counter.so_far, process_id), await parked(store)]
        held.release()
        await call

        assert seen == [False, 1, 1]
        assert [call.result(), await engine.query(Counter.so_far, process_id), await parked(store)] == [11, 11, 2]


async def test_turns_run_ahead_of_the_disk_and_one_with_a_step_waits_for_all_before_it(running: Running, store: Store) -> None:
    app = App("ahead")
    held, ran, begun = hold(store), list[int](), list[int]()

    async def effect(amount: int) -> None:
        begun.append(amount)
        held.holds = amount == 2

    @app.process
    class Counter(Process):
        @on(Add, start=True, key=lambda _message: "counter")
        async def add(self, message: Add) -> int:
            ran.append(message.amount)
            if message.step:
                await self.step(effect, message.amount)
            return message.amount

    async with running(app) as engine:
        await begin(engine)
        messages = (Add(2, step=True), Add(4), Add(8, step=True))
        calls = [asyncio.ensure_future(engine.deliver(message, id=str(message.amount), wait=True)) for message in messages]
        await holds(lambda: held.entered)
        await settle()

        seen = list(ran), list(begun)
        held.release()

        assert list(await asyncio.gather(*calls)) == [2, 4, 8]
    assert seen == ([1, 2, 4, 8], [2])
    assert begun == [2, 8]
