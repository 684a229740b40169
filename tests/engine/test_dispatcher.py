"""Turns and steps have bounds, tenants take turns at them, and whoever waits for a slot waits durably."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, limits, on, open_store
from perdure.engine.dispatcher import TenantQueue
from perdure.engine.inspection import processes
from tests.engine.orders import Approve, crash, eventually, reaches


class Work:
    """Steps that begin, in order, and end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gate = asyncio.Event()

    async def step(self, name: str) -> str:
        self.begun.append(name)
        await self.gate.wait()
        return name

    async def has(self, *names: str) -> bool:
        return self.begun == list(names)


class Tick(msgspec.Struct, tag="tick"):
    name: str


def make_app(work: Work) -> App:
    app = App("work")

    @app.process
    async def job(p: Process, name: str) -> str:
        return await p.step(work.step, name)

    @app.process
    async def patient(p: Process) -> str:
        return (await p.receive(Approve)).by

    @app.process
    class Meter(Process):
        @on(Tick, start=True, key=lambda _message: "meter")
        async def tick(self, message: Tick) -> str:
            return await self.step(work.step, message.name)

    return app


def start(engine: Engine, app: App, name: str, *, tenant: str = "default") -> asyncio.Future[str]:
    """Start a job."""
    return asyncio.ensure_future(engine.call(app.type_named("job").target, name, id=name, tenant=tenant))


async def settled(engine: Engine) -> None:
    """Wait until what was handed to the store has been taken in."""
    for _ in range(3):
        await engine.store.commit()


async def runnable(engine: Engine, count: int) -> None:
    """Wait until so many processes are stored as runnable."""

    async def stored() -> bool:
        return sum(one.status == "runnable" for one in await processes(engine.store)) == count

    await eventually(stored)


def test_tenants_take_turns_and_the_processes_of_one_go_in_order() -> None:
    queue: TenantQueue[str, int] = TenantQueue()
    for tenant, key in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.put(tenant, key, 0)
    queue.drop("a", "2")
    queue.drop("d", "1")

    taken = []
    while queue.size:
        tenant, key, _ = queue.take()
        taken.append(tenant + key)

    assert taken == ["a1", "b1", "c1", "a3", "b2"]


def test_what_is_put_aside_takes_turns_with_the_rest_of_its_tenant() -> None:
    queue: TenantQueue[str, int] = TenantQueue()
    for key in "123":
        queue.put("a", key, 0, aside=True)
    for tenant, key in ("a4", "a5", "b6"):
        queue.put(tenant, key, 0)

    assert queue.find("a", "2") == 0
    assert [queue.take()[1] for _ in range(queue.size)] == ["4", "6", "1", "5", "2", "3"]


@pytest.mark.parametrize("dropped", [False, True])
async def test_an_engine_that_is_over_looks_for_room_no_more(dropped: bool) -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        work = Work()
        app = make_app(work)
        async with Engine(store, app, max_concurrency=1) as engine:
            tasks = [start(engine, app, f"j{number}") for number in range(3)]
            await runnable(engine, 3)
            await settled(engine)
            engine._owner.load("default", "one more")
            if dropped:
                engine._owner.drop()
        await store.commit()
        for _ in range(10):
            clock.advance(limits.LONG_STEP_US)
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert clock.next_alarm() is None


async def test_what_is_over_the_bound_is_accepted_and_runs_later(store: Store) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=2) as engine:
        tasks = [start(engine, app, f"j{number}") for number in range(5)]
        await runnable(engine, 5)
        await settled(engine)
        assert work.begun == ["j0", "j1"]
        assert len(engine._owner.residents) == 2

        work.gate.set()

        assert await asyncio.gather(*tasks) == [f"j{number}" for number in range(5)]
    assert work.begun == [f"j{number}" for number in range(5)]


async def test_a_flood_of_one_tenant_lets_another_in_at_once(store: Store) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1) as engine:
        tasks = [start(engine, app, f"a{number}", tenant="a") for number in range(4)]
        await eventually(lambda: work.has("a0"))
        tasks.append(start(engine, app, "b0", tenant="b"))
        await eventually(lambda: _queued(engine, 4))

        work.gate.set()
        await asyncio.gather(*tasks)

    assert work.begun == ["a0", "a1", "b0", "a2", "a3"]


async def _queued(engine: Engine, count: int) -> bool:
    return engine._owner.dispatcher._queue.size == count


async def test_turns_that_wait_do_not_count(store: Store) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1) as engine:
        patients = [asyncio.ensure_future(engine.call(app.type_named("patient").target, id=f"p{number}")) for number in range(3)]
        for number in range(3):
            await reaches(engine, f"p{number}", "waiting")
        work.gate.set()

        assert await start(engine, app, "j") == "j"

        for number in range(3):
            await engine.deliver(Approve("1", by=str(number)), id=f"a{number}", to=Address.process(f"p{number}"))
        assert await asyncio.gather(*patients) == ["0", "1", "2"]


async def test_a_waiting_turn_that_is_woken_waits_for_its_slot(store: Store) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1) as engine:
        patient = asyncio.ensure_future(engine.call(app.type_named("patient").target, id="p"))
        await reaches(engine, "p", "waiting")
        job = start(engine, app, "j")
        await eventually(lambda: work.has("j"))

        await engine.deliver(Approve("1", by="boss"), id="a", to=Address.process("p"))
        await settled(engine)
        assert not patient.done()
        work.gate.set()

        assert (await job, await patient) == ("j", "boss")


