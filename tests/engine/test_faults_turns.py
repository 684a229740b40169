"""Turns whose breach of a promise shows only to who looks at the right moment, and stores looked at afterwards."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from perdure import Address, App, Engine, Process, Store, TenantId, VirtualClock
from perdure.core.backend import Backend, Batch
from perdure.engine import inspection
from perdure.engine.verification import verify
from perdure.errors import EngineRunning
from perdure.messages.mail import Mail
from perdure.messages.tables import PARKING
from perdure.messages.writes import under_tag
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Boom, Broadcast, Comment, Ledger, OrderFailed, Place, eventually, make_app, only_process, reaches

TENANT = TenantId("default")


async def test_a_step_begins_only_when_what_was_asked_for_before_it_is_durable(running: Running) -> None:
    app = App("durable")
    seen: list[int] = []
    store: Store

    async def look() -> None:
        seen.append(len(await store.processes.lookup_correlated(TENANT, "t")))

    @app.process
    async def job(p: Process) -> None:
        p.tag("t")
        await p.step(look)
        await asyncio.gather(p.step(look), p.step(look))
        p.untag("t")
        await p.step(look)

    async with running(app) as engine:
        store = engine.store
        await engine.call(job, id="j")

    assert seen == [1, 1, 1, 0]


class Held:
    """A backend whose commits wait, from the moment that it is told to hold them."""

    def __init__(self, real: Backend) -> None:
        self._real = real
        self.holds = False
        self.entered = False
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def release(self) -> None:
        """Let through what waits, and all that comes."""
        self.holds = False
        self.gate.set()

    async def apply(self, batch: Batch) -> None:
        if self.holds:
            self.entered = True
            await self.gate.wait()
        await self._real.apply(batch)


async def test_no_step_begins_while_the_commit_before_it_is_under_way(running: Running, store: Store) -> None:
    app = App("held")
    ran: list[str] = []
    held = Held(store.access.writer._backend)
    store.access.writer._backend = held

    async def effect() -> None:
        ran.append("effect")

    @app.process
    async def job(p: Process) -> None:
        p.tag("t")
        held.holds = True
        await p.step(effect)

    async def entered() -> bool:
        return held.entered

    async with running(app) as engine:
        reply = asyncio.ensure_future(engine.call(job, id="j"))
        await eventually(entered)
        for _ in range(100):
            await asyncio.sleep(0)
        before = list(ran)
        held.release()
        await reply

    assert before == []
    assert ran == ["effect"]


async def test_live_the_code_gets_what_was_recorded_and_not_the_object_of_the_step(running: Running) -> None:
    app = App("live")
    made = [["a"]]

    def make() -> list[str]:
        return made[0]

    @app.process
    async def job(p: Process) -> bool:
        got = await p.step(make)
        return got == made[0] and got is not made[0]

    async with running(app) as engine:
        assert await engine.call(job, id="j") is True


async def test_the_turn_after_a_failed_one_begins_with_the_fields_before_it(running: Running) -> None:
    """Also when it runs ahead of the commit of the failure."""
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)

        failed = asyncio.ensure_future(engine.deliver(Boom("1", "loud"), id="b", wait=True))
        after = asyncio.ensure_future(engine.deliver(Comment("1", "after"), id="c", wait=True))

        with pytest.raises(OrderFailed):
            await failed
        assert await after == 1
        assert (await only_process(engine)).fields == {"status": "charged", "comments": ["after"]}


async def test_what_a_failed_handler_asked_for_last_does_not_happen(running: Running) -> None:
    app = App("last")

    @app.process
    async def job(p: Process) -> None:
        p.send(Comment("1", "x"), to=Address.key("order:1"))
        p.tag("t")
        raise OrderFailed("1", 1)

    async with running(app) as engine:
        with pytest.raises(OrderFailed):
            await engine.call(job, id="j")

        assert [one.message_id for one in await inspection.messages(engine.store)] == ["j"]
        assert await engine.store.processes.lookup_correlated(TENANT, "t") == []


async def test_a_bind_takes_over_what_was_parked(running: Running) -> None:
    app = App("binds")

    @app.process
    async def claim(p: Process) -> None:
        await p.bind("k")

    async with running(app) as engine:
        assert (await engine.deliver(Comment("1", "early"), id="c", to=Address.key("k"))).status == "parked"
        await engine.call(claim, id="j")

        letter = await engine.explain("c")
        assert (letter.status, letter.process_id) == ("dead", "j"), "the end of the process has answered it"


async def test_messages_of_two_sources_may_have_one_id(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)

        replies = [await engine.deliver(Comment("1", source), id="c", source=source, wait=True) for source in ("a", "b")]

        assert replies == [1, 2]


async def test_mail_that_is_known_already_is_not_taken_in_again(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1", total=500), id="p")
        process = await only_process(engine)
        await reaches(engine, process.process_id, "waiting")
        await engine.deliver(Comment("1", "x"), id="c")
        resident = engine._owner.residents[TENANT, process.process_id]
        [mail] = resident.window.letters

        resident.post(Mail(*mail))

        assert list(resident.window.letters) == [mail]


async def test_a_second_engine_on_the_same_store_is_refused(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app):
        with pytest.raises(EngineRunning):
            async with running(app):
                pass


async def test_after_work_of_every_kind_the_store_agrees_with_itself(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        await engine.deliver(Comment("1", "early"), id="c")
        await engine.deliver(Broadcast("comment:x", "kept"), id="b", keep_for=timedelta(days=9))
        await engine.deliver(Broadcast("comment:y", "for nobody"), id="n", keep_for=timedelta(days=1))
        await engine.deliver(Comment("2", "too late"), id="l", expires_after=timedelta(days=1))
        await engine.deliver(Place("1", total=500), id="p")
        process = await only_process(engine)
        await reaches(engine, process.process_id, "waiting")
        assert (await engine.store.info()).rows["timer"] == 1
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        assert await engine.deliver(Comment("1", "x"), id="x", wait=True) == 2
        await eventually(lambda: _is(engine, "b", "done"))
        clock.advance(2 * 86_400_000_000)
        for late in ("n", "l"):
            await eventually(partial(_is, engine, late, "dead"))
        await eventually(lambda: _idle(engine, process.process_id))

        assert await verify(engine.store) == []
        assert (await engine.store.info()).rows["timer"] == 0
        for tag in ("comment:x", "comment:y"):
            parking = await engine.store.access.reader.get(PARKING.key(TENANT, under_tag(tag)))
            assert parking is not None
            assert parking.parked == 0


async def _is(engine: Engine, message_id: str, status: str) -> bool:
    return (await engine.explain(message_id)).status == status


async def _idle(engine: Engine, process_id: str) -> bool:
    return (await inspection.process(engine.store, process_id)).status == "idle"
