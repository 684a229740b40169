"""Flow control: places, rates and priorities, exactly, whatever crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure import App, Engine, Flow, Process, Rate, Store, VirtualClock, on, open_store
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.errors import DefinitionError, ProcessCancelled, UsageError
from perdure.flows.tables import FLOWS, PLACE
from tests.engine.conftest import Running
from tests.engine.orders import crash, eventually, holds


class Work:
    """Jobs that run until they are let go, and how many ran at the same time."""

    def __init__(self, **flow: Any) -> None:
        self.app = App("work")
        self.runs: list[str] = []
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = {}
        self.open = False

        @self.app.process(flow=Flow(**flow))
        async def job(p: Process, name: str, customer: str = "c", urgency: int = 0) -> str:
            return await p.step(self.work, name, customer)

        self.job = job

    async def work(self, name: str, customer: str) -> str:
        self.runs.append(name)
        for of in ("all", customer):
            self.now[of] += 1
            self.most[of] = max(self.most[of], self.now[of])
        await asyncio.sleep(0)
        if not self.open:
            await self.gates.setdefault(name, asyncio.Event()).wait()
        for of in ("all", customer):
            self.now[of] -= 1
        return name

    def let_go(self, *names: str) -> None:
        for name in names:
            self.gates.setdefault(name, asyncio.Event()).set()

    def begin(self, engine: Engine, name: str, *more: Any) -> asyncio.Task[str]:
        return asyncio.create_task(engine.call(self.job, name, *more, id=name))

    async def ran(self, *names: str) -> None:
        await eventually(lambda: _equal(sorted(self.runs), sorted(names)))


async def _equal(found: list[str], wanted: list[str]) -> bool:
    return found == wanted


async def accepted(engine: Engine, *names: str) -> None:
    async def there() -> bool:
        return {one.process_id for one in await inspection.processes(engine.store)} >= set(names)

    await eventually(there)


async def empty(store: Store) -> bool:
    """Nobody holds a place, and nobody waits for one."""
    rows = await store.access.reader.scan(_all_flows())
    return await store.access.reader.count(PLACE) == 0 and all((row.running, row.waiting) == (0, 0) for _, row in rows)


def _all_flows() -> Any:
    from perdure.core.table import Scan

    return Scan(FLOWS, (), 1000)


async def test_no_more_processes_of_a_type_run_at_once_than_allowed_and_all_do_in_the_end(running: Running) -> None:
    work = Work(concurrency=3)
    work.open = True
    async with running(work.app) as engine:
        replies = await asyncio.gather(*(work.begin(engine, f"j{n}") for n in range(50)))

        assert replies == [f"j{n}" for n in range(50)]
        assert work.most["all"] == 3
        assert await empty(engine.store)


async def test_a_key_that_is_full_keeps_no_other_waiting(running: Running) -> None:
    work = Work(concurrency=3, key=lambda _name, customer, _urgency: customer, key_concurrency=1)
    async with running(work.app) as engine:
        tasks = [work.begin(engine, f"a{n}", "ann") for n in range(5)]
        await accepted(engine, *(f"a{n}" for n in range(5)))
        tasks += [work.begin(engine, "b", "bob"), work.begin(engine, "c", "cat")]
        await work.ran("a0", "b", "c")
        tasks.append(work.begin(engine, "d", "dan"))
        await accepted(engine, "d")

        work.let_go("a0")
        await eventually(lambda: _is(len(work.runs) == 4))
        assert set(work.runs[3:]) <= {"a1", "d"}
        work.let_go(*(f"a{n}" for n in range(5)), "b", "c", "d")
        await asyncio.gather(*tasks)
        assert [run for run in work.runs if run.startswith("a")] == [f"a{n}" for n in range(5)]
        assert (work.most["all"], work.most["ann"]) == (3, 1)
        assert await empty(engine.store)


async def _is(condition: bool) -> bool:
    return condition


async def test_the_lowest_priority_begins_first_and_of_equal_ones_the_oldest(running: Running) -> None:
    work = Work(concurrency=1, priority=lambda _name, _customer, urgency: urgency)
    async with running(work.app) as engine:
        tasks = [work.begin(engine, "first")]
        await accepted(engine, "first")
        for name, urgency in (("late", 5), ("soon", 1), ("late too", 5), ("now", -1)):
            tasks.append(work.begin(engine, name, "c", urgency))
            await accepted(engine, name)
        work.let_go("first", "late", "soon", "late too", "now")
        await asyncio.gather(*tasks)
        assert work.runs == ["first", "now", "soon", "late", "late too"]


async def test_processes_begin_evenly_spaced_by_the_rate(running: Running, clock: VirtualClock) -> None:
    work = Work(rate=Rate(2, timedelta(seconds=10)))
    work.open = True
    async with running(work.app) as engine:
        tasks = [work.begin(engine, f"j{n}") for n in range(4)]
        await accepted(engine, *(f"j{n}" for n in range(4)))
        await work.ran("j0")
        for count in (2, 3, 4):
            clock.advance(5 * SECOND - 1)
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(work.runs) == count - 1
            clock.advance(1)
            await eventually(lambda count=count: _is(len(work.runs) == count))  # type: ignore[misc]
        await asyncio.gather(*tasks)
        assert await empty(engine.store)


async def test_a_rate_that_has_room_again_goes_to_who_waits(store: Store, clock: VirtualClock) -> None:
    work = Work(key=lambda _name, customer, _urgency: customer, key_rate=Rate(1, timedelta(seconds=1)))
    work.open = True
    async with Engine(store, work.app) as engine:
        assert await work.begin(engine, "one") == "one"
        tasks = [work.begin(engine, "two")]
        await accepted(engine, "two")
        await holds(lambda: not engine._owner.wheel._turning)
        engine._owner.wheel.stop()  # nobody looks, but the newcomer
        clock.advance(SECOND)
        tasks.append(work.begin(engine, "three"))
        await accepted(engine, "three")
        for _ in range(50):
            await asyncio.sleep(0)
        await store.commit()
        assert work.runs == ["one"]
        for task in tasks:
            task.cancel()


async def test_a_rate_of_keys_and_a_restart_with_other_limits(store: Store, clock: VirtualClock) -> None:
    work = Work(key=lambda _name, customer, _urgency: customer, key_rate=Rate(1, timedelta(minutes=1)))
    work.open = True
    async with Engine(store, work.app) as engine:
        tasks = [work.begin(engine, f"{who}{n}", who) for n in range(3) for who in ("a", "b")]
        await accepted(engine, "a0", "a1", "a2", "b0", "b1", "b2")
        await work.ran("a0", "b0")
        clock.advance(60 * SECOND)
        await work.ran("a0", "b0", "a1", "b1")
    await asyncio.gather(*tasks, return_exceptions=True)
    free = Work()
    free.open = True
    async with Engine(store, free.app):
        await eventually(lambda: empty(store))
        assert sorted(free.runs) == ["a2", "b2"]


async def test_who_follows_by_the_rate_of_a_key_begins_in_time_after_the_one_that_the_type_held_up(
    store: Store, clock: VirtualClock
) -> None:
    work = Work(concurrency=2, key=lambda _name, customer, _urgency: customer, key_rate=Rate(1, timedelta(seconds=1)))
    async with Engine(store, work.app) as engine:
        tasks = [work.begin(engine, "b", "bob"), work.begin(engine, "c", "cat")]
        await work.ran("b", "c")
        tasks += [work.begin(engine, "a0", "ann"), work.begin(engine, "a1", "ann")]
        await accepted(engine, "a0", "a1")
        clock.advance(10 * SECOND)
        work.let_go("b")
        await work.ran("b", "c", "a0")
        work.let_go("c")
        await tasks[1]
        clock.advance(SECOND - 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert "a1" not in work.runs
        clock.advance(1)
        await work.ran("b", "c", "a0", "a1")
        work.let_go("a0", "a1")
        await asyncio.gather(*tasks)
        assert await empty(store)


async def test_who_is_cancelled_while_the_type_holds_it_up_lets_the_next_of_its_key_follow(store: Store, clock: VirtualClock) -> None:
    work = Work(concurrency=1, key=lambda _name, customer, _urgency: customer, key_rate=Rate(1, timedelta(seconds=1)))
    async with Engine(store, work.app) as engine:
        tasks = [work.begin(engine, "b", "bob")]
        await work.ran("b")
        tasks += [work.begin(engine, "a0", "ann"), work.begin(engine, "a1", "ann")]
        await accepted(engine, "a0", "a1")
        await engine.cancel("a0")
        work.let_go("b", "a1")
        await work.ran("b", "a1")
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await empty(store)


async def test_a_duplicate_of_a_start_that_waits_gets_its_reply(running: Running) -> None:
    work = Work(concurrency=1)
    async with running(work.app) as engine:
        first = work.begin(engine, "one")
        await accepted(engine, "one")
        waiting = [work.begin(engine, "two") for _ in range(3)]
        await accepted(engine, "two")
        work.let_go("one", "two")
        assert await first == "one"
        assert await asyncio.gather(*waiting) == ["two"] * 3
        assert work.runs == ["one", "two"]


async def test_who_waits_for_a_place_can_be_cancelled_and_who_holds_one_gives_it_back(running: Running) -> None:
    work = Work(concurrency=1)
    async with running(work.app) as engine:
        tasks = [work.begin(engine, "one")]
        await accepted(engine, "one")
        for name in ("two", "three"):
            tasks.append(work.begin(engine, name))
            await accepted(engine, name)
        await engine.cancel("two")
        await engine.cancel("one", force=True)
        await work.ran("one", "three")
        work.let_go("three")
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(replies[0], ProcessCancelled)
        assert replies[2] == "three"
        assert await empty(engine.store)


class Ask(msgspec.Struct, tag="ask"):
    id: str


async def test_the_first_message_of_a_process_that_waits_goes_before_later_ones(running: Running) -> None:
    app, order, gate = App("entities"), list[str](), asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    @app.process(flow=Flow(concurrency=1))
    class Entity(Process):
        asked: int = 0

        @on(Ask, start=True, key=lambda message: message.id)
        async def hear(self, message: Ask) -> int:
            self.asked += 1
            order.append(f"{message.id} {self.asked}")
            if self.asked == 1:
                await self.step(wait)
            return self.asked

    async with running(app) as engine:
        tasks = []
        for n, name in enumerate(("a", "b", "b", "a")):
            tasks.append(asyncio.create_task(engine.deliver(Ask(name), id=str(n), wait=True)))
            await eventually(lambda n=n: _known(engine, str(n)))  # type: ignore[misc]
        gate.set()
        assert await asyncio.gather(*tasks) == [1, 1, 2, 2]
        assert [one for one in order if one.startswith("b")] == ["b 1", "b 2"]
        assert await empty(engine.store)


async def _known(engine: Engine, message_id: str) -> bool:
    from perdure.errors import MessageNotFound

    try:
        await engine.explain(message_id)
    except MessageNotFound:
        return False
    return True


async def test_a_flow_that_cannot_tell_the_key_refuses_that_start_alone(running: Running) -> None:
    work = Work(key=lambda name, _customer, _urgency: {"good": "k"}[name], key_concurrency=1)
    work.open = True
    async with running(work.app) as engine:
        with pytest.raises(UsageError, match="cannot be told: KeyError"):
            await engine.call(work.job, "bad", id="bad")
        assert await engine.call(work.job, "good", id="good") == "good"


@pytest.mark.parametrize(
    "flow",
    [Flow(concurrency=0), Flow(rate=Rate(0, timedelta(1))), Flow(rate=Rate(1, timedelta())), Flow(key_concurrency=1)],
    ids=["no places", "no count", "no time", "no key"],
)
def test_limits_that_let_nothing_through_are_refused(flow: Flow) -> None:
    async def job(p: Process) -> None: ...

    with pytest.raises(DefinitionError):
        App("bad").process(flow=flow)(job)


@pytest.mark.parametrize("commit", range(1, 16))
async def test_a_crash_at_each_commit_keeps_the_limits_and_loses_nobody(clock: VirtualClock, commit: int) -> None:
    work = Work(concurrency=2, key=lambda _name, customer, _urgency: customer, key_concurrency=1)
    names = [f"{who}{n}" for n in range(3) for who in ("a", "b", "c")]
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        engine = Engine(store, work.app)
        await engine.__aenter__()
        last = store.access.writer.commits + commit
        tasks = []
        for name in names:
            tasks.append(work.begin(engine, name, name[0]))
            work.let_go(name)
            await asyncio.sleep(0)
        await eventually(lambda: _is(store.access.writer.commits >= last or len(work.runs) >= 9))
        await crash(engine)
        for task in tasks:
            task.cancel()
        work.now.clear()
        async with Engine(store, work.app) as engine:
            replies = await asyncio.gather(*(work.begin(engine, name, name[0]) for name in names))
            assert replies == names
            assert await empty(store)
    assert work.most["all"] <= 2
    assert all(work.most[who] <= 1 for who in "abc")
