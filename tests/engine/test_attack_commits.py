"""Attacks on the engine that once went through: commits that fail or overtake, and what others leave on the same store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from perdure import Address, App, Engine, Process, ProcessId, ProcessIdentity, RegistryKey, Store, TenantId, VirtualClock, on
from perdure.core.backend import Batch, BatchRefused
from perdure.engine import inspection
from perdure.engine.verification import verify
from perdure.errors import DeadlockedTurn, StoreFull
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Broadcast, Close, Comment, Ledger, Place, crash, eventually, make_app, only_process, reaches
from tests.engine.test_attack import settles

TENANT = TenantId("default")
STALL = 1_000_001


def identity(process_id: str) -> ProcessIdentity:
    return ProcessIdentity(tenant_id=TENANT, process_id=ProcessId(process_id), process_type="Order")


class Full:
    """A disk that refuses the next batches that `chosen` names."""

    def __init__(self, store: Store) -> None:
        self.backend: Any = store.access.writer._backend
        self.apply = self.backend.apply
        self.refused: list[Batch] = []
        self.chosen: Any = lambda _tables: False
        setattr(self.backend, "apply", self._apply)  # noqa: B010  # as one injects a fault

    async def _apply(self, batch: Batch) -> None:
        tables = {change.key.table.name for change in batch.changes}
        if self.chosen(tables):
            self.refused.append(batch)
            raise BatchRefused(StoreFull("the disk is full"), divisible=False)
        await self.apply(batch)


async def test_a_commit_without_events_is_not_overtaken_by_the_next_one(store: Store, clock: VirtualClock) -> None:
    """A batch of a delivery and a turn's first commit is refused; its halves are accepted and, for want of room, refused."""
    app, disk, sizes = make_app(Ledger()), Full(store), list[int]()

    @app.process
    async def busy(p: Process) -> str:
        p.send(Comment("9", "x"), to=Address.key("order:9"))
        await p.receive(Approve)
        return "done"

    async def apply(batch: Batch) -> None:
        texts = {part for change in batch.changes for part in change.key.parts}
        if "order:9" in texts and len(sizes) < 2:
            sizes.append(len(batch.changes))
            for _ in range(20):
                await asyncio.sleep(0)
            raise BatchRefused(StoreFull("the disk is full"), divisible="a" in texts)
        await disk.apply(batch)

    disk.backend.apply = apply
    async with Engine(store, app) as engine:
        call = asyncio.ensure_future(engine.call(busy, id="b"))
        await eventually(lambda: _busy(engine))
        await engine.deliver(Approve("1"), id="a", to=Address.process("b"))
        assert sizes[0] > sizes[1]
        for _ in range(50):
            await asyncio.sleep(0)
        clock.advance(STALL)
        assert await asyncio.wait_for(call, 5) == "done"
    assert [one.status for one in await inspection.messages(store) if one.sender] == ["parked"]


async def _busy(engine: Engine) -> bool:
    return any(resident.turn is not None for resident in engine._owner.residents.values())


async def test_answers_and_wakes_of_a_commit_count_when_the_next_turn_is_stuck(running: Running) -> None:
    app = App("stuck")

    @app.process
    class Both(Process):
        n: int = 0

        @on(Place, start=True, key=lambda message: message.order_id)
        async def place(self, message: Place) -> str:
            await self.receive(Approve)
            self.spawn(other)
            return "placed"

        @on(Close, key=lambda message: message.order_id)
        async def close(self, message: Close) -> None:
            await asyncio.get_running_loop().create_future()

    @app.process
    async def other(p: Process) -> str:
        return "other"

    async with running(app) as engine:
        placed = asyncio.ensure_future(engine.deliver(Place("1"), id="p", wait=True))
        await asyncio.sleep(0)
        closed = asyncio.ensure_future(engine.deliver(Close("1"), id="c", wait=True))
        process = (await _the(engine, "Both")).process_id
        await reaches(engine, process, "waiting")
        await engine.deliver(Approve("1"), id="a", to=Address.process(process))
        with pytest.raises(DeadlockedTurn):
            await asyncio.wait_for(closed, 5)
        assert await asyncio.wait_for(placed, 5) == "placed"
        await reaches(engine, (await _the(engine, "other")).process_id, "ended")


async def _the(engine: Engine, process_type: str) -> inspection.ProcessInfo:
    async def there() -> bool:
        return any(one.process_type == process_type for one in await inspection.processes(engine.store))

    await eventually(there)
    [one] = [one for one in await inspection.processes(engine.store) if one.process_type == process_type]
    return one


