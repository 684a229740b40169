"""One alarm for all that is due: timers of turns, delayed messages, parked ones whose time is over, and schedules."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from perdure import limits
from perdure.clock import Alarm, Micros
from perdure.core.table import Scan
from perdure.core.write import Write
from perdure.engine.notes import Note
from perdure.engine.scheduled import Scheduled
from perdure.engine.upkeep import ExpireParked, ExpireQueued, Pull, ReleaseDelayed
from perdure.engine.versions import UNLOADABLE
from perdure.errors import PerdureError
from perdure.flows.tables import WANTED
from perdure.flows.writes import next_of
from perdure.messages.tables import DELAYED, EXPIRING, MessageStatus
from perdure.timers.tables import DUE

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")


class Wheel:
    """Looks into the store when the earliest row is due, and gives what is due to its process.

    A timer stays in the store until the commit that records its firing, so a crash in between fires it again.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._alarm: Alarm | None = None
        self._next: Micros | None = None
        self._turning = False
        self._again = False
        self._stopped = True
        self._flows_seen = -1
        self.schedules = Scheduled(owner, self.look)

    def start(self) -> None:
        """Begin to look."""
        self._stopped = False
        self.look(self._owner.clock.now())

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._alarm is not None:
            self._alarm.cancel()

    def look(self, due: Micros | None) -> None:
        """Take in that something is due then."""
        if due is None or self._stopped or (self._next is not None and self._next <= due):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._next = due
        self._alarm = self._owner.clock.call_at(due, self._ring)

    def _ring(self) -> None:
        self._next = self._alarm = None
        if self._turning:
            self._again = True
        elif not self._stopped:
            self._turning = True
            self._owner.background(self._turn())

    async def _turn(self) -> None:
        # Timers are their processes' owners'; what concerns no process alone is one node's.
        parts = (self._timers, self._flows, self._expiries, self._delayed) if self._owner.rules.leads else (self._timers,)
        for part in parts:
            try:
                await part()
            except Exception as error:  # an edge: what is due of one kind does not wait for a bug in another
                logger.exception("looking for what is due failed; the next alarm looks again")
                if not isinstance(error, PerdureError) or error.retryable:
                    self.look(self._owner.clock.now() + limits.STALL_US)
        if self._owner.rules.leads:
            self.schedules.ring()
        self._turning = False
        if self._again:
            self._again = False
            self.look(self._owner.clock.now())

    async def _timers(self) -> None:
        owner, reader = self._owner, self._owner.store.access.reader
        now = owner.clock.now()
        after: tuple[Any, ...] | None = None
        while rows := await reader.scan(Scan(DUE, (), limits.READ_PAGE, after=after, upto=(now,))):
            for key, row in rows:
                if owner.rules.owns(row.shard):
                    owner.later(owner.ring, *map(str, key.parts), row.due)
            after = DUE.order_of(rows[-1][0].parts, rows[-1][1])
            await asyncio.sleep(0)  # many may be due at once: messages get their time in between
        for _, row in await reader.scan(Scan(DUE, (), 1, after=(now,))):
            self.look(row.due)

    def look_at_flows(self) -> None:
        """Somebody without an app has made room, or the limits are others than before: look at all who wait."""
        self._flows_seen = -1
        self.look(self._owner.clock.now())

    async def _flows(self) -> None:
        """Let processes begin whose limit has a rate, and room since the last look."""
        owner, reader = self._owner, self._owner.store.access.reader
        now = owner.clock.now()
        after: tuple[Any, ...] = (self._flows_seen,)
        upto = None if self._flows_seen < 0 else (now,)
        while rows := await reader.scan(Scan(WANTED, (), limits.READ_PAGE, after=after, upto=upto)):
            for key, _ in rows:
                await self._learn(str(key.parts[1]))
                begun = limits.FLOW_PULLED
                while begun == limits.FLOW_PULLED:
                    begun, notes = await owner.store.access.writer.run(Pull(owner.rules, *(str(part) for part in key.parts)))
                    owner.later(owner.route, notes)
            after = WANTED.order_of(rows[-1][0].parts, rows[-1][1])
        self._flows_seen = now
        for _, row in await reader.scan(Scan(WANTED, (), 1, after=(now,))):
            if (at := next_of(row)) is not None:
                self.look(at)

    async def _learn(self, process_type: str) -> None:
        """Load a version of a packaged type, if nobody knows the limits of its flow yet."""
        versions = self._owner.versions
        if process_type not in versions.limits:
            try:
                await versions.learn(process_type)
            except UNLOADABLE as error:
                logger.warning("processes of type %s wait: the limits of their flow are not known: %s", process_type, error)

    async def _delayed(self) -> None:
        owner, reader = self._owner, self._owner.store.access.reader
        while rows := await reader.scan(Scan(DELAYED, (), 1)):
            [(_, row)] = rows
            assert row.available_at is not None, "the index holds only such"
            if row.available_at > owner.clock.now():
                self.look(row.available_at)
                return
            owner.later(owner.route, await owner.store.access.writer.run(ReleaseDelayed(owner.rules)))

    async def _expiries(self) -> None:
        await self._expire(MessageStatus.PARKED, ExpireParked())
        await self._expire(MessageStatus.QUEUED, ExpireQueued(self._owner.rules))

    async def _expire(self, status: str, write: Write[list[Note]]) -> None:
        owner, reader = self._owner, self._owner.store.access.reader
        while rows := await reader.scan(Scan(EXPIRING, (status,), 1)):
            [(_, row)] = rows
            assert row.expires_at is not None, "the index holds only such"
            if row.expires_at > owner.clock.now():
                self.look(row.expires_at)
                return
            owner.later(owner.route, await owner.store.access.writer.run(write))
