"""Schedules as apps declare them and people handle them: definitions, changes, pauses, triggers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, limits
from perdure.engine.schedules import Schedules
from perdure.errors import DefinitionError, IllegalTransition, InvalidIdentifier, ScheduleConflict, ScheduleNotFound, UsageError
from tests.engine.orders import Close, Comment, Ledger, Place, eventually, make_app
from tests.engine.timetable import HOUR, START, Log, quiet, timetable, until

HOURLY: dict[str, Any] = {"cron": "0 * * * *"}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


# --- what an app declares --------------------------------------------------------------------------------


async def test_a_first_start_does_not_fire_what_was_before_it(store: Store, clock: VirtualClock) -> None:
    log = Log()
    clock.advance(90 * 60_000_000)

    async with Engine(store, timetable(log, hourly=dict(HOURLY))) as engine:
        await quiet(engine)
        assert log.ran == []
        await until(engine, clock, START + 2 * HOUR)

    assert log.slots("hourly") == [START + 2 * HOUR]


async def test_a_changed_expression_counts_from_the_next_start_on(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, job={"cron": "0 2 * * *"})) as engine:
        await until(engine, clock, START + HOUR)
    clock.advance(3 * HOUR)  # 2:00 goes by without an engine

    async with Engine(store, timetable(log, job={"cron": "0 3,5 * * *"})) as engine:
        await until(engine, clock, START + 6 * HOUR)

    assert log.slots("job") == [START + 5 * HOUR]


async def test_a_changed_policy_leaves_the_next_slot_as_it_is(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, job={"cron": "0 2 * * *"})) as engine:
        await until(engine, clock, START + HOUR)
    clock.advance(3 * HOUR)

    async with Engine(store, timetable(log, job={"cron": "0 2 * * *", "overlap": "allow"})) as engine:
        await quiet(engine)
        assert (await engine.schedules.describe("job")).overlap == "allow"

    assert log.slots("job") == [START + 2 * HOUR]


async def test_what_is_declared_no_more_does_not_fire_and_fires_again_when_it_is_back(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, a=dict(HOURLY), b=dict(HOURLY))) as engine:
        await until(engine, clock, START + HOUR)
    async with Engine(store, timetable(log, a=dict(HOURLY))) as engine:
        await until(engine, clock, START + 2 * HOUR)
        gone = await engine.schedules.describe("b")
        with pytest.raises(IllegalTransition, match="removed"):
            await engine.schedules.trigger("b")
        with pytest.raises(IllegalTransition, match="removed"):
            await engine.schedules.resume("b")
        with pytest.raises(IllegalTransition, match="removed"):
            await engine.schedules.pause("b")
    async with Engine(store, timetable(log, a=dict(HOURLY), b=dict(HOURLY))) as engine:
        await until(engine, clock, START + 3 * HOUR)

    assert (gone.status, gone.next, gone.fired) == ("removed", [], 1)
    assert log.slots("a") == [START + hour * HOUR for hour in (1, 2, 3)]
    assert log.slots("b") == [START + hour * HOUR for hour in (1, 3)]


async def test_the_schedules_of_another_app_are_left_alone(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, job=dict(HOURLY))) as engine:
        await quiet(engine)
    other = App("other")  # with a process type of the same name
    other.process(timetable(log, job=dict(HOURLY)).types["job"].target)
    async with Engine(store, other) as engine:
        await until(engine, clock, START + 2 * HOUR)
        assert (await engine.schedules.describe("job")).fired == 0

    async with Engine(store, timetable(log, job=dict(HOURLY))) as engine:
        await quiet(engine)

    assert log.slots("job") == [START + 2 * HOUR]


async def test_two_apps_cannot_declare_one_schedule(store: Store) -> None:
    async with Engine(store, timetable(Log(), job=dict(HOURLY))):
        pass
    other = App("other")
    other.schedule("0 1 * * *", message=Close("1"), to=Address.key("order:1"), id="job")

    with pytest.raises(ScheduleConflict, match="timetable"):
        await Engine(store, other).__aenter__()


async def test_a_pause_outlives_a_new_definition(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, job=dict(HOURLY))) as engine:
        await engine.schedules.pause("job")

    async with Engine(store, timetable(log, job={"cron": "30 * * * *"})) as engine:
        await until(engine, clock, START + 3 * HOUR)
        info = await engine.schedules.describe("job")

    assert (info.status, info.expression, log.ran) == ("paused", "30 * * * *", [])


# --- what people do ----------------------------------------------------------------------------------------


async def test_a_paused_schedule_fires_nothing_and_does_not_catch_up_what_fell_into_the_pause(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, job={**HOURLY, "catch_up": "all"})) as engine:
        await until(engine, clock, START + HOUR)
        paused = await engine.schedules.pause("job")
        assert await engine.schedules.pause("job") == paused
        await until(engine, clock, START + 4 * HOUR)
        await engine.schedules.resume("job")
        await until(engine, clock, START + 5 * HOUR)

    assert (paused.status, paused.next) == ("paused", [])
    assert log.slots("job") == [START + hour * HOUR for hour in (1, 5)]


async def test_a_trigger_fires_now_even_while_paused_and_leaves_the_slots(store: Store, clock: VirtualClock) -> None:
    log = Log()
    async with Engine(store, timetable(log, job=dict(HOURLY))) as engine:
        before = (await engine.schedules.describe("job")).next
        first = await engine.schedules.trigger("job")
        await quiet(engine)
        await engine.schedules.pause("job")
        second = await engine.schedules.trigger("job")
        await quiet(engine)
        await engine.schedules.resume("job")
        info = await engine.schedules.describe("job")

    assert (first, second) == ("job/2026-01-01T00:00:00Z+1", "job/2026-01-01T00:00:00Z+2")
    assert log.slots("job") == [START, START]
    assert info.next == before


async def test_a_trigger_keeps_to_the_overlap_policy(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()
    declared: dict[str, Any] = {"skips": dict(HOURLY), "queues": {**HOURLY, "overlap": "queue", "queue_limit": 1}}
    async with Engine(store, timetable(log, **declared)) as engine:
        await until(engine, clock, START + HOUR)
        with pytest.raises(IllegalTransition, match="skips/2026-01-01T01:00:00Z is not over"):
            await engine.schedules.trigger("skips")
        await engine.schedules.trigger("queues")
        with pytest.raises(IllegalTransition, match="no more than 1 wait"):
            await engine.schedules.trigger("queues")
        assert (await engine.schedules.describe("skips")).skipped == 0
        log.open.set()
        await eventually(lambda: _ran(log, 3))

    assert sorted(log.ran) == [("queues", START + HOUR), ("queues", START + HOUR), ("skips", START + HOUR)]


async def _ran(log: Log, count: int) -> bool:
    return len(log.ran) >= count


async def test_what_is_queued_waits_out_a_pause(store: Store, clock: VirtualClock) -> None:
    log = Log()
    log.open.clear()
    async with Engine(store, timetable(log, job={**HOURLY, "overlap": "queue"})) as engine:
        await until(engine, clock, START + 2 * HOUR)
        await engine.schedules.pause("job")
        log.open.set()
        await quiet(engine)
        assert log.slots("job") == [START + HOUR]
        await engine.schedules.resume("job")
        await eventually(lambda: _ran(log, 2))

    assert log.slots("job") == [START + HOUR, START + 2 * HOUR]


async def test_a_schedule_made_at_run_time_is_kept_and_can_be_replaced_and_deleted(store: Store, clock: VirtualClock) -> None:
    log = Log()
    app = timetable(log, job={"cron": "0 0 1 1 *"})
    job = app.types["job"].target
    async with Engine(store, app) as engine:
        made = await engine.schedules.create("mine", job, interval=timedelta(hours=2))
        assert await engine.schedules.create("mine", job, interval=timedelta(hours=2)) == made
        with pytest.raises(ScheduleConflict, match="another definition"):
            await engine.schedules.create("mine", job, interval=timedelta(hours=3))
    app = timetable(log, job={"cron": "0 0 1 1 *"})
    async with Engine(store, app) as engine:
        await until(engine, clock, START + 2 * HOUR)
        await engine.schedules.create("mine", app.types["job"].target, interval=timedelta(hours=3), over=True)
        await until(engine, clock, START + 3 * HOUR)
        await engine.schedules.delete("mine")
        await until(engine, clock, START + 9 * HOUR)
        with pytest.raises(ScheduleNotFound):
            await engine.schedules.describe("mine")

    assert log.slots("job") == [START + 2 * HOUR, START + 3 * HOUR]


async def test_schedules_are_listed_by_page_and_by_tenant(store: Store) -> None:
    app = timetable(Log(), a=dict(HOURLY), b=dict(HOURLY), c={**HOURLY, "tenant": "acme"})
    async with Engine(store, app) as engine:
        first = await engine.schedules.list(limit=1)
        second = await engine.schedules.list(limit=5, after="a")
        with pytest.raises(UsageError, match="limit"):
            await engine.schedules.list(limit=0)

        assert [one.schedule_id for one in (*first, *second)] == ["a", "b"]
        assert [one.schedule_id for one in await engine.schedules.list(tenant="acme")] == ["c"]


async def test_what_is_not_there_or_not_anybodys_to_change_is_refused(store: Store) -> None:
    app = timetable(Log(), job=dict(HOURLY))
    async with Engine(store, app) as engine:
        schedules = engine.schedules
        for verb in (schedules.describe, schedules.pause, schedules.resume, schedules.trigger, schedules.delete):
            with pytest.raises(ScheduleNotFound, match="nothing"):
                await verb("nothing")
        with pytest.raises(ScheduleConflict, match="declared by app 'timetable'"):
            await schedules.delete("job")
        with pytest.raises(ScheduleConflict, match="made by app 'timetable'"):
            await schedules.create("job", app.types["job"].target, cron="0 1 * * *", over=True)
        with pytest.raises(UsageError, match="made by an engine"):
            await Schedules(store).create("x", Close("1"), to=Address.key("k"), cron="0 1 * * *")
        with pytest.raises(UsageError, match="source"):
            await engine.deliver(Close("1"), id="job/2026-01-01T01:00:00Z", source="pd-schedule", to=Address.key("k"))


# --- definitions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timing", "text"),
    [
        ({}, "cron expression or interval"),
        ({"cron": "0 2 * * *", "interval": 60}, "not both"),
        ({"cron": 7}, "is text"),
        ({"cron": "0 25 * * *"}, "Bad hour"),
        ({"cron": "0 0 2 * * *"}, "five fields"),
        ({"cron": "0 2 * * *", "tz": "Mars/Olympus"}, "no such time zone"),
        ({"interval": 60, "tz": "UTC"}, "no time zone"),
        ({"interval": 0.5}, "whole seconds"),
        ({"interval": timedelta(days=400)}, "whole seconds"),
        ({"interval": "1h"}, "duration"),
        ({"cron": "0 2 * * *", "overlap": "both"}, "overlap is one of"),
        ({"cron": "0 2 * * *", "catch_up": "some"}, "catch_up one of"),
        ({"cron": "0 2 * * *", "overlap": "queue", "queue_limit": limits.SCHEDULE_QUEUE_MAX + 1}, "queue_limit"),
        ({"cron": "0 2 * * *", "jitter": timedelta(days=2)}, "jitter"),
        ({"interval": 60, "jitter": 61}, "jitter is at most 0:01:00"),
        ({"cron": "0 2 * * *", "window": timedelta(days=4000)}, "window"),
    ],
)
def test_a_wrong_timing_is_refused_where_it_is_declared(timing: dict[str, Any], text: str) -> None:
    app = App("wrong")
    cron = timing.pop("cron", None)

    with pytest.raises(UsageError, match=text):
        app.schedule(cron, **timing)


async def test_a_wrong_target_is_refused_before_anything_is_written(store: Store) -> None:
    app = make_app(Ledger())

    @app.process
    async def named(p: Process, name: str) -> None:
        pass

    @app.process
    async def three(p: Process, name: str, more: int, slot: datetime) -> None:
        pass

    order = app.types["Order"].target
    async with Engine(store, app) as engine:
        create = engine.schedules.create
        wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            ((named,), {}, "annotate it as datetime"),
            ((named, "a", "b"), {}, "takes 1 arguments"),
            ((three, "a"), {}, "takes 3 arguments"),
            ((three, 7, "x"), {}, "cannot take its arguments"),
            ((order.place,), {}, "pass the message"),
            ((named,), {"to": Address.key("k")}, "pass the message"),
            ((Close("1"), 7), {}, "no arguments"),
            ((Close("1"),), {"overlap": "cancel_previous"}, "a process of their own"),
            ((Place("1"),), {"to": Address.start("Order", id="x")}, "key="),
            ((Close("1"),), {"to": Address.start("named")}, "no handler"),
            ((Close("1"),), {"to": "order:1"}, "expected an address, found 'order:1'"),
        ]
        for arguments, more, text in wrong:
            with pytest.raises(UsageError, match=text):
                await create("x", *arguments, cron="0 2 * * *", **more)
        with pytest.raises(UsageError, match="the limit is 65,536"):
            await create("x", Comment("1", "x" * 70_000), cron="0 2 * * *")
        with pytest.raises(InvalidIdentifier):
            await create("x" * 201, named, "a", cron="0 2 * * *")

        assert await engine.schedules.list() == []


def test_what_cannot_be_declared_is_refused() -> None:
    app = make_app(Ledger())
    app.schedule("0 1 * * *", message=Close("1"), id="twice")

    with pytest.raises(DefinitionError, match="declared twice"):
        app.schedule("0 2 * * *", message=Close("1"), id="twice")
    with pytest.raises(DefinitionError, match="for a message"):
        app.schedule("0 2 * * *", to=Address.key("k"))  # type: ignore[call-overload]  # a program without types
    with pytest.raises(DefinitionError, match="function process"):
        app.schedule("0 2 * * *")(app.types["Order"].target)


async def test_a_scheduled_function_that_is_no_process_is_found_at_the_start(store: Store) -> None:
    app = App("forgotten")

    @app.schedule("0 1 * * *")
    async def forgotten(p: Process) -> None:
        pass

    with pytest.raises(UsageError, match="register it with"):
        await Engine(store, app).__aenter__()