# --- what others leave --------------------------------------------------------------------------------------------------


async def _dead(engine: Engine, clock: VirtualClock, *ids: str) -> None:
    for id in ids:
        await engine.deliver(Comment("1", id), id=id, expires_after=timedelta(seconds=1))
    clock.advance(2_000_000)
    for id in ids:
        await settles(engine, id, "dead")


async def test_what_a_command_line_redrives_reaches_a_process_that_waits(running: Running, store: Store, clock: VirtualClock) -> None:
    app = App("waits")

    @app.process
    class Waits(Process):
        n: int = 0

        @on(Place, start=True, key=lambda message: f"order:{message.order_id}")
        async def place(self, message: Place) -> list[str]:
            return [(await self.receive(Comment)).text for _ in range(3)]

    async with running(app) as engine:
        for id in ("a", "b"):
            await engine.deliver(Comment("1", id), id=id, to=Address.key("order:1"), expires_after=timedelta(seconds=1))
        clock.advance(2_000_000)
        await settles(engine, "a", "dead")
        await settles(engine, "b", "dead")
        placed = asyncio.ensure_future(engine.deliver(Place("1"), id="p", wait=True))
        await reaches(engine, (await _the(engine, "Waits")).process_id, "waiting")
        await inspection.redrive(store, "a")
        await settles(engine, "a~2")
        await inspection.redrive(store, "b")
        await engine.deliver(Comment("1", "c"), id="c", to=Address.key("order:1"))
        assert await asyncio.wait_for(placed, 5) == ["a", "b", "c"]


async def test_what_a_command_line_redrives_to_a_busy_process_is_handled_in_order(
    running: Running, store: Store, clock: VirtualClock
) -> None:
    async with running(make_app(Ledger())) as engine:
        await _dead(engine, clock, "a", "b")
        await engine.deliver(Place("1", total=500), id="p")
        await reaches(engine, (await only_process(engine)).process_id, "waiting")
        await inspection.redrive(store, "a")
        await inspection.redrive(store, "b")
        await engine.deliver(Comment("1", "c"), id="c")
        await engine.deliver(Approve("1"), id="y", to=Address.key("order:1"))
        await settles(engine, "c")
        assert (await only_process(engine)).fields["comments"] == ["a", "b", "c"]
        assert await verify(store) == []


