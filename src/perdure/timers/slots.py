"""When a schedule has its slots: cron expressions and intervals as pure functions of time.

All instants are microseconds since the epoch, UTC. A slot is a whole second.

Daylight saving, for expressions: as Debian's cron does. Where minute and hour are both fixed (no field begins with `*`),
a slot that the clock jumps over comes at the first instant after the jump, and one in the repeated hour comes once, at
its first pass. Where one of the two begins with `*`, slots follow the clock: none in the gap, two passes of the
repeated hour (but where a clock moves by half an hour, on Lord Howe Island, the library loses some of these). An interval
counts real time and knows no daylight saving.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.errors import DefinitionError

EVERY: Final = "every "
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIELDS: Final = 5
_HOUR: Final = 3600 * SECOND
_WIDER: Final = 4


class Pattern(Protocol):
    """An endless or ending row of slots."""

    def after(self, instant: Micros) -> Iterator[Micros]:
        """Yield the slots later than `instant`, in order, each once."""
        ...


class Cron:
    """Slots by a cron expression of five fields, in a time zone. Raises DefinitionError."""

    def __init__(self, expression: str, tz: str) -> None:
        self._zone = zone_named(tz)
        self._expression = expression
        if len(expression.split()) != _FIELDS:
            raise DefinitionError(f"schedule {expression!r}: expected five fields, minute hour day month weekday; seconds need interval=")
        self._iterate(0)

    def _iterate(self, instant: Micros) -> CronSim:
        try:
            return CronSim(self._expression, moment(instant).astimezone(self._zone))
        except CronSimError as error:
            raise DefinitionError(f"schedule {self._expression!r}: {error}; expected minute hour day month weekday") from error

    def after(self, instant: Micros) -> Iterator[Micros]:
        """See Pattern. It ends when nothing matches for 50 years."""
        last = instant
        for local in self._iterate(instant):
            slot = instant_of(local)
            # In the repeated hour the library names a first pass that is over; what the gap moves may meet another slot.
            if slot > last:
                last = slot
                yield slot


class Interval:
    """Slots at the multiples of a duration since the epoch: an hour is every full hour, wherever the engine began."""

    def __init__(self, every: Micros) -> None:
        if every % SECOND or not limits.SCHEDULE_INTERVAL_MIN_US <= every <= limits.SCHEDULE_INTERVAL_MAX_US:
            low, high = limits.SCHEDULE_INTERVAL_MIN_US // SECOND, limits.SCHEDULE_INTERVAL_MAX_US // SECOND
            raise DefinitionError(f"an interval is {low:,} to {high:,} whole seconds, found {every / SECOND} s")
        self._every = every

    def after(self, instant: Micros) -> Iterator[Micros]:
        """See Pattern. It never ends."""
        slot = instant // self._every * self._every
        while True:
            slot += self._every
            yield slot


def zone_named(tz: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raises DefinitionError."""
    try:
        return ZoneInfo(tz)
    except (KeyError, OSError, ValueError, TypeError) as error:  # no such name, a directory, a path out of the database
        raise DefinitionError(f"tz={tz!r}: no such time zone here; expected a name such as 'Europe/Berlin' or 'UTC'") from error


@lru_cache(maxsize=limits.SCHEDULE_PATTERNS)
def pattern_of(expression: str, tz: str) -> Pattern:
    """Return what a stored expression means: `every N` (microseconds), or a cron expression. Raises DefinitionError."""
    if expression.startswith(EVERY):
        return Interval(int(expression.removeprefix(EVERY)))
    return Cron(expression, tz)


def next_slot(expression: str, tz: str, instant: Micros) -> Micros | None:
    """Return the first slot after an instant, or None when there is none. Raises DefinitionError."""
    return next(pattern_of(expression, tz).after(instant), None)


def delay_of(name: str, slot: Micros, jitter: Micros) -> Micros:
    """Return by how much a slot fires later: 0 to `jitter`, always the same for the same slot, on every node."""
    if not jitter:
        return 0
    digest = hashlib.blake2b(f"{name}\n{slot}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (jitter + 1)


class Due(msgspec.Struct, frozen=True):
    """Of the slots that are due: those that fire, oldest first; how many are dropped; and the last one.

    `dropped` counts the newest `limits.SCHEDULE_CATCH_UP_MAX` slots; nobody looks at older ones.
    """

    fire: tuple[Micros, ...]
    dropped: int
    last: Micros | None


def due(pattern: Pattern, first: Micros, now: Micros, *, catch_up: str, window: Micros, delay: Callable[[Micros], Micros]) -> Due:
    """Return what fires of the slots from `first` to now.

    Args:
        pattern: the slots.
        first: the earliest one that has not been decided on.
        now: slots up to here are due, once their delay is over.
        catch_up: `all`, the newest `limits.SCHEDULE_CATCH_UP_MAX` of them; `last`, the newest one; `none`, the newest
            one if it is at most `limits.SCHEDULE_LATE_US` old.
        window: slots that are older are dropped.
        delay: by how much a slot fires later.
    """
    most = limits.SCHEDULE_CATCH_UP_MAX
    slots = _first(pattern, first - 1, now, most + 1)
    if len(slots) > most:
        slots = _latest(pattern, first - 1, now, most)
    while slots and slots[-1] + delay(slots[-1]) > now:
        slots.pop()
    oldest = now - (min(window, limits.SCHEDULE_LATE_US) if catch_up == "none" else window)
    kept = [slot for slot in slots if slot + delay(slot) >= oldest]
    if catch_up != "all":
        kept = kept[-1:]
    return Due(tuple(kept), len(slots) - len(kept), slots[-1] if slots else None)


def _first(pattern: Pattern, after: Micros, upto: Micros, count: int) -> list[Micros]:
    found: list[Micros] = []
    for slot in pattern.after(after):
        if slot > upto or len(found) == count:
            break
        found.append(slot)
    return found


def _latest(pattern: Pattern, after: Micros, upto: Micros, count: int) -> list[Micros]:
    """Return the last `count` slots in a range, without a look at all of them: from ever farther back, until there are enough."""
    span = _HOUR
    while True:
        start = max(after, upto - span)
        found: deque[Micros] = deque(maxlen=count)
        for slot in pattern.after(start):
            if slot > upto:
                break
            found.append(slot)
        if len(found) == count or start == after:
            return list(found)
        span *= _WIDER


def moment(instant: Micros) -> datetime:
    """Return an instant as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=instant)


def instant_of(time: datetime) -> Micros:
    """Return a datetime with a zone as an instant."""
    return (time.astimezone(UTC) - _EPOCH) // _MICROSECOND


def stamp(instant: Micros) -> str:
    """Return a slot as it is written in ids: `2026-11-26T02:00:00Z`; microseconds only where there are some."""
    return moment(instant).replace(tzinfo=None).isoformat() + "Z"
