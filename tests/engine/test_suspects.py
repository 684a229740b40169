"""The lane of those that were open at crashes: who gets into it, one at a time, and what counts as an attempt."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from perdure import App, Engine, Process, Store, VirtualClock
from perdure.clock import SECOND
from perdure.conversations.tables import EVENTS, TURN
from perdure.core.table import Key
from perdure.engine import inspection
from perdure.errors import PoisonMessage, StoreBusy
from perdure.limits import POISON_ATTEMPTS, POISON_SOLO_AFTER
from perdure.messages.tables import MAILBOX
from tests.engine.orders import crash, eventually, holds
from tests.engine.test_looking import Broken


class Jobs:
    """An app whose jobs begin a step that does not end while the gate is shut."""

    def __init__(self) -> None:
        self.began: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.app = App("jobs")

        @self.app.process
        async def job(p: Process, name: str) -> str:
            return await p.step(self.work, name)

        self.job = job

    async def work(self, name: str) -> str:
        self.began[name] += 1
        await self.open.wait()
        return name


class Busy:
    """A store that cannot read the first mailboxes that it is asked for."""

    def __init__(self, store: Store, count: int) -> None:
        reader: Any = store.access.reader
        self.get = reader.get
        self.count = count
        self.refused: list[str] = []
        setattr(reader, "get", self._get)  # noqa: B010  # as one injects a fault

    async def _get(self, key: Key[Any]) -> Any:
        if key.table is MAILBOX and len(self.refused) < self.count:
            self.refused.append(str(key.parts[1]))
            raise StoreBusy("locked")
        return await self.get(key)


async def settle(rounds: int = 500) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


async def begun(store: Store, jobs: Jobs, *names: str, **bounds: Any) -> Engine:
    """Start an engine in which callers ask for jobs; their calls end with it."""
    engine = Engine(store, jobs.app, **bounds)
    await engine.__aenter__()
    for name in names:
        call = asyncio.ensure_future(engine.call(jobs.job, name, id=name))
        call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return engine


async def attempts(store: Store, process_id: str) -> int:
    turn = await store.access.reader.get(TURN.key("default", process_id, process_id))
    assert turn is not None
    return turn.attempts


async def suspects(store: Store, jobs: Jobs) -> None:
    """Leave two jobs that were open at so many crashes that they are resumed one at a time."""
    engine = await begun(store, jobs, "a", "b")
    for _ in range(POISON_SOLO_AFTER):
        await holds(lambda: set(jobs.began) == {"a", "b"})
        jobs.began.clear()
        await crash(engine)
        engine = await begun(store, jobs)
    await holds(lambda: jobs.began)
    await crash(engine)
    jobs.began.clear()


async def test_a_suspect_that_cannot_be_read_keeps_the_others_waiting(store: Store, clock: VirtualClock) -> None:
    jobs = Jobs()
    await suspects(store, jobs)
    busy = Busy(store, 1)
    async with Engine(store, jobs.app):
        await holds(lambda: busy.refused and clock.next_alarm() is not None)
        await settle()
        assert jobs.began == {}

        clock.advance(SECOND)
        await holds(lambda: jobs.began)
        await settle()
        assert jobs.began == dict.fromkeys(busy.refused, 1)
        jobs.open.set()
        await holds(lambda: set(jobs.began) == {"a", "b"})


async def test_what_comes_for_a_suspect_that_cannot_be_read_waits_with_it(store: Store, clock: VirtualClock) -> None:
    jobs = Jobs()
    await suspects(store, jobs)
    busy = Busy(store, 1)
    async with Engine(store, jobs.app) as engine:
        await holds(lambda: busy.refused and clock.next_alarm() is not None)
        await engine.cancel(busy.refused[0])
        await settle()
        assert jobs.began == {}

        clock.advance(SECOND)
        jobs.open.set()

        await eventually(lambda: _done(engine, "a"))
        await eventually(lambda: _done(engine, "b"))


async def test_a_bug_as_a_process_is_read_stops_neither_the_lane_nor_its_slot(store: Store) -> None:
    jobs = Jobs()
    await suspects(store, jobs)
    broken = Broken(store)
    broken.indexes = {EVENTS: 1}
    async with Engine(store, jobs.app, max_concurrency=1):
        await holds(lambda: jobs.began)

        assert len(broken.failed) == 1
        assert sum(jobs.began.values()) == 1


async def test_an_attempt_that_is_recorded_is_not_counted_again_when_its_process_cannot_be_read(store: Store, clock: VirtualClock) -> None:
    jobs = Jobs()
    engine = await begun(store, jobs, "a")
    await holds(lambda: jobs.began)
    await crash(engine)
    busy = Busy(store, 3)
    async with Engine(store, jobs.app):
        while jobs.began["a"] != 2:
            await settle()
            clock.advance(SECOND)

        assert len(busy.refused) == 3
        assert await attempts(store, "a") == 2


async def test_a_turn_that_had_not_begun_at_a_crash_has_all_its_attempts_alone(store: Store) -> None:
    jobs = Jobs()
    engine = await begun(store, jobs, "first", "second", max_concurrency=1)
    await eventually(lambda: _opened(store, "second"))
    await holds(lambda: jobs.began)
    await crash(engine)
    assert jobs.began == {"first": 1}
    await inspection.cancel(store, "first", force=True)

    for number in range(1 + POISON_ATTEMPTS):
        engine = await begun(store, jobs)
        await holds(lambda number=number: jobs.began["second"] == number + 1)  # type: ignore[misc]  # bound at once
        await crash(engine)

    async with Engine(store, jobs.app) as engine:
        with pytest.raises(PoisonMessage):
            await engine.call(jobs.job, "second", id="second")


@pytest.mark.parametrize("rounds", [0, 500], ids=["just-accepted", "queued"])
async def test_turns_that_wait_for_a_slot_at_a_clean_stop_have_not_crashed(store: Store, rounds: int) -> None:
    jobs = Jobs()
    engine = await begun(store, jobs, "first", "second", "third", max_concurrency=1)
    await eventually(lambda: _opened(store, "third"))
    await settle(rounds)
    for _ in range(3):
        await engine.close()
        assert [await attempts(store, name) for name in ("first", "second", "third")] == [0, 0, 0]
        engine = await begun(store, jobs, max_concurrency=1)
        await holds(lambda: sum(jobs.began.values()))
        jobs.began.clear()
    await engine.close()


async def _opened(store: Store, process_id: str) -> bool:
    return any(one.process_id == process_id for one in await inspection.processes(store))


async def _done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).reply is not None