async def test_a_process_that_a_command_line_has_started_can_wait(running: Running, store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    app = make_app(ledger)

    @app.process
    async def sleeper(p: Process) -> str:
        await p.receive(Approve)
        return "approved"

    class Nobody(Process):
        @on(Comment, start=True, key=lambda message: message.order_id)
        async def comment(self, message: Comment) -> None: ...

    async with running(app) as engine:
        await engine.call(app.type_named("hello").target, "x", id="h")
    from perdure.engine.delivery import Deliver
    from perdure.engine.notes import NO_APP, Envelope

    envelope = Envelope(
        tenant_id="default",
        source="",
        message_id="s",
        digest=b"x",
        kind="sleeper()",
        payload=b"[]",
        address=Address.start("sleeper", id="s"),
        process_id="s",
    )
    async with running(app) as engine:
        await store.access.writer.run(Deliver(NO_APP, envelope))
        await reaches(engine, "s", "waiting")
        await engine.deliver(Approve("1"), id="a", to=Address.process("s"))
        await reaches(engine, "s", "ended")


async def test_a_caller_that_puts_a_process_under_a_tag_gives_it_what_is_kept_there(running: Running, store: Store) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        await engine.deliver(Broadcast("t", "early"), id="b", keep_for=timedelta(hours=1))
        process = await only_process(engine)
        await store.processes.register_correlated(TENANT, "t", ProcessId(process.process_id), identity(process.process_id))
        await settles(engine, "b")
        assert (await only_process(engine)).fields["comments"] == ["early"]


async def test_what_was_parked_goes_before_what_comes_after_a_caller_has_bound_the_key(running: Running, store: Store) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        process = await only_process(engine)
        for number in range(3):
            await engine.deliver(Comment("1", f"{number}"), id=f"c{number}", to=Address.key("alias"))
        await store.processes.register(TENANT, RegistryKey("alias"), identity(process.process_id))
        await engine.deliver(Comment("1", "3"), id="c3", to=Address.key("alias"))
        await settles(engine, "c3")
        assert (await only_process(engine)).fields["comments"] == ["0", "1", "2", "3"]


async def test_a_command_line_redrives_what_a_process_paused_on(running: Running, store: Store) -> None:
    app = App("paused")
    bad = [True]

    @app.process
    class Fussy(Process):
        seen: list[str] = []

        @on(Comment, start=True, key=lambda message: message.order_id, on_error="park")
        async def comment(self, message: Comment) -> int:
            if bad[0] and message.text == "bad":
                raise ValueError(message.text)
            self.seen.append(message.text)
            return len(self.seen)

    async with running(app) as engine:
        for text in ("good", "bad", "late"):
            await engine.deliver(Comment("1", text), id=text)
        await reaches(engine, (await _the(engine, "Fussy")).process_id, "paused")
        bad[0] = False
        await inspection.redrive(store, "bad")
        await settles(engine, "late")
        assert (await only_process(engine, "Fussy")).fields["seen"] == ["good", "bad", "late"]


async def test_only_what_a_process_paused_on_goes_before_its_mail(running: Running) -> None:
    app = App("paused")
    bad = [True]

    @app.process
    class Fussy(Process):
        seen: list[str] = []

        @on(Comment, start=True, key=lambda message: message.order_id, on_error="park")
        async def comment(self, message: Comment) -> int:
            if bad[0] and message.text.startswith("bad"):
                raise ValueError(message.text)
            self.seen.append(message.text)
            return len(self.seen)

    async with running(app) as engine:
        await engine.deliver(Comment("1", "bad 1"), id="b1")
        process = (await _the(engine, "Fussy")).process_id
        await reaches(engine, process, "paused")
        await engine.skip(process)
        await engine.deliver(Comment("1", "bad 2"), id="b2")
        await reaches(engine, process, "paused")
        await engine.redrive("b1")
        assert (await inspection.process(engine.store, process)).status == "paused"
        bad[0] = False
        await engine.redrive("b2")
        await settles(engine, "b1~2")
        assert (await only_process(engine, "Fussy")).fields["seen"] == ["bad 2", "bad 1"]


async def test_a_redrive_does_not_take_a_message_of_somebody_else_for_its_own(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "a"), id="m", expires_after=timedelta(seconds=1))
        clock.advance(2_000_000)
        await settles(engine, "m", "dead")
        await engine.deliver(Place("1"), id="p", wait=True)
        await engine.deliver(Comment("1", "a"), id="m~2", wait=True)
        assert await engine.redrive("m") == "m~3"
        await settles(engine, "m~3")
        assert (await only_process(engine)).fields["comments"] == ["a", "a"]


async def test_a_start_whose_process_has_failed_is_redriven_into_a_new_one(store: Store) -> None:
    app = App("poison")
    gate, runs = asyncio.Event(), []

    async def work() -> None:
        runs.append(1)
        await gate.wait()

    @app.process
    class Job(Process):
        @on(Place, start=True, key=lambda message: message.order_id)
        async def place(self, message: Place) -> str:
            await self.step(work)
            return "done"

    for number in range(8):
        engine = Engine(store, app)
        await engine.__aenter__()
        if not number:
            await engine.deliver(Place("1"), id="p")
        if number < 7:
            await eventually(partial(_long, runs, number + 1))
            await crash(engine)
    await settles(engine, "p", "dead")
    gate.set()
    await engine.redrive("p")
    await settles(engine, "p~2")
    await engine.close()


async def _long(items: list[int], length: int) -> bool:
    return len(items) >= length


async def test_a_process_is_read_again_only_behind_its_commits_that_are_under_way(store: Store) -> None:
    """A server holds a commit up; its node cannot begin steps meanwhile, and reads their processes again and again."""
    app, backend, ran = App("held up"), Full(store).backend, list[str]()
    apply, on_its_way, goes_on = backend.apply, asyncio.Event(), asyncio.Event()

    async def effect() -> str:
        ran.append("effect")
        return "done"

    @app.process
    async def once(p: Process) -> str:
        return await p.step(effect)

    async def held_up(batch: Batch) -> None:
        if ran and not on_its_way.is_set():
            on_its_way.set()
            await goes_on.wait()
        await apply(batch)

    backend.apply = held_up
    async with Engine(store, app) as engine:
        call = asyncio.ensure_future(engine.call(once, id="o"))
        await on_its_way.wait()
        owner = engine._owner
        owner.later(owner.overtaken, owner.residents["default", "o"])
        for _ in range(200):
            await asyncio.sleep(0)
        goes_on.set()
        assert await asyncio.wait_for(call, 5) == "done"
    assert ran == ["effect"]
