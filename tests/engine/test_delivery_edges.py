"""Delivery in its corners: overlap of turns, what has no handler, what a receive takes, who has left a tag, full mailboxes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

from perdure import Address, App, Process, ProcessId, ProcessIdentity, Store, TenantId, VirtualClock, on
from perdure.engine import inspection
from perdure.engine.delivery import FanOutChunk
from perdure.limits import FAN_OUT_CHUNK
from perdure.messages.tables import MESSAGE
from perdure.replies import MailArrived
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Broadcast, Close, Comment, Ledger, Place, eventually, holds, make_app, only_process, reaches
from tests.engine.test_faults_engine import ByHand

TENANT = TenantId("default")


class Job(msgspec.Struct, tag="job"):
    n: int


async def test_turns_of_one_process_do_not_overlap_and_go_in_the_order_of_acceptance(running: Running, store: Store) -> None:
    app, trace = App("overlap"), list[tuple[str, str]]()

    async def part(n: int, what: str) -> None:
        await asyncio.sleep(0)
        trace.append((f"j{n}", what))

    @app.process
    class Worker(Process):
        @on(Job, start=True, key=lambda _message: "worker")
        async def job(self, message: Job) -> None:
            for what in ("first", "second"):
                await self.step(part, message.n, what)

    async with running(app) as engine:
        await asyncio.gather(*(engine.deliver(Job(n), id=f"j{n}", wait=True) for n in range(20)))
        ticks = {}
        for n in range(20):
            row = await store.access.reader.get(MESSAGE.key(TENANT, "", f"j{n}"))
            assert row is not None
            ticks[f"j{n}"] = row.tick

    accepted = sorted(ticks, key=ticks.__getitem__)
    assert trace == [(id, what) for id in accepted for what in ("first", "second")]


async def test_what_has_no_handler_is_kept_for_a_receive_and_is_a_dead_letter_when_the_process_ends(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process_id = (await only_process(engine)).process_id
        for id in ("early", "late"):
            await engine.deliver(Approve("1"), id=id, to=Address.process(process_id))
        assert (await engine.explain("early")).status == "queued"

        await engine.deliver(Place("1", total=500), id="q", wait=True)
        assert (await only_process(engine)).fields["status"] == "approved"
        assert [(await engine.explain(id)).status for id in ("early", "late")] == ["done", "queued"]

        await engine.deliver(Close("1"), id="x", wait=True)
        assert [(one.message_id, one.reason) for one in await inspection.dead_letters(engine.store)] == [("late", "no-handler")]


async def test_a_message_that_receive_takes_is_answered_with_null_in_the_commit_that_takes_it(running: Running, store: Store) -> None:
    app = App("takes")
    rows: list[str] = []

    async def look() -> None:
        row = await store.access.reader.get(MESSAGE.key(TENANT, "", "a"))
        assert row is not None
        rows.append(row.status)

    @app.process
    async def takes(p: Process) -> None:
        await p.receive(Approve)
        await p.step(look)
        await p.receive(Comment)

    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(takes, id="t"))
        await reaches(engine, "t", "waiting")

        assert await engine.deliver(Approve("1"), id="a", to=Address.process("t"), wait=True) is None

        await holds(lambda: rows)
        await engine.deliver(Comment("1", "x"), id="c", to=Address.process("t"))
        await call
    assert rows == ["done"]


async def test_a_dead_letter_keeps_everything_and_its_redrive_is_the_same_message(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        sent = {"source": "shop", "headers": {"trace": "7"}, "expires_after": timedelta(seconds=1)}
        await engine.deliver(Comment("1", "x"), id="c", **sent)  # type: ignore[call-overload]  # named once
        clock.advance(1_000_001)
        await eventually(lambda: _dead(engine.store))
        [letter] = await inspection.dead_letters(engine.store)
        payload = {"type": "comment", "order_id": "1", "text": "x"}
        assert (letter.source, letter.message_id, letter.kind, letter.payload) == ("shop", "c", "comment", payload)
        kept = await engine.store.access.reader.get(MESSAGE.key(TENANT, "shop", "c"))
        await engine.deliver(Place("1"), id="p", wait=True)

        assert await engine.redrive("c", source="shop") == "c~2"

        again = await engine.store.access.reader.get(MESSAGE.key(TENANT, "shop", "c~2"))
        assert kept is not None
        assert again is not None
        assert kept.headers
        for field in ("kind", "payload", "headers", "address", "digest"):
            assert getattr(again, field) == getattr(kept, field), field


async def _dead(store: Store) -> bool:
    return bool(await inspection.dead_letters(store))


async def test_who_has_left_the_tag_before_its_chunk_does_not_get_the_message(store: Store) -> None:
    by_hand = ByHand(store)
    members = [f"o{n:03}" for n in range(FAN_OUT_CHUNK + 3)]
    for member in members:
        await by_hand.deliver(Place(member), Address.start("Order", id=member), id=f"p{member}", process_id=member)
        identity = ProcessIdentity(tenant_id=TENANT, process_id=ProcessId(member), process_type="Order")
        await store.processes.register_correlated(TENANT, "t", identity.process_id, identity)
    await by_hand.deliver(Broadcast("t", "news"), Address.tag("t"), id="b")

    [(more, first)] = await store.commit(FanOutChunk(by_hand.rules, TENANT, "", "b"))
    for left in (members[0], members[-2]):
        await store.processes.remove_correlated(TENANT, "t", ProcessId(left))
    [(over, second)] = await store.commit(FanOutChunk(by_hand.rules, TENANT, "", "b"))

    reached = [note.process_id for note in (*first, *second) if isinstance(note, MailArrived)]
    assert (more, over, len([note for note in first if isinstance(note, MailArrived)])) == (True, False, FAN_OUT_CHUNK)
    assert reached == [member for member in members if member != members[-2]]
