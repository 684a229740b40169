"""What people read of a process and of a message."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from perdure import Address, App, Engine, Flow, Process, VirtualClock, limits, on
from perdure.engine import inspection
from perdure.errors import MessageNotFound, ProcessNotFound, UsageError
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Boom, Broadcast, Close, Comment, Ledger, OrderFailed, Place, eventually, make_app, reaches

SECOND = 1_000_000


async def _placed(engine: Engine, order: str, *, total: int = 0) -> str:
    if total:
        await engine.deliver(Place(order, total=total), id=f"p{order}")
    else:
        await engine.deliver(Place(order), id=f"p{order}", wait=True)
    found = (await engine.explain(f"p{order}")).process_id
    assert found is not None
    return found


# --- timeline -------------------------------------------------------------------------------------------


async def test_a_timeline_reads_as_what_happened(running: Running, clock: VirtualClock) -> None:
    ledger = Ledger()
    ledger.fail["charge 1"] = 1
    async with running(make_app(ledger)) as engine:
        process = await _placed(engine, "1", total=500)
        await reaches(engine, process, "waiting")
        clock.advance(SECOND)
        await eventually(lambda: _waits_for(engine, process, "approve"))
        clock.advance(2 * SECOND)
        await engine.deliver(Approve("1", "ann"), id="a", to=Address.key("order:1"))
        await reaches(engine, process, "idle")

        told = await engine.timeline(process)

    assert [entry.text for entry in told] == [
        "a message came, a place",
        "its handler began",
        "step charge failed in attempt 1: ConnectionError: charge 1 is down; the next is due at " + told[2].text.rpartition(" ")[2],
        "the timer of charge was due",
        'step charge returned "CHARGE 1"',
        """receive took the approve 'a': {"type":"approve","order_id":"1","by":"ann"}""",
        'step settle returned "SETTLE 1"',
        "its handler is done",
    ]
    assert [entry.took for entry in told] == [None, 0, 0, SECOND, 0, 2 * SECOND, 0, 0]
    assert (told.status, told.waits_for, told.next) == ("idle", [], None)


async def _waits_for(engine: Engine, process_id: str, kind: str) -> bool:
    return any(wait.name == kind for wait in (await engine.timeline(process_id)).waits_for)


async def test_a_timeline_says_what_an_open_turn_waits_for_now(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        process = await _placed(engine, "1", total=500)
        await reaches(engine, process, "waiting")

        told = await engine.timeline(process)

        assert told.waits_for == [
            inspection.Wait(what="message", name="approve"),
            inspection.Wait(what="timer", name="receive", due=clock.now() + 3 * 86_400 * SECOND),
        ]


async def test_a_timeline_comes_in_pages_that_join(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        process = await _placed(engine, "1")
        for number in range(3):
            await engine.deliver(Comment("1", f"c{number}"), id=f"c{number}", wait=True)
        whole = await engine.timeline(process)

        pages: list[inspection.TimelineEntry] = []
        after: int | None = -1
        while after is not None:
            page = await engine.timeline(process, after=after, limit=3)
            pages += page
            after = page.next

        assert pages == whole
        assert len(whole) == 13


async def test_a_failed_turn_and_a_failed_step_are_told(running: Running) -> None:
    ledger = Ledger()
    ledger.fail["boom 1"] = 1
    async with running(make_app(ledger)) as engine:
        process = await _placed(engine, "1")
        with pytest.raises(ConnectionError):
            await engine.deliver(Boom("1", "x"), id="b", wait=True)

        texts = [entry.text for entry in await engine.timeline(process)]

    assert texts[-2:] == ["step boom failed: ConnectionError: boom 1 is down", "its handler failed"]


async def test_what_came_from_others_is_told(running: Running) -> None:
    app, tokens = App("asks"), []

    @app.process
    async def half(p: Process, number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    async def hand_out(token: str) -> None:
        tokens.append(token)

    @app.process
    async def asks(p: Process) -> None:
        await p.call(half, 4)
        with contextlib.suppress(ValueError):
            await p.call(half, 5)
        token, answer = p.awakeable(str)
        await p.step(hand_out, token)
        await answer

    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(asks, id="a"))
        await eventually(lambda: _has(tokens))
        await engine.complete_awakeable(tokens[0], "yes")
        await call

        texts = [entry.text for entry in await engine.timeline("a")]

    assert texts[2:4] == ["call half was answered with 2", "call half#2 was answered with an error: ValueError: 5 is odd"]
    assert texts[5] == 'awakeable was answered with "yes"'


async def _has(values: list[str]) -> bool:
    return bool(values)


async def test_a_timeline_of_nothing_is_an_error(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        with pytest.raises(ProcessNotFound):
            await engine.timeline("nobody")
        with pytest.raises(UsageError, match="limit is 1 to 1000"):
            await engine.timeline("nobody", limit=0)


# --- explain ----------------------------------------------------------------------------------------------


async def _text(engine: Engine, message_id: str) -> str:
    return (await engine.explain(message_id)).text


async def test_a_parked_message_says_for_whom_it_waits_and_that_it_may_expire(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "x"), id="c")
        await engine.deliver(Comment("1", "x"), id="d", expires_after=timedelta(days=1))

        assert await _text(engine, "c") == "nobody is at 'key order:1' yet; it is handed over when somebody comes"
        assert (await _text(engine, "d")).endswith("when somebody comes, or becomes a dead letter when it expires")


async def test_a_queued_message_says_what_it_is_behind(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AHEAD_MAX", 2)
    async with running(make_app(Ledger())) as engine:
        process = await _placed(engine, "1", total=500)
        await reaches(engine, process, "waiting")
        for number in range(4):
            await engine.deliver(Comment("1", "x"), id=f"c{number}")

        told = [await engine.explain(f"c{number}") for number in range(4)]

        assert [one.ahead for one in told] == [0, 1, 2, 2]
        where = f"it waits in the mailbox of process {process}"
        held = "; the process is waiting with message 'p1', which waits for approve"
        assert told[0].text == where + held
        assert told[1].text == f"{where}, behind 1 other{held}"
        assert told[3].text == f"{where}, behind 2 or more others{held}"
        assert await _text(engine, "p1") == f"process {process} is handling it, and waits for approve"


async def test_a_message_behind_a_paused_process_says_why_that_is_paused(running: Running) -> None:
    app = App("parks")

    @app.process(on_error="park")
    class Job(Process):
        @on(Place, start=True, key=lambda message: f"order:{message.order_id}", on_error="park")
        async def place(self, message: Place) -> None:
            raise OrderFailed(message.order_id, 1)

    async with running(app) as engine:
        await engine.deliver(Place("1"), id="p")
        await eventually(lambda: _is_dead(engine, "p"))
        await engine.deliver(Place("1"), id="q")

        assert "; the process is paused (OrderFailed: ('1', 1))" in await _text(engine, "q")


async def _is_dead(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "dead"


async def test_a_message_whose_process_waits_for_a_place_says_so(running: Running) -> None:
    app, gate = App("flows"), asyncio.Event()

    @app.process(flow=Flow(concurrency=1, key=lambda name: f"k-{name[0]}", key_concurrency=1))
    async def job(p: Process, name: str) -> str:
        await p.step(gate.wait)
        return name

    async with running(app) as engine:
        tasks = [asyncio.ensure_future(engine.call(job, name, id=name)) for name in ("a1", "a2", "b1")]
        await eventually(lambda: _is_placed(engine, "b1"))

        assert (
            await _text(engine, "a2") == "it waits in the mailbox of process a2; the process is idle and waits for a place of its key 'k-a'"
        )
        assert await _text(engine, "b1") == "it waits in the mailbox of process b1; the process is idle and waits for a place of type 'job'"
        assert (await engine.timeline("a2")).waits_for == [inspection.Wait(what="place", name="job k-a")]
        gate.set()
        assert await asyncio.gather(*tasks) == ["a1", "a2", "b1"]
        assert (await engine.timeline("a2")).waits_for == []


async def _is_placed(engine: Engine, process_id: str) -> bool:
    return any(one.process_id == process_id for one in await engine.processes())


async def test_a_message_that_is_done_says_that_its_reply_stands(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        process = await _placed(engine, "1")
        again = await engine.deliver(Place("1"), id="p1")
        told = await engine.explain("p1")

        assert again.duplicate
        assert told.text == f"process {process} has handled it; delivered again, it gets the sealed reply"
        assert told.reply == '{"order_id":"1","status":"charged"}'


async def test_a_fan_out_says_how_many_have_it(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        for order in "12":
            await _placed(engine, order)
            await engine.deliver(Comment(order, "x"), id=f"c{order}", wait=True)
        await engine.deliver(Broadcast("comment:x", "hello"), id="b")
        await eventually(lambda: _is_done(engine, "b"))

        assert await _text(engine, "b") == "it was copied to 2 processes"


async def _is_done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "done"


async def test_a_dead_letter_says_why_and_as_what_it_was_redriven(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        process = await _placed(engine, "1", total=500)
        await reaches(engine, process, "waiting")
        await engine.deliver(Close("1"), id="x")
        await engine.deliver(Comment("1", "late"), id="c")
        await engine.deliver(Approve("1"), id="a", to=Address.key("order:1"))
        await eventually(lambda: _is_dead(engine, "c"))
        told = await engine.explain("c")

        assert told.text == f"it is a dead letter: process-ended: process {process!r} is ended; nothing more reaches it"
        assert told.redriven_as is None
        assert await engine.redrive("c") == "c~2"
        assert (await engine.explain("c")).redriven_as == "c~2"
        assert (await engine.explain("c~2")).status == "parked"
        with pytest.raises(MessageNotFound, match="never accepted here"):
            await engine.explain("nothing")
