"""Schedules: what starts when, what overlap and catch-up say, and what people do with them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock
from perdure.engine import inspection
from tests.engine.orders import Comment, Ledger, Place, eventually, make_app
from tests.engine.timetable import DAY, HOUR, MINUTE, START, Log, quiet, timetable, until

HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


async def test_a_schedule_starts_a_process_for_each_slot_and_gives_it_the_slots_time(store: Store, clock: VirtualClock) -> None:
    log = Log()

    async with Engine(store, timetable(log, nightly={"cron": "30 2 * * *", "tz": "Europe/Berlin"})) as engine:
        await until(engine, clock, START + 3 * DAY)
        info = await engine.schedules.describe("nightly")
        explained = await engine.explain("nightly/2026-01-02T01:30:00Z", source="pd-schedule")

    assert log.slots("nightly") == [START + 90 * MINUTE + day * DAY for day in range(3)]
    assert (info.fired, info.skipped, info.missed) == (3, 0, 0)
    assert [firing.outcome for firing in info.recent] == ["fired"] * 3
    assert info.next == [START + 90 * MINUTE + day * DAY for day in range(3, 8)]
    assert (explained.status, explained.process_id, explained.reply) == ("done", "nightly/2026-01-02T01:30:00Z", "2")


async def test_a_process_that_takes_no_slot_is_started_too_and_one_with_arguments_gets_them_first(
    store: Store, clock: VirtualClock
) -> None:
    app, seen = App("arguments"), []

    async def note(*what: object) -> None:
        seen.append(what)

    @app.schedule(interval=timedelta(hours=1))
    @app.process
    async def plain(p: Process) -> None:
        await p.step(note, "plain", name="note")

    @app.process
    async def report(p: Process, customer: str, slot: datetime) -> None:
        await p.step(note, customer, slot.isoformat(), name="note")

    async with Engine(store, app) as engine:
        await engine.schedules.create("report:acme", report, "acme", cron="0 7 * * *")
        await until(engine, clock, START + 8 * HOUR)

    assert seen.count(("plain",)) == 8
    assert ("acme", "2026-01-01T07:00:00+00:00") in seen


async def test_a_schedule_delivers_a_message_to_an_address(store: Store, clock: VirtualClock) -> None:
    app = make_app(Ledger())
    app.schedule("0 * * * *", message=Comment("1", "tick"), to=Address.key("order:1"), id="tick", overlap="queue")

    async with Engine(store, app) as engine:
        await until(engine, clock, START + HOUR)  # nobody has the key: it is parked
        await engine.deliver(Place("1"), id="p", wait=True)
        await until(engine, clock, START + 3 * HOUR)
        [order] = await inspection.processes(store)
        shown = await inspection.process(store, order.process_id)

    assert shown.fields["comments"] == ["tick"] * 3


async def test_a_message_that_waits_for_its_receiver_has_not_ended(store: Store, clock: VirtualClock) -> None:
    app = make_app(Ledger())
    app.schedule("0 * * * *", message=Comment("1", "tick"), to=Address.key("order:1"), id="tick")

    async with Engine(store, app) as engine:
        await until(engine, clock, START + 3 * HOUR)
        info = await engine.schedules.describe("tick")

    assert (info.fired, info.skipped) == (1, 2)


# --- overlap ---------------------------------------------------------------------------------------------


async def test_skip_lets_a_slot_go_by_while_the_firing_before_runs_and_records_it(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *", "overlap": "skip"})) as engine:
        await until(engine, clock, START + 3 * HOUR)
        running = await engine.schedules.describe("hourly")
        log.open.set()
        await until(engine, clock, START + 5 * HOUR)
        info = await engine.schedules.describe("hourly")

    assert [firing.outcome for firing in running.recent] == ["fired", "skipped", "skipped"]
    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 4, 5)]
    assert (info.fired, info.skipped) == (3, 2)


async def test_queue_runs_slots_one_after_the_other_in_order_and_skips_what_is_over_its_limit(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *", "overlap": "queue", "queue_limit": 2})) as engine:
        await until(engine, clock, START + 4 * HOUR)
        held = await engine.schedules.describe("hourly")
        assert log.slots("hourly") == [START + HOUR]
        log.open.set()
        await eventually(lambda: _ran(log, 3))
        await quiet(engine)
        info = await engine.schedules.describe("hourly")
        assert engine._owner.waiters._watchers == {}

    assert (held.waiting, held.skipped) == (2, 1)
    assert [firing.outcome for firing in held.recent] == ["fired", "queued", "queued", "skipped"]
    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 2, 3)]
    assert (info.waiting, info.fired) == (0, 3)


async def _ran(log: Log, count: int) -> bool:
    return len(log.ran) >= count


async def test_what_is_queued_survives_a_restart(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()
    declared = {"cron": "0 * * * *", "overlap": "queue"}

    async with Engine(store, timetable(log, hourly=dict(declared))) as engine:
        await until(engine, clock, START + 3 * HOUR)
    log.open.set()
    async with Engine(store, timetable(log, hourly=dict(declared))) as engine:
        await eventually(lambda: _ran(log, 4))
        await quiet(engine)
        info = await engine.schedules.describe("hourly")

    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 1, 2, 3)]  # the first one's step was under way
    assert (info.fired, info.waiting) == (3, 0)


async def test_allow_runs_firings_beside_one_another(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *", "overlap": "allow"})) as engine:
        await until(engine, clock, START + 3 * HOUR)

    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 2, 3)]


async def test_cancel_previous_stops_the_process_before_in_the_commit_that_starts_the_next(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *", "overlap": "cancel_previous"})) as engine:
        await until(engine, clock, START + 2 * HOUR)
        await eventually(lambda: _ran(log, 2))
        first = await inspection.process(store, "hourly/2026-01-01T01:00:00Z")
        second = await inspection.process(store, "hourly/2026-01-01T02:00:00Z")
        log.open.set()
        await quiet(engine)
        ended = await engine.explain("hourly/2026-01-01T02:00:00Z", source="pd-schedule")

    assert (first.status, first.note) == ("ended", "cancelled: schedule hourly fired again")
    assert second.status == "runnable"
    assert ended.status == "done"
    assert log.slots("hourly") == [START + HOUR, START + 2 * HOUR]


# --- downtime and the clock ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "window", "ran", "missed"),
    [
        ("all", timedelta(days=1), [1, 7, 8], 5),
        ("last", timedelta(days=30), [1, 8], 6),
        ("none", timedelta(days=30), [1], 7),
        ("last", timedelta(minutes=1), [1], 7),
    ],
)
async def test_after_downtime_what_is_caught_up_is_what_the_policy_says(
    store: Store, clock: VirtualClock, catch_up: str, window: timedelta, ran: list[int], missed: int
) -> None:
    log = Log()
    declared = {"interval": timedelta(hours=12), "catch_up": catch_up, "window": window, "overlap": "queue"}

    async with Engine(store, timetable(log, twice=dict(declared))) as engine:
        await until(engine, clock, START + 13 * HOUR)
    clock.advance(START + 100 * HOUR - clock.now())
    async with Engine(store, timetable(log, twice=dict(declared))) as engine:
        await quiet(engine)
        await eventually(lambda: _ran(log, len(ran)))
        await quiet(engine)
        info = await engine.schedules.describe("twice")

    assert log.slots("twice") == [START + number * 12 * HOUR for number in ran]
    assert info.missed == missed


async def test_an_engine_that_slept_does_not_replay_every_slot_it_missed(store: Store, clock: VirtualClock) -> None:
    """A laptop that was closed: the engine is the same one, and the clock jumps."""
    log = Log()

    async with Engine(store, timetable(log, often={"interval": timedelta(seconds=10), "catch_up": "none"})) as engine:
        await until(engine, clock, START + MINUTE)
        clock.advance(78 * MINUTE)
        await until(engine, clock, clock.now() + 10_000_000)

    assert len(log.ran) == 6 + 1 + 1
    assert log.ran[6][1] == START + 79 * MINUTE


async def test_a_clock_that_is_set_back_fires_nothing_twice(store: Store, clock: VirtualClock) -> None:
    log = Log()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *"})) as engine:
        await until(engine, clock, START + 3 * HOUR)
        clock.advance(-2 * HOUR)
        await until(engine, clock, START + 4 * HOUR)

    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 2, 3, 4)]


async def test_after_a_clock_that_was_far_ahead_resume_takes_the_right_time(store: Store, clock: VirtualClock) -> None:
    log = Log()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *"})) as engine:
        await until(engine, clock, START + 2 * HOUR)
        clock.advance(300 * DAY)
        await quiet(engine)
    clock.advance(-300 * DAY)
    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *"})) as engine:
        await until(engine, clock, START + 3 * HOUR)
        assert (await engine.schedules.describe("hourly")).next[0] > START + 300 * DAY
        await engine.schedules.resume("hourly")
        await until(engine, clock, START + 5 * HOUR)

    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 2, 300 * 24 + 2, 4, 5)]


async def test_a_slot_that_was_fired_under_a_wrong_clock_is_not_fired_again(store: Store, clock: VirtualClock) -> None:
    log = Log()

    async with Engine(store, timetable(log, hourly={**HOURLY, "catch_up": "all", "overlap": "allow"})) as engine:
        await until(engine, clock, START + HOUR)
        clock.advance(3 * HOUR)
        await quiet(engine)
    clock.advance(-3 * HOUR)
    async with Engine(store, timetable(log, hourly={**HOURLY, "catch_up": "all", "overlap": "allow"})) as engine:
        await engine.schedules.resume("hourly")
        await until(engine, clock, START + 5 * HOUR)
        info = await engine.schedules.describe("hourly")

    assert log.slots("hourly") == [START + hour * HOUR for hour in (1, 2, 3, 4, 5)]
    assert info.fired == 5


async def test_a_timer_that_rings_before_a_slot_does_not_silence_it(store: Store, clock: VirtualClock) -> None:
    log = Log()
    app = timetable(log, hourly=dict(HOURLY))

    @app.process
    async def naps(p: Process) -> None:
        await p.sleep(60)

    async with Engine(store, app) as engine:
        await quiet(engine)
        task = asyncio.ensure_future(engine.call(naps, id="n"))
        await until(engine, clock, START + HOUR)
        await task

    assert log.slots("hourly") == [START + HOUR]


async def test_a_slot_whose_process_cannot_be_started_is_a_dead_letter_and_the_next_one_comes(store: Store, clock: VirtualClock) -> None:
    log = Log()
    app = timetable(log, hourly=dict(HOURLY))

    @app.process
    async def squats(p: Process) -> None:
        pass

    async with Engine(store, app) as engine:
        await engine.call(squats, id="hourly/2026-01-01T01:00:00Z")
        await until(engine, clock, START + 2 * HOUR)
        [dead] = await inspection.dead_letters(store)

    assert (dead.source, dead.reason) == ("pd-schedule", "wrong-process-type")
    assert log.slots("hourly") == [START + 2 * HOUR]


async def test_jitter_fires_later_and_keeps_the_slots_time(store: Store, clock: VirtualClock) -> None:
    log = Log()

    async with Engine(store, timetable(log, hourly={"cron": "0 * * * *", "jitter": timedelta(minutes=30)})) as engine:
        [first, *_] = (await engine.schedules.describe("hourly")).next
        await until(engine, clock, first - 1)
        assert log.ran == []
        await until(engine, clock, first)

    assert START + HOUR < first < START + 90 * MINUTE
    assert log.slots("hourly") == [START + HOUR]


async def test_many_schedules_at_one_instant_fire_once_each(store: Store, clock: VirtualClock) -> None:
    log, count = Log(), 700  # more than a page

    async with Engine(store, timetable(log, **{f"job{number}": {"cron": "0 1 * * *"} for number in range(count)})) as engine:
        await until(engine, clock, START + 2 * HOUR)

    assert sorted(log.ran) == sorted((f"job{number}", START + HOUR) for number in range(count))
