"""What an engine does for schedules while it is open: it fires what is due, and releases what waited.

Source: engine.md, "Schedules".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.table import Key, Scan
from perdure.engine.firing import SOURCE, Fire, Release, notes_of
from perdure.errors import PerdureError
from perdure.messages.mail import reference
from perdure.timers.slots import Pattern, delay_of, due, pattern_of
from perdure.timers.tables import SCHEDULE, SCHEDULES_DUE, SCHEDULES_WAITING, ScheduleRow, ScheduleStatus

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")
_Key = tuple[str, str]


class Scheduled:
    """Fires the schedules of one engine. A slot is decided on in the commit that moves its schedule, so a crash repeats nothing.

    Args:
        owner: whose schedules.
        look: sets the wheel's alarm.
    """

    def __init__(self, owner: Owner, look: Callable[[Micros | None], None]) -> None:
        self._owner = owner
        self._look = look
        self._next: Micros | None = 0
        self._turning = False
        self._watched: set[_Key] = set()

    def look_again(self) -> None:
        """Take in that somebody may have changed a schedule."""
        self._next = 0
        self._look(self._owner.clock.now())

    def ring(self) -> None:
        """Decide on all slots that are due, beside everything else: catching up may be long, and timers do not wait for it."""
        if self._next is None or self._next > self._owner.clock.now():  # the alarm was for something else; it is the only one
            self._look(self._next)
        elif not self._turning:
            self._turning, self._next = True, None
            self._owner.background(self._turn())

    async def _turn(self) -> None:
        now = self._owner.clock.now()
        try:
            await self._fire_all(now)
            await self._release_all()
            for _, row in await self._owner.store.access.reader.scan(Scan(SCHEDULES_DUE, (), 1, after=(now,))):
                self._due_at(row.next_at)
        except Exception as error:  # an edge: whatever it is, the slots after this one are looked for
            logger.exception("looking for slots that are due failed; the next alarm looks again")
            ended = isinstance(error, PerdureError) and not error.retryable
            self._due_at(None if ended else self._owner.clock.now() + limits.STALL_US)
        finally:
            self._turning = False
        self._look(self._next)

    def _due_at(self, due: Micros | None) -> None:
        if self._next is None or (due is not None and due < self._next):
            self._next = due

    async def _fire_all(self, now: Micros) -> None:
        after: tuple[Any, ...] | None = None
        scan = Scan(SCHEDULES_DUE, (), limits.READ_PAGE, upto=(now,))
        while rows := await self._owner.store.access.reader.scan(msgspec.structs.replace(scan, after=after)):
            # Beside one another, so that one commit fires many; what one schedule catches up is fired in order.
            outcomes = await asyncio.gather(*(self._fire(key, row, now) for key, row in rows), return_exceptions=True)
            for (key, _), outcome in zip(rows, outcomes, strict=True):
                if isinstance(outcome, PerdureError) and not outcome.retryable:
                    logger.error("schedule %s cannot fire, others are not affected: %s", key.parts[1], outcome)
                elif outcome is not None:
                    raise outcome
            after = SCHEDULES_DUE.order_of(rows[-1][0].parts, rows[-1][1])

    async def _is_ours(self, row: ScheduleRow) -> bool:
        app = self._owner.app
        if row.declared_by not in ("", app.name):
            return False
        return not row.process_type or row.process_type in app.types or await self._owner.versions.routed(row.process_type) is not None

    async def _fire(self, key: Key[ScheduleRow], row: ScheduleRow, now: Micros) -> None:
        """Decide on what is due of one schedule: one commit for each slot that fires."""
        if row.next_slot is None or not await self._is_ours(row):
            return
        tenant_id, schedule_id = str(key.parts[0]), str(key.parts[1])
        pattern = pattern_of(row.expression, row.tz)
        delay = partial(delay_of, schedule_id, jitter=row.jitter)
        found = due(pattern, row.next_slot, now, catch_up=row.catch_up, window=row.catch_up_window, delay=delay)
        if found.last is None:
            self._due_at(now + limits.STALL_US)
            return
        seen = row
        for slot, last, following in _steps(pattern, found.fire, found.last):
            fire = Fire(
                rules=self._owner.rules,
                tenant_id=tenant_id,
                schedule_id=schedule_id,
                seen=seen,
                slot=slot,
                last=last,
                dropped=found.dropped if seen is row else 0,
                following=following,
            )
            fired = await self._owner.run(fire, notes_of)
            if fired.row is None:  # somebody else has decided, or changed it
                self.look_again()
                return
            seen = fired.row

    # --- slots that wait for the firing before them ------------------------------------------------------

    async def _release_all(self) -> None:
        after: tuple[Any, ...] | None = None
        while rows := await self._owner.store.access.reader.scan(Scan(SCHEDULES_WAITING, (), limits.READ_PAGE, after=after)):
            for key, row in rows:
                if await self._is_ours(row):
                    self._watch((str(key.parts[0]), str(key.parts[1])))
            after = rows[-1][0].parts

    def _watch(self, key: _Key) -> None:
        if key not in self._watched:
            self._watched.add(key)
            self._owner.background(self._release(key))

    async def _release(self, key: _Key) -> None:
        """Send what waits, each when the one before it is over."""
        try:
            while (row := await self._owner.store.access.reader.get(SCHEDULE.key(*key))) is not None and row.queued:
                if row.status != ScheduleStatus.ACTIVE:
                    return  # resuming it looks again
                release = Release(self._owner.rules, *key)
                with self._owner.sealing(key[0], reference(SOURCE, row.last_message)) as over:  # before the look: it may end just now
                    if (await self._owner.run(release, notes_of)).runs == row.last_message:
                        await over
        except PerdureError as error:
            if not error.retryable:
                raise
            self._due_at(self._owner.clock.now() + limits.STALL_US)
            self._look(self._next)
        finally:
            self._watched.discard(key)


def _steps(pattern: Pattern, fire: tuple[Micros, ...], last: Micros) -> list[tuple[Micros | None, Micros, Micros | None]]:
    """Return, for each commit, the slot that fires, the last slot that is decided on with it, and the one after that."""
    following = next(pattern.after(last), None)
    if not fire:
        return [(None, last, following)]
    return [(slot, slot, after) for slot, after in pairwise(fire)] + [(fire[-1], last, following)]
