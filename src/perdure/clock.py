"""Time, as something that a test can hold in its hands.

All instants are integer microseconds since the epoch, UTC. Nothing else in Perdure reads a clock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

Micros = int
"""An instant (since the epoch, UTC) or a duration, in microseconds."""

SECOND: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds between two looks at the clock: a loop's timers do not notice that it was set forwards.
_LONGEST_WAIT: Final = 60.0


def micros_of(instant: datetime) -> Micros:
    """Return a datetime with a time zone as an instant, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def datetime_of(instant: Micros) -> datetime:
    """Return an instant as a datetime in UTC, exactly. Raises OverflowError outside of the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=instant)


def text_of(instant: Micros) -> str:
    """Return an instant for people, to the millisecond."""
    try:
        return datetime_of(instant).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return f"{instant} µs"


def boottime() -> Micros:
    """Return microseconds that go on whatever happens to this process and its machine: while either sleeps, too.

    For durations: how long a lease is surely still held.
    """
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1000


class Alarm(Protocol):
    """Something that can be called off."""

    def cancel(self) -> None:
        """Call it off; harmless when it has rung."""


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> Micros:
        """Return the present instant; it may step forwards when somebody sets the machine's clock."""
        ...

    def call_at(self, when: Micros, callback: Callable[[], None]) -> Alarm:
        """Call `callback` on the running event loop, once `now()` is `when` or later."""
        ...


async def sleep(clock: Clock, duration: Micros) -> None:
    """Let some time of a clock pass."""
    over = asyncio.Event()
    alarm = clock.call_at(clock.now() + duration, over.set)
    try:
        await over.wait()
    finally:
        alarm.cancel()


class SystemClock:
    """The machine's clock, but it never runs backwards.

    When the machine's clock is set back, this one goes on at half its speed until the other has caught up: what was to
    happen in ten seconds happens in twenty, and not ten seconds after the hour by which it was set back. When it is set
    forwards, this one follows at once: what is due by then rings within a minute.

    Args:
        wall: nanoseconds since the epoch, UTC, as the machine says.
        steady: nanoseconds that pass whatever the machine's clock is set to.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._steady = steady
        self._last: Micros = wall() // 1000
        self._at: Micros = steady() // 1000

    def now(self) -> Micros:
        """Return the time in microseconds since the epoch."""
        now, at = self._wall() // 1000, self._steady() // 1000
        if now >= self._last:
            self._last, self._at = now, at
        else:
            half = max(0, at - self._at) // 2
            self._last += half
            self._at += 2 * half
        return self._last

    def call_at(self, when: Micros, callback: Callable[[], None]) -> Alarm:
        """Set an alarm on the running loop; it looks at the clock once a minute, because somebody may have set it."""
        return _SystemAlarm(self, when, callback)


class ServerClock(SystemClock):
    """The clock of a database's server: all nodes go by the same one, whatever the machine's shows or is set to.

    Like every `SystemClock`, it never runs backwards. Until the first `learn`, which comes before anybody waits, it is the machine's own.
    """

    def __init__(self) -> None:
        self._ahead = time.time_ns() - boottime() * 1000  # nanoseconds by which it is before what passes here
        self._learned = False
        super().__init__(wall=lambda: boottime() * 1000 + self._ahead)

    def learn(self, server: Micros, took: float) -> None:
        """Take in what the server's clock showed; the answer has come now, `took` seconds after the question."""
        self._ahead = server * 1000 + int(took * 500_000_000) - boottime() * 1000
        if not self._learned:
            self._learned = True
            self._last = 0  # what the machine showed before it was asked is nothing to go on from


class _SystemAlarm:
    __slots__ = ("_callback", "_clock", "_loop", "_timer", "_when")

    def __init__(self, clock: SystemClock, when: Micros, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._delay(), self._ring)

    def cancel(self) -> None:
        self._timer.cancel()

    def _delay(self) -> float:
        return min(max(0.0, (self._when - self._clock.now()) / SECOND), _LONGEST_WAIT)

    def _ring(self) -> None:
        if self._clock.now() < self._when:
            self._timer = self._loop.call_later(self._delay(), self._ring)
        else:
            self._callback()


class _VirtualAlarm:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """A clock that moves only when it is told to."""

    def __init__(self, start: Micros = 1_700_000_000 * SECOND) -> None:
        self._now = start
        self._alarms: list[tuple[Micros, int, _VirtualAlarm]] = []
        self._order = itertools.count()

    def now(self) -> Micros:
        """Return the instant that was set last."""
        return self._now

    def call_at(self, when: Micros, callback: Callable[[], None]) -> Alarm:
        """Remember `callback` for `when`; one that is due already rings on the loop's next round."""
        alarm = _VirtualAlarm(callback)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(self._ring, alarm)
        else:
            heapq.heappush(self._alarms, (when, next(self._order), alarm))
        return alarm

    def advance(self, duration: Micros | timedelta) -> None:
        """Move by `duration`, microseconds or a timedelta, backwards too, and ring every alarm on the way, in order."""
        target = self._now + (duration // timedelta(microseconds=1) if isinstance(duration, timedelta) else duration)
        while self._alarms and self._alarms[0][0] <= target:
            when, _, alarm = heapq.heappop(self._alarms)
            self._now = max(self._now, when)
            self._ring(alarm)
        self._now = target

    def next_alarm(self) -> Micros | None:
        """Return the instant of the earliest alarm, or None when there is none."""
        while self._alarms and self._alarms[0][2].callback is None:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    @staticmethod
    def _ring(alarm: _VirtualAlarm) -> None:
        callback, alarm.callback = alarm.callback, None
        if callback is not None:
            callback()
