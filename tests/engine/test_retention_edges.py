"""Sweeps where it is narrow: long turns, dead letters, tags, conversations of callers, what cannot be read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import Address, App, DurableConversation, Engine, Process, Retention, Store, VirtualClock, on, open_store
from perdure.conversations.tables import EVENT, PROCESS, Aging, AgingRow, EventRow
from perdure.conversations.writes import age, new_process
from perdure.core.backend import Batch
from perdure.core.table import Read
from perdure.core.view import View
from perdure.engine import inspection
from perdure.engine.removal import Compact, Remove
from perdure.engine.sweeper import sweep
from perdure.errors import CorruptEvent, EngineRunning
from perdure.limits import SWEEP_CHUNK, SWEEP_PAGES, SWEEP_PROCESSES
from tests.contracts.conversations import finished
from tests.engine.keeping import DAY, WEEK, End, account_app, account_id, events_of, fill, fits, message_row, say
from tests.engine.orders import Broadcast, Comment, Ledger, Place, eventually, make_app, only_process, reaches

replace = msgspec.structs.replace


async def test_a_turn_longer_than_any_page_is_compacted(store: Store, clock: VirtualClock) -> None:
    app = App("long")

    async def nothing() -> None:
        return None

    @app.process
    class Long(Process):
        @on(Place, start=True, key=lambda message: message.order_id)
        async def work(self, message: Place) -> int:
            for _ in range(message.total):
                await self.step(nothing)
            return message.total

    async with Engine(store, app, retention=WEEK) as engine:
        for number, steps in enumerate((3, 700, 1, 600, 2)):
            await engine.deliver(Place("1", total=steps), id=f"p{number}", wait=True)
        process = await only_process(engine, "Long")
        clock.advance(DAY)
        await engine.sweep()

        assert len(await events_of(store, process.process_id)) == 2 + 3
        assert await fits(store)


async def test_each_commit_of_a_sweep_is_bounded(store: Store, clock: VirtualClock) -> None:
    sizes: list[int] = []
    backend: Any = store.access.writer._backend
    apply = backend.apply

    async def counted(batch: Batch) -> None:
        sizes.append(len(batch.changes))
        await apply(batch)

    async with Engine(store, account_app(Ledger()), retention=WEEK) as engine:
        await fill(engine, "a", 300)
        await say(engine, End("a"), "end")
        clock.advance(5 * DAY)
        backend.apply = counted
        await engine.sweep()

    assert len(sizes) > 10
    assert max(sizes) <= SWEEP_PAGES * SWEEP_CHUNK * 2 + 2


async def test_each_commit_is_bounded_when_many_processes_are_removed_at_once(store: Store, clock: VirtualClock) -> None:
    sizes: list[int] = []
    backend: Any = store.access.writer._backend
    apply = backend.apply

    async def counted(batch: Batch) -> None:
        sizes.append(len(batch.changes))
        await apply(batch)

    over = Retention(finished_processes=timedelta(days=1))
    async with Engine(store, account_app(Ledger()), retention=over) as engine:
        for number in range(SWEEP_PROCESSES):
            await fill(engine, f"a{number}", 25)
            await say(engine, End(f"a{number}"), f"end {number}")
        clock.advance(2 * DAY)
        backend.apply = counted
        await engine.sweep()
        assert await inspection.processes(store) == []

    assert max(sizes) <= SWEEP_PAGES * (SWEEP_CHUNK * 2 + 8)


async def test_what_was_run_again_leaves_its_first_turn_to_the_retention(store: Store, clock: VirtualClock) -> None:
    app = App("again")

    async def work() -> str:
        return "done"

    @app.process
    async def job(p: Process) -> str:
        return await p.step(work)

    kept = Retention(turns=timedelta(days=1), messages=timedelta(days=1))
    async with Engine(store, app, retention=kept) as engine:
        assert await engine.call(job, id="j") == "done"
        assert await engine.restart_from("work", "j") == "j~2"
        await eventually(lambda: _done(engine, "j~2"))
        clock.advance(2 * DAY)
        await engine.sweep()

        assert (await engine.explain("j")).status == "expired"
        assert (await inspection.process(store, "j")).first_event > 0
        assert await fits(store)


async def test_the_message_of_a_dead_letter_outlives_its_turn(store: Store, clock: VirtualClock) -> None:
    app = App("park")

    @app.process(on_error="park")
    class Parks(Process):
        @on(Place, start=True, key=lambda message: message.order_id)
        async def place(self, message: Place) -> str:
            if message.total:
                raise ValueError("not now")
            return message.order_id

    async with Engine(store, app, retention=WEEK) as engine:
        await engine.deliver(Place("1"), id="p0", wait=True)
        await engine.deliver(Place("1", total=1), id="p1")
        process = await only_process(engine, "Parks")
        await reaches(engine, process.process_id, "paused")
        clock.advance(10 * DAY)
        await engine.sweep()
        assert await inspection.timeline(store, process.process_id), "people decide about the last turn"
        await engine.skip(process.process_id)
        for number in range(2, 4):
            await engine.deliver(Place("1"), id=f"p{number}", wait=True)
        clock.advance(10 * DAY)
        await engine.sweep()
        clock.advance(10 * DAY)
        await engine.sweep()

        assert (await engine.explain("p1")).status == "dead"
        assert [letter.message_id for letter in await inspection.dead_letters(store)] == ["p1"]
        new_id = await engine.redrive("p1")
        assert new_id == "p1~2"


async def test_a_failed_turn_can_be_run_again_for_as_long_as_its_process_is_kept(store: Store, clock: VirtualClock) -> None:
    ledger, app, broken = Ledger(), App("fails"), [True]

    async def check() -> str:
        if broken[0]:
            raise ValueError("not now")
        return "done"

    @app.process
    class Fails(Process):
        count: int = 0

        @on(Place, start=True, key=lambda message: message.order_id, on_error="fail_turn")
        async def place(self, message: Place) -> str:
            self.count += 1
            await self.step(ledger.note, f"note {message.total}", name="note")
            return await self.step(check, name="check") if message.total else "done"

    async with Engine(store, app, retention=WEEK) as engine:
        for total in range(2):
            await engine.deliver(Place("1", total=total), id=f"p{total}")
        await eventually(lambda: _done(engine, "p1"))
        process = await only_process(engine, "Fails")
        clock.advance(100 * DAY)
        await engine.sweep()
        await engine.sweep()
        broken[0] = False

        assert (await engine.explain("p0")).status == "expired"
        assert await engine.restart_from("check", process.process_id) == "p1~2"
        await eventually(lambda: _done(engine, "p1~2"))
        assert (await inspection.process(store, process.process_id)).fields == {"count": 2}
        assert ledger.effects == ["note 0", "note 1"]
        assert await fits(store)


async def test_messages_to_tags_go_too(store: Store, clock: VirtualClock) -> None:
    async with Engine(store, make_app(Ledger()), retention=WEEK) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        await engine.deliver(Comment("1", "x"), id="c", wait=True)
        await engine.deliver(Broadcast("nobody", "hi"), id="b0", to=Address.tag("nobody"))
        await engine.deliver(Broadcast("comment:x", "hi"), id="b1")
        await eventually(lambda: _done(engine, "b1"))
        clock.advance(2 * DAY)
        await engine.sweep()

        assert [(await engine.explain(id)).status for id in ("b0", "b1")] == ["expired", "expired"]
        clock.advance(10 * DAY)
        await engine.sweep()
        assert [await message_row(store, id) for id in ("b0", "b1")] == [None, None]


async def _done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "done"


async def test_a_process_that_is_not_over_is_not_removed(store: Store, clock: VirtualClock) -> None:
    async with Engine(store, account_app(Ledger())) as engine:
        await fill(engine, "a", 1)
        process_id = await account_id(engine, "a")
        clock.advance(DAY)

        assert not await store.access.writer.run(Remove("default", process_id, DAY))
        await say(engine, End("a"), "end")
        assert not await store.access.writer.run(Remove("default", process_id, 1)), "not over for long enough"
        clock.advance(1)
        assert await store.access.writer.run(Remove("default", process_id, 1))


async def test_a_boundary_behind_the_last_turn_is_drawn_back(store: Store) -> None:
    async with Engine(store, account_app(Ledger())) as engine:
        await fill(engine, "a", 2)
        process_id = await account_id(engine, "a")
        process = await store.access.reader.get(PROCESS.key("default", process_id))
        assert process is not None
        await store.access.writer.run(Compact("default", process_id, process.stream_no, process.head, None))

        assert await events_of(store, process_id) == list(range(process.turn_seq, process.head))
        assert await fits(store)


async def test_conversations_that_no_engine_runs_are_never_compacted(store: Store, clock: VirtualClock) -> None:
    conversation = DurableConversation("mine", store)
    for number in range(5):
        await finished(conversation, f"m{number}", b"1")
    async with Engine(store, account_app(Ledger()), retention=WEEK) as engine:
        clock.advance(1_000 * DAY)
        await engine.sweep()

    assert len(await (await DurableConversation.recover("mine", store)).export_lce1()) == 5 * 4


class MakeUnreadable(msgspec.Struct, frozen=True):
    """Make a process whose first event is none, with something to remove."""

    def reads(self) -> list[Read]:
        return []

    def decide(self, view: View) -> None:
        key = PROCESS.key("default", "bad")
        assert view.get(key) is None
        row = new_process(view, "default", "bad", process_type="Account", status="idle")
        for seq in range(4):
            view.insert(EVENT.key("default", row.stream_no, seq), EventRow(view.now, b""))
        view.insert(key, replace(row, head=4, turn_seq=2, aging=1))
        age(view, "default", "bad", AgingRow(Aging.TURNS, view.now))


async def test_a_process_whose_events_cannot_be_read_does_not_stop_the_others(store: Store, clock: VirtualClock) -> None:
    await store.access.writer.run(MakeUnreadable())
    clock.advance(1)
    async with Engine(store, account_app(Ledger())) as engine:
        await fill(engine, "good", 2)
        good = await account_id(engine, "good")
    clock.advance(DAY)

    with pytest.raises(CorruptEvent):
        await sweep(store, WEEK)

    assert await events_of(store, "bad") == [0, 1, 2, 3]
    assert (await inspection.process(store, good)).first_event > 0


async def test_a_store_whose_engine_runs_is_swept_by_that_engine_only(tmp_path: Path, clock: VirtualClock) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with open_store(url, clock=clock) as store, open_store(url, clock=clock) as other:
        async with Engine(store, account_app(Ledger())):
            with pytest.raises(EngineRunning):
                await sweep(other, WEEK)
        assert (await sweep(other, WEEK)).events == 0
