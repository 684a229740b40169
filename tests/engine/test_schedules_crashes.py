"""Schedules and crashes: the engine dropped at each commit, two engines that look at once, and what is under way."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from perdure import Engine, Store, VirtualClock, open_store
from perdure.core.table import Scan
from perdure.core.view import View
from perdure.engine import inspection, verification
from perdure.engine.firing import SOURCE, Fire, Release, Trigger, id_of, payload_of
from perdure.messages.tables import MESSAGES
from perdure.timers.schedules import Pause, waiting_of
from perdure.timers.tables import SCHEDULE, ScheduleRow
from tests.engine.orders import crash, eventually
from tests.engine.timetable import HOUR, START, Log, quiet, timetable, until

DECLARED: dict[str, dict[str, Any]] = {
    "queues": {"cron": "0 * * * *", "overlap": "queue", "catch_up": "all"},
    "skips": {"cron": "30 * * * *", "overlap": "allow", "catch_up": "all"},
    "lasts": {"cron": "0 * * * *", "catch_up": "last"},
}
COMMITS = 40  # more than the run has: its end is met, too


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


def app(log: Log) -> Any:
    return timetable(log, **{name: dict(timing) for name, timing in DECLARED.items()})


async def _outcome(crash_after: int | None) -> tuple[tuple[object, ...], bool]:
    """Run eight hours, six of them caught up; return what has come of it, and whether there was a crash."""
    clock, log = VirtualClock(START), Log()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        async with Engine(store, app(log)) as engine:
            await until(engine, clock, START + HOUR)
        clock.advance(6 * HOUR)
        writer = store.access.writer
        base, crashed = writer.commits, False
        engine = Engine(store, app(log))
        starting = asyncio.ensure_future(_run(engine))
        while crash_after is not None and not starting.done():
            if writer.commits - base >= crash_after:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                await crash(engine)
                crashed = True
                break
            await asyncio.sleep(0)
        if crashed:
            engine = Engine(store, app(log))
            await _run(engine)
        else:
            await starting
        await until(engine, clock, START + 8 * HOUR)
        infos = [
            (one.schedule_id, one.fired, one.skipped, one.missed, one.waiting, one.last_slot, [(f.slot, f.outcome) for f in one.recent])
            for one in await engine.schedules.list()
        ]
        messages = [(one.message_id, one.status) for one in await inspection.messages(store)]
        found = await verification.verify(store)
        await engine.close()
    return (infos, messages, sorted(set(log.ran)), found), crashed


async def _run(engine: Engine) -> None:
    await engine.__aenter__()
    await quiet(engine)


async def test_a_crash_at_each_commit_of_catching_up_changes_nothing_in_the_outcome() -> None:
    expected, _ = await _outcome(None)
    crashes = 0

    for crash_after in range(COMMITS):
        found, crashed = await _outcome(crash_after)
        crashes += crashed
        # How a slot was fired may differ: what waited for the one before may find it over.
        assert _without_queueing(found) == _without_queueing(expected), f"crash after commit {crash_after}"

    assert crashes >= 10
    infos, messages, ran, findings = expected
    assert [(one[0], one[1], one[3]) for one in infos] == [("lasts", 3, 5), ("queues", 8, 0), ("skips", 8, 0)]  # type: ignore[attr-defined]
    assert len(messages) == len(ran) == 19  # type: ignore[arg-type]
    assert findings == []


def _without_queueing(outcome: tuple[Any, ...]) -> tuple[Any, ...]:
    infos, *others = outcome
    return ([(*one[:-1], [slot for slot in one[-1] if slot[1] != "queued"]) for one in infos], *others)


async def _due(store: Store, clock: VirtualClock) -> tuple[Engine, ScheduleRow, Fire]:
    """Return an engine that is not open, a schedule that is due, and the firing of its slot."""
    async with Engine(store, timetable(Log(), job={"cron": "0 * * * *"})):
        pass
    clock.advance(HOUR)
    engine = Engine(store, timetable(Log(), job={"cron": "0 * * * *"}))
    row = await store.access.reader.get(SCHEDULE.key("default", "job"))
    assert row is not None
    slot = START + HOUR
    fire = Fire(
        rules=engine._owner.rules,
        tenant_id="default",
        schedule_id="job",
        seen=row,
        slot=slot,
        last=slot,
        dropped=0,
        following=slot + HOUR,
    )
    return engine, row, fire


@pytest.mark.parametrize("together", [True, False])
async def test_of_two_engines_that_find_one_slot_due_one_fires_it(store: Store, clock: VirtualClock, together: bool) -> None:
    _, _, fire = await _due(store, clock)

    if together:
        first, second = await asyncio.gather(store.access.writer.run(fire), store.access.writer.run(fire))
    else:
        first, second = await store.access.writer.run(fire), await store.access.writer.run(fire)

    assert first.row is not None
    assert (second.row, second.notes) == (None, [])
    assert len(await store.access.reader.scan(Scan(MESSAGES, ("default",), 10))) == 1


async def test_a_schedule_that_was_paused_since_it_was_found_due_does_not_fire(store: Store, clock: VirtualClock) -> None:
    _, _, fire = await _due(store, clock)
    await store.access.writer.run(Pause("default", "job"))

    fired = await store.access.writer.run(fire)

    assert fired.row is None
    assert await store.access.reader.scan(Scan(MESSAGES, ("default",), 10)) == []


async def test_two_engines_release_what_waits_once(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()
    async with Engine(store, timetable(log, job={"cron": "0 * * * *", "overlap": "queue"})) as engine:
        await until(engine, clock, START + 3 * HOUR)
        release = Release(engine._owner.rules, "default", "job")
        assert (await store.access.writer.run(release)).runs == id_of("job", START + HOUR)
        log.open.set()
        await eventually(lambda: _ran(log, 3))
        await quiet(engine)
        assert (await store.access.writer.run(release)).row is None

    assert log.slots("job") == [START + hour * HOUR for hour in (1, 2, 3)]


async def _ran(log: Log, count: int) -> bool:
    return len(log.ran) >= count


async def test_a_slot_does_not_overtake_those_that_wait(store: Store, clock: VirtualClock) -> None:
    """The one before is over, and what waits is about to be released, when the next slot comes."""
    _, row, fire = await _due(store, clock)
    waits = msgspec.structs.replace(row, overlap="queue", queue_max=9, queued=1, waiting=b'[[7,"job/7"]]')
    fire = msgspec.structs.replace(fire, seen=waits)
    await store.access.writer.run(Overwrite(waits))

    fired = await store.access.writer.run(fire)

    assert fired.row is not None
    assert [slot for slot, _ in waiting_of(fired.row)] == [7, fire.slot]


class Overwrite(msgspec.Struct, frozen=True):
    """Put a row where a test wants it."""

    row: ScheduleRow

    def reads(self) -> list[Any]:
        return [SCHEDULE.key("default", "job")]

    def decide(self, view: View) -> None:
        view.get(SCHEDULE.key("default", "job"))
        view.update(SCHEDULE.key("default", "job"), self.row)


async def test_nothing_is_released_during_a_pause(store: Store, clock: VirtualClock) -> None:
    engine, row, _ = await _due(store, clock)
    waits = msgspec.structs.replace(row, overlap="queue", queue_max=9, queued=1, waiting=b'[[7,"job/7"]]')
    await store.access.writer.run(Overwrite(waits))
    await store.access.writer.run(Pause("default", "job"))

    released = await store.access.writer.run(Release(engine._owner.rules, "default", "job"))

    assert (released.row, released.runs) == (None, "")


async def test_a_slot_and_a_trigger_at_its_instant_are_two_firings(store: Store, clock: VirtualClock) -> None:
    engine, _, fire = await _due(store, clock)
    await store.access.writer.run(fire)
    await engine.__aenter__()
    await quiet(engine)

    await store.access.writer.run(Trigger(engine._owner.rules, "default", "job", START + HOUR))
    await engine.close()

    messages = [one.message_id for one in await inspection.messages(store)]
    assert messages == ["job/2026-01-01T01:00:00Z", "job/2026-01-01T01:00:00Z+1"]


def test_the_slots_time_goes_behind_the_arguments() -> None:
    assert payload_of(b"[]", None) == b"[]"
    assert payload_of(b"[]", START) == b'["2026-01-01T00:00:00Z"]'
    assert payload_of(b'["a",{}]', START) == b'["a",{},"2026-01-01T00:00:00Z"]'
    assert SOURCE == "pd-schedule"
