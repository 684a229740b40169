"""An independent model of when slots are: the year walked minute by minute, with nothing of the library that the code uses.

The walk knows the instants at which a zone's clock is set, and nothing else of daylight saving: it compares the clock
before and after each minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = 60_000_000


def micros(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000


def matching(field: str, low: int, high: int) -> frozenset[int]:
    """Return the values of one field: `*`, `a`, `a-b`, `a,b`, each with `/n`."""
    found: set[int] = set()
    for term in field.split(","):
        body, _, step = term.partition("/")
        first, _, last = body.partition("-")
        start = low if body == "*" else int(first)
        end = high if body == "*" or (step and not last) else int(last or first)
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


class Cron:
    """Which minutes of a wall clock an expression names."""

    def __init__(self, expression: str) -> None:
        minute, hour, day, month, weekday = expression.split()
        self.minutes, self.hours = matching(minute, 0, 59), matching(hour, 0, 23)
        self.days, self.months = matching(day, 1, 31), matching(month, 1, 12)
        self.weekdays = frozenset(number % 7 for number in matching(weekday, 0, 7))
        self.both = day.startswith("*") or weekday.startswith("*")
        self.fixed = not minute.startswith("*") and not hour.startswith("*")

    def names(self, clock: datetime) -> bool:
        """Return whether the wall clock's minute is a slot."""
        if clock.minute not in self.minutes or clock.hour not in self.hours or clock.month not in self.months:
            return False
        days = clock.day in self.days, clock.isoweekday() % 7 in self.weekdays
        return all(days) if self.both else any(days)


def slots(expression: str, tz: str, start: datetime, end: datetime, *, step: int = 1) -> list[int]:
    """Return the slots after `start`, up to `end`, both in UTC and whole minutes, in microseconds since the epoch.

    `step` is how many minutes to walk at a time; the expression names multiples of it, and a clock is set at one.

    As Debian's cron has it. With minute and hour fixed: what the clock jumps over comes right after the jump, and what
    it shows twice comes the first time. Otherwise: whenever the clock shows it.
    """
    cron, zone = Cron(expression), ZoneInfo(tz)
    found: list[int] = []
    for now, before, clock in _walk(zone, start, end, step):
        jump = clock - before - timedelta(minutes=step)
        named = cron.names(clock)
        if cron.fixed and jump > timedelta(0):
            skipped = [clock - timedelta(minutes=minute) for minute in range(1, jump // timedelta(minutes=1) + 1)]
            named = named or any(cron.names(minute) for minute in skipped)
        if cron.fixed and named and _shown_before(zone, now):
            named = False
        if named:
            found.append(micros(now))
    return found


def _walk(zone: ZoneInfo, start: datetime, end: datetime, step: int) -> Iterator[tuple[datetime, datetime, datetime]]:
    """Yield each minute in UTC, with what the wall clock showed a step before and what it shows now."""
    now, before = start, start.astimezone(zone).replace(tzinfo=None)
    while now < end:
        now += timedelta(minutes=step)
        clock = now.astimezone(zone).replace(tzinfo=None)
        yield now, before, clock
        before = clock


def _shown_before(zone: ZoneInfo, now: datetime) -> bool:
    """Return whether the wall clock showed this very minute a little earlier: an hour, or half of one."""
    clock = now.astimezone(zone).replace(tzinfo=None)
    return any((now - timedelta(minutes=minutes)).astimezone(zone).replace(tzinfo=None) == clock for minutes in (30, 60))


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)
