"""`perdure schedules`, as people and programs use it."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from perdure import Engine, VirtualClock, open_store
from tests.e2e.conftest import Call
from tests.engine.orders import eventually
from tests.engine.timetable import HOUR, START, Log, timetable, until


@pytest.fixture
def url(place: str) -> str:
    """A store with a schedule that an app declares, and one made at run time; two hours have gone by."""

    async def fill() -> None:
        clock = VirtualClock(START)
        app = timetable(Log(), hourly={"cron": "0 * * * *", "tz": "Europe/Berlin"})
        async with open_store(place, clock=clock) as store, Engine(store, app) as engine:
            await engine.schedules.create("mine", app.types["hourly"].target, interval=1800, overlap="queue")
            await until(engine, clock, START + 2 * HOUR)

    asyncio.run(fill())
    return place


def test_schedules_are_listed_and_shown(call: Call, url: str) -> None:
    at = ("--store", url)
    status, table, _ = call("schedules", "list", *at)
    listed = json.loads(call("schedules", "list", *at, "--json")[1])
    shown = call("schedules", "show", "hourly", *at)[1]
    page = call("schedules", "list", *at, "--limit", "1")

    assert status == 0
    assert "0 * * * *" in table
    assert "2026-01-01T03:00:00.000Z" in table
    assert [(one["schedule_id"], one["fired"], one["declared_by"]) for one in listed] == [("hourly", 2, "timetable"), ("mine", 4, "")]
    assert "0 * * * * (Europe/Berlin)" in shown
    assert "2 fired, 0 skipped, 0 missed" in shown
    assert "hourly/2026-01-01T02:00:00Z" in shown
    assert page[2] == "more: --after hourly\n"
    assert json.loads(call("schedules", "show", "mine", *at, "--json")[1])["overlap"] == "queue"


def test_a_schedule_is_paused_resumed_triggered_and_deleted(call: Call, url: str) -> None:
    at = ("--store", url)

    assert call("schedules", "pause", "mine", *at)[1] == "paused\n"
    assert json.loads(call("schedules", "pause", "mine", *at, "--json")[1])["status"] == "paused"
    assert call("schedules", "resume", "mine", *at)[1].startswith("fires next at 2")
    assert json.loads(call("schedules", "resume", "mine", *at, "--json")[1])["status"] == "active"
    assert call("schedules", "trigger", "mine", *at)[1].startswith("fired as mine/")
    assert json.loads(call("schedules", "trigger", "mine", *at, "--json")[1])["message_id"].endswith("+2")
    assert call("schedules", "delete", "mine", *at)[1] == "deleted\n"


def test_what_cannot_be_done_has_its_code_and_status(call: Call, url: str) -> None:
    at = ("--store", url)

    for arguments, code in [(("delete", "hourly"), "schedule-conflict"), (("pause", "nothing"), "schedule-not-found")]:
        status, _, error = call("schedules", *arguments, *at)
        assert (status, f"[{code}]" in error) == (1, True), error


async def test_a_running_engine_takes_up_what_another_process_triggers(place: str) -> None:
    log = Log()
    async with open_store(place) as store, Engine(store, timetable(log, yearly={"cron": "0 0 29 2 *"})):
        command = [sys.executable, "-m", "perdure", "schedules", "trigger", "yearly", "--store", place]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        assert out.startswith(b"fired as yearly/")
        await eventually(lambda: _ran(log))


async def _ran(log: Log) -> bool:
    return len(log.ran) == 1
