"""A simulated year of schedules, with crashes and both switches of the clock in two time zones, against a model."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

import pytest

from perdure import Engine, Store, VirtualClock, open_store
from perdure.engine import inspection, verification
from perdure.engine.schedules import Schedules
from tests.engine.orders import crash
from tests.engine.timetable import DAY, HOUR, MINUTE, START, Log, quiet, timetable
from tests.timers.calendar import micros, slots

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
EXPRESSIONS = {
    "berlin_night": ("30 2 * * *", BERLIN),  # in the gap and in the repeated hour
    "york_night": ("30 1,2 * * *", NEW_YORK),
    "berlin_shift": ("0 */4 * * *", BERLIN),
    "york_weekday": ("15 9 * * 1-5", NEW_YORK),
    "berlin_month": ("0 3 1 * *", BERLIN),
    "york_sunday": ("*/30 1-2 * * 0", NEW_YORK),
}
FIRST, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
LAST = micros(END)


@cache
def expected(name: str) -> list[int]:
    expression, tz = EXPRESSIONS[name]
    return slots(expression, tz, FIRST, END, step=15)


class Down(NamedTuple):
    """A time without an engine; at its begin, slots had been decided on up to `decided`, by schedule."""

    begin: int
    end: int
    decided: dict[str, int]


class Year:
    """An engine that crashes at random commits while the clock goes from alarm to alarm."""

    def __init__(self, seed: int, *, catch_up: str) -> None:
        self.random = random.Random(seed)
        self.clock = VirtualClock(START)
        self.log = Log()
        self.catch_up = catch_up
        self.crashes = 0
        self.downs: list[Down] = []

    def engine(self, store: Store) -> Engine:
        declared = {
            name: {"cron": cron, "tz": tz, "catch_up": self.catch_up, "overlap": "allow"} for name, (cron, tz) in EXPRESSIONS.items()
        }
        return Engine(store, timetable(self.log, **declared))

    async def run(self, store: Store, *, every: int, down: int) -> Engine:
        """Run the year; crash after some `every` commits, at any of them, and stay away for up to `down`."""
        engine, writer = self.engine(store), store.access.writer
        await engine.__aenter__()
        until = writer.commits + self.random.randrange(1, 2 * every)
        while self.clock.now() < LAST:
            crashed = await self._rest(engine, until)
            if crashed:
                await crash(engine)
                await writer.commit()  # what was on its way is durable
                self.crashes += 1
                begin = self.clock.now()
                decided = {info.schedule_id: info.last_slot or START for info in await Schedules(store).list()}
                self.clock.advance(min(self.random.randrange(down), LAST - begin))
                self.downs.append(Down(begin, self.clock.now(), decided))
                engine = self.engine(store)
                await engine.__aenter__()
                until = writer.commits + self.random.randrange(1, 2 * every)
                continue
            alarm = self.clock.next_alarm()
            assert alarm is not None
            self.clock.advance(min(alarm, LAST) - self.clock.now())
        await quiet(engine)
        return engine

    async def _rest(self, engine: Engine, until: int) -> bool:
        """Return True when the engine is to be dropped: at a commit, before anything is done with its outcome."""
        resting = asyncio.ensure_future(quiet(engine))
        while not resting.done():
            if engine.store.access.writer.commits >= until:
                resting.cancel()
                await asyncio.gather(resting, return_exceptions=True)
                return True
            await asyncio.sleep(0)
        return False


@pytest.mark.parametrize("seed", [1, 2])
async def test_over_a_year_with_crashes_each_slot_fires_exactly_once(seed: int) -> None:
    year = Year(seed, catch_up="all")

    async with open_store("sqlite:///:memory:", clock=year.clock) as store:
        engine = await year.run(store, every=90, down=2 * DAY)
        infos = {info.schedule_id: info for info in await engine.schedules.list()}
        found = await verification.verify(store)
        dead = await inspection.dead_letters(store)
        await engine.close()

    assert year.crashes > 50
    for name in EXPRESSIONS:
        assert sorted(set(year.log.slots(name))) == expected(name), name
        assert (infos[name].fired, infos[name].skipped, infos[name].missed) == (len(expected(name)), 0, 0), name
        # A crash between a step and its record runs the step again: that is the only reason for a second entry.
        assert len(year.log.slots(name)) <= len(expected(name)) + year.crashes
    assert (found, dead) == ([], [])


@pytest.mark.parametrize("catch_up", ["last", "none"])
async def test_over_a_year_with_downtime_what_is_caught_up_is_what_the_policy_says(catch_up: str) -> None:
    year = Year(3, catch_up=catch_up)

    async with open_store("sqlite:///:memory:", clock=year.clock) as store:
        engine = await year.run(store, every=60, down=3 * DAY)
        infos = {info.schedule_id: info for info in await engine.schedules.list()}
        await engine.close()

    assert year.crashes > 50
    assert any(down.end - down.begin > DAY for down in year.downs)
    for name in EXPRESSIONS:
        wanted, missed = _policy(name, year.downs, catch_up=catch_up)
        assert sorted(set(year.log.slots(name))) == wanted, name
        assert (infos[name].fired, infos[name].missed) == (len(wanted), missed), name


def _policy(name: str, downs: list[Down], *, catch_up: str) -> tuple[list[int], int]:
    """Return what fires, and how much is missed: of the slots in each downtime the last one, or one of the last minute."""
    wanted, missed = set(expected(name)), 0
    for down, later in zip(downs, [*downs[1:], None], strict=True):
        late = [slot for slot in expected(name) if down.decided[name] < slot <= down.end]
        if not late or (later is not None and later.decided[name] < late[0]):
            continue  # the next crash came before any decision on them
        keep = [slot for slot in late[-1:] if catch_up == "last" or down.end - slot <= MINUTE]
        missed += len(late) - len(keep)
        wanted -= set(late) - set(keep)
    return sorted(wanted), missed


def test_the_year_has_both_switches_of_both_zones_in_it() -> None:
    night = expected("berlin_night")
    assert len(night) == 365
    assert len({slot % DAY for slot in night}) == 3  # 1:30 and 0:30 in UTC, and 1:00 once, after the gap
    assert len(expected("york_night")) == 2 * 365
    sundays = [slot // HOUR for slot in expected("york_sunday")]
    assert max(sundays.count(hour) for hour in sundays) == 2
    assert len(sundays) == 52 * 4 - 2 + 2