async def test_long_steps_keep_their_own_slots_and_no_others(store: Store, clock: VirtualClock) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1, max_steps=3) as engine:
        tasks = [start(engine, app, f"j{number}") for number in range(5)]
        await eventually(lambda: _begun(work, 3, clock))
        for _ in range(9):
            await settled(engine)
            clock.advance(limits.LONG_STEP_US)
        assert work.begun == ["j0", "j1", "j2"]
        assert len(engine._owner.residents) == 4  # the fourth holds the turn's slot until there is one for its step

        work.gate.set()

        assert await asyncio.gather(*tasks) == [f"j{number}" for number in range(5)]
        assert engine._owner.dispatcher._steps == 0


async def _begun(work: Work, count: int, clock: VirtualClock | None = None) -> bool:
    if clock is not None:
        clock.advance(limits.LONG_STEP_US)
    return len(work.begun) == count


async def test_a_process_with_mail_lets_others_go_between_its_turns(store: Store) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1) as engine:
        ticks = [asyncio.ensure_future(engine.deliver(Tick(f"t{number}"), id=f"t{number}", wait=True)) for number in range(4)]
        await eventually(lambda: work.has("t0"))
        job = start(engine, app, "j")
        await eventually(lambda: _queued(engine, 1))
        await settled(engine)

        work.gate.set()
        await asyncio.gather(job, *ticks)

    assert work.begun == ["t0", "j", "t1", "t2", "t3"]


async def test_mail_for_a_process_that_waits_for_its_slot_is_not_lost(store: Store) -> None:
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1) as engine:
        job = start(engine, app, "j")
        await eventually(lambda: work.has("j"))
        first = asyncio.ensure_future(engine.deliver(Tick("t0"), id="t0", wait=True))
        await eventually(lambda: _queued(engine, 1))
        second = asyncio.ensure_future(engine.deliver(Tick("t1"), id="t1", wait=True))
        await settled(engine)

        work.gate.set()

        assert list(await asyncio.gather(job, first, second)) == ["j", "t0", "t1"]


@pytest.mark.parametrize("most", [2, 100])
async def test_a_restart_takes_up_what_is_runnable_within_the_bounds(store: Store, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(limits, "DISPATCH_MAX", most)
    before, after = Work(), Work()
    app = make_app(before)
    engine = Engine(store, app, max_concurrency=1)
    await engine.__aenter__()
    for number in range(12):
        tenant = "a" if number % 3 else "b"
        await engine.deliver(Tick(f"t{number}"), id=f"t{number}", to=Address.start("Meter"), tenant=tenant)
    await crash(engine)

    async with Engine(store, make_app(after), max_concurrency=2) as engine:
        dispatcher = engine._owner.dispatcher
        assert len(dispatcher._with_slot) <= 2
        assert dispatcher._queue.length("a") <= most
        after.gate.set()
        await eventually(lambda: _begun(after, 12))

    assert Counter(after.begun) == Counter(f"t{number}" for number in range(12))


async def test_more_starts_than_are_noted_all_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DISPATCH_MAX", 3)
    monkeypatch.setattr(limits, "DISPATCH_NOTES", 1)
    work = Work()
    app = make_app(work)
    async with Engine(store, app, max_concurrency=1) as engine:
        tasks = [start(engine, app, f"j{number}") for number in range(12)]
        await runnable(engine, 12)
        await settled(engine)
        assert engine._owner.dispatcher._queue.size == 3
        work.gate.set()

        assert await asyncio.gather(*tasks) == [f"j{number}" for number in range(12)]
    assert len(work.begun) == 12


async def test_a_closed_engine_reads_no_more_of_a_crowd(store: Store) -> None:
    async with Engine(store, make_app(Work())) as engine:
        pass

    engine._owner.refill("default")  # a slot came free just before the close, and its callback was still queued

    assert not engine._owner._tasks


async def test_a_tenant_alone_has_more_slots_than_several_side_by_side(store: Store, clock: VirtualClock) -> None:
    most, few = limits.MAX_CONCURRENCY + 20, limits.MAX_CONCURRENCY
    work = Work()
    app = make_app(work)

    async def begun(count: int) -> bool:
        return len(work.begun) >= count

    async with Engine(store, app) as engine:
        alone = [start(engine, app, f"a{n}", tenant="alone") for n in range(most)]
        await eventually(lambda: begun(most))
        work.gate.set()
        await asyncio.gather(*alone)
        work.gate.clear()
        work.begun.clear()

        beside = [start(engine, app, "b", tenant="beside")]
        await eventually(lambda: begun(1))
        beside += [start(engine, app, f"c{n}", tenant="alone") for n in range(most)]
        await eventually(lambda: begun(few))
        await settled(engine)
        assert len(work.begun) == few

        work.gate.set()
        await asyncio.gather(*beside)
        clock.advance(limits.BESIDE_US)
        work.gate.clear()
        work.begun.clear()
        again = [start(engine, app, f"d{n}", tenant="alone") for n in range(most)]
        await eventually(lambda: begun(most))
        work.gate.set()
        await asyncio.gather(*again)
