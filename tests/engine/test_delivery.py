"""Delivery as engine.md promises it: once, never lost, in order, answered once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import Address, App, Engine, Process, VirtualClock, on
from perdure.engine import inspection
from perdure.errors import (
    InvalidIdentifier,
    MessageConflict,
    NoRoute,
    PayloadTooLarge,
    ProcessEnded,
    ProcessNotFound,
    ReplyNotSingle,
    UnknownProcessType,
    UsageError,
    WrongProcessType,
)
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Broadcast, Close, Comment, Ledger, Place, Receipt, eventually, make_app, only_process, reaches


async def test_a_call_runs_a_function_once_and_answers_every_repetition_the_same(running: Running) -> None:
    ledger = Ledger()
    app = make_app(ledger)
    hello = app.type_named("hello").target
    async with running(app) as engine:
        first = await engine.call(hello, "world", id="g")
        again = await asyncio.gather(*(engine.call(hello, "world", id="g") for _ in range(5)))
    async with running(app) as engine:
        later = await engine.call(hello, "world", id="g")
    assert {first, later, *again} == {"Hello, WORLD!"}
    assert ledger.effects == ["world"]


async def test_an_id_with_other_content_is_refused(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "a"), id="m")
        with pytest.raises(MessageConflict, match="'m'"):
            await engine.deliver(Comment("1", "b"), id="m")
        assert (await engine.deliver(Comment("1", "a"), id="m")).duplicate
        assert not (await engine.deliver(Comment("1", "b"), id="m", source="elsewhere")).duplicate
        assert not (await engine.deliver(Comment("1", "b"), id="m", tenant="other")).duplicate


async def test_a_message_for_an_unbound_key_is_parked_and_handed_over_in_order(running: Running) -> None:
    ledger = Ledger()
    app = make_app(ledger)
    async with running(app) as engine:
        for number in range(3):
            receipt = await engine.deliver(Comment("1", f"early {number}"), id=f"c{number}")
            assert receipt.status == "parked"
        assert "nobody is at 'key order:1'" in (await engine.explain("c0")).text
        reply = await engine.deliver(Place("1"), id="p", wait=True)
        assert reply == {"order_id": "1", "status": "charged"}
        await eventually(lambda: _is_done(engine, "c2"))
        assert (await only_process(engine)).fields["comments"] == ["early 0", "early 1", "early 2"]


async def _is_done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status in ("done", "dead")


async def test_a_parked_message_whose_time_is_over_is_a_dead_letter(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "a"), id="m", expires_after=timedelta(hours=1))
        await engine.deliver(Broadcast("t", "b"), id="n", keep_for=timedelta(hours=2))
        clock.advance(3_600_000_001)
        await eventually(lambda: _is_done(engine, "m"))
        assert (await engine.explain("n")).status == "parked"
        clock.advance(3_600_000_001)
        await eventually(lambda: _is_done(engine, "n"))
        letters = await inspection.dead_letters(engine.store)
        assert [(letter.message_id, letter.reason) for letter in letters] == [("m", "expired"), ("n", "expired")]


async def test_messages_are_handled_one_at_a_time_and_in_order(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p")
        await asyncio.gather(*(engine.deliver(Comment("1", str(number)), id=f"c{number}") for number in range(200)))
        await eventually(lambda: _is_done(engine, "c199"))
        assert (await only_process(engine)).fields["comments"] == [str(number) for number in range(200)]


async def test_a_fan_out_reaches_each_member_once(running: Running) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        count = 250
        await asyncio.gather(*(engine.deliver(Place(str(n)), id=f"p{n}") for n in range(count)))
        await asyncio.gather(*(engine.deliver(Comment(str(n), "x"), id=f"c{n}", wait=True) for n in range(count)))
        ledger.effects.clear()
        await engine.deliver(Broadcast("comment:x", "news"), id="b")
        assert (await engine.deliver(Broadcast("comment:x", "news"), id="b")).duplicate
        await eventually(lambda: _is_done(engine, "b"))
        await eventually(lambda: _heard(ledger, count))
        assert len(set(ledger.effects)) == len(ledger.effects) == count
        assert (await engine.explain("b")).copies == count


async def _heard(ledger: Ledger, count: int) -> bool:
    return len(ledger.effects) >= count


async def test_a_fan_out_without_members_is_accepted_with_count_0(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        receipt = await engine.deliver(Broadcast("nobody", "x"), id="b")
        assert (receipt.status, receipt.copies) == ("done", 0)
        assert "nobody was under the tag" in (await engine.explain("b")).text


async def test_a_message_kept_for_a_tag_goes_to_the_first_process_that_joins(running: Running) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        await engine.deliver(Broadcast("comment:x", "early"), id="b", keep_for=timedelta(hours=1))
        await engine.deliver(Place("1"), id="p")
        assert await engine.deliver(Comment("1", "x"), id="c", wait=True) == 1
        await eventually(lambda: _is_done(engine, "b"))
        await eventually(lambda: _heard(ledger, 2))
        assert (await only_process(engine)).fields["comments"] == ["x", "early"]


async def test_the_end_of_a_process_answers_its_mail_and_frees_its_key(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1", total=500), id="p")
        first = await only_process(engine)
        await reaches(engine, first.process_id, "waiting")
        closing = asyncio.ensure_future(engine.deliver(Close("1"), id="x", wait=True))
        late = asyncio.ensure_future(engine.deliver(Comment("1", "late"), id="c", wait=True))
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        assert await closing == "closed"
        with pytest.raises(ProcessEnded):
            await late
        assert (await engine.explain("c")).status == "dead"
        assert (await engine.deliver(Comment("1", "next life"), id="d")).status == "parked"
        with pytest.raises(ProcessEnded, match=first.process_id):
            await engine.deliver(Comment("1", "x"), id="e", to=Address.process(first.process_id))
        await engine.deliver(Place("1"), id="p2")
        await eventually(lambda: _is_done(engine, "d"))


async def test_sends_of_a_process_are_accepted_once_and_a_send_to_nobody_is_a_dead_letter(running: Running) -> None:
    ledger = Ledger()
    app = make_app(ledger)

    @app.process
    async def stray(p: Process) -> None:
        p.send(Comment("9", "hello?"), to=Address.process("nobody"))

    async with running(app) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        assert await engine.call(app.type_named("relay").target, "1", 5, id="r") == 5
        await eventually(lambda: _comments(engine, 5))
        assert (await only_process(engine)).fields["comments"] == [f"c{number}" for number in range(5)]
        await engine.call(stray, id="s")
        [letter] = await inspection.dead_letters(engine.store)
        assert (letter.reason, letter.payload["text"]) == ("process-not-found", "hello?")


async def _comments(engine: Engine, count: int) -> bool:
    return len((await only_process(engine)).fields["comments"]) >= count


async def test_bad_input_is_refused_before_anything_is_written(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        with pytest.raises(InvalidIdentifier):
            await engine.deliver(Comment("1", "a"), id="a\0b")
        with pytest.raises(InvalidIdentifier):
            await engine.deliver(Comment("1", "a"), id="x" * 600)
        with pytest.raises(InvalidIdentifier):
            await engine.deliver(Comment("1", "a"), id="m", tenant="no spaces")
        with pytest.raises(UsageError, match="pd-"):
            await engine.deliver(Comment("1", "a"), id="pd-1")
        with pytest.raises(PayloadTooLarge):
            await engine.deliver(Comment("1", "a" * 2_000_000), id="m")
        with pytest.raises(NoRoute):
            await engine.deliver(Approve("1"), id="m")
        with pytest.raises(ReplyNotSingle):
            await engine.deliver(Broadcast("t", "x"), id="m", wait=True)
        with pytest.raises(ProcessNotFound):
            await engine.deliver(Comment("1", "a"), id="m", to=Address.process("nobody"))
        with pytest.raises(UnknownProcessType):
            await engine.deliver(Comment("1", "a"), id="m", to=Address.start("nothing"))
        with pytest.raises(UsageError, match="takes one Place"):
            await engine.call(app.type_named("Order").target.place, Comment("1", "x"))
        assert await inspection.messages(engine.store) == []
        assert await inspection.processes(engine.store) == []


async def test_a_reply_has_the_type_that_the_handler_declares(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        reply = await engine.call(app.type_named("Order").target.place, Place("1"))
    assert reply == Receipt("1", "charged")


async def test_two_types_for_one_kind_are_refused_at_registration() -> None:
    from perdure.errors import AmbiguousKind

    app = make_app(Ledger())

    class Other(Process):
        @on(Comment, key=lambda message: message.order_id)
        async def comment(self, message: Comment) -> None: ...

    with pytest.raises(AmbiguousKind, match="comment"):
        app.process(Other)
    assert isinstance(app, App)


async def test_what_waits_for_a_key_is_handed_over_when_a_caller_of_the_registry_binds_it(running: Running) -> None:
    from perdure import ProcessId, ProcessIdentity, RegistryKey, TenantId

    tenant = TenantId("default")
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        await engine.deliver(Comment("1", "by another name"), id="c", to=Address.key("alias"))
        identity = ProcessIdentity(tenant_id=tenant, process_id=ProcessId(process.process_id), process_type="Order")
        await engine.store.processes.register(tenant, RegistryKey("alias"), identity)
        await eventually(lambda: _is_done(engine, "c"))
        await engine.deliver(Close("1"), id="x", wait=True)
        assert await engine.store.processes.lookup(tenant, RegistryKey("alias")) is None
        with pytest.raises(ProcessEnded):
            await engine.store.processes.register(tenant, RegistryKey("alias"), identity)


async def test_a_start_of_another_type_under_a_taken_key_or_id_is_refused(running: Running) -> None:
    app = make_app(Ledger())

    @app.process
    async def other(p: Process, name: str) -> str:
        return name

    async with running(app) as engine:
        await engine.call(app.type_named("hello").target, "x", id="one")
        with pytest.raises(WrongProcessType, match="'one' is there and is a 'hello'"):
            await engine.deliver(Place("1"), id="m", to=Address.start("Order", id="one"))
        await engine.deliver(Place("1"), id="p", wait=True)
        with pytest.raises(WrongProcessType, match="'Order'"):
            await engine.deliver(Place("1"), id="n", to=Address.start("hello", key="order:1"))


async def test_content_is_kind_and_payload_and_the_address_that_was_asked_for(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "a"), id="m", headers={"try": "1"})
        assert (await engine.deliver(Comment("1", "a"), id="m", headers={"try": "2"})).duplicate
        await engine.deliver(Comment("1", "a"), id="n", to=Address.key("a"))
        with pytest.raises(MessageConflict):
            await engine.deliver(Comment("1", "a"), id="n", to=Address.key("b"))
