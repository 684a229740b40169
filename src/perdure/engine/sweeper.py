"""Removing what retention no longer keeps: one page per transaction, beside the work, whenever something is old enough.

Source: engine.md, "States, memory, recovery"; contracts.md, 3.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Alarm, Clock, Micros
from perdure.commands.tables import OVER
from perdure.commands.writes import RemoveOver
from perdure.conversations.events import Event, ProcessingFinished, decode_event
from perdure.conversations.tables import AGES, ENDED, EVENTS, PROCESS, PROCESS_STATE, Aging, ProcessRow
from perdure.conversations.writes import stream_name
from perdure.core.access import Access
from perdure.core.table import Index, Key, Scan
from perdure.engine.archive import Archive, ArchivedEvent, ArchiveRecord
from perdure.engine.removal import Clear, Compact, Expire, Forget, Remove
from perdure.engine.retention import Retention, Swept
from perdure.errors import CorruptEvent, EventTooNew, PerdureError, TransactionRefused
from perdure.messages.tables import AGED, EXPIRING, MessageStatus
from perdure.store import APART, Store

logger = logging.getLogger("perdure.engine")
_Event = tuple[int, Micros, Event]
_ONE_PROCESS: Final = (CorruptEvent, EventTooNew, TransactionRefused)


async def sweep(store: Store, retention: Retention, *, archive: Archive | None = None) -> Swept:
    """Remove what retention no longer keeps from a store that no engine runs. Raises EngineRunning."""
    await store.exclusive("engine")
    try:
        return await Sweeper(store.access, retention, archive).sweep()
    finally:
        await store.give_back("engine")


class Sweeper:
    """Looks for what is old enough, by indexes in the order of age, and removes it.

    Args:
        access: of an open store.
        retention: how long what is over is kept.
        archive: what events are given to before they are removed.
    """

    def __init__(self, access: Access, retention: Retention, archive: Archive | None) -> None:
        self._access = access
        self._ages = retention.ages
        self._archive = archive
        self._running = asyncio.Lock()
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._swept: Counter[str] = Counter()
        self._width = 1
        self._at_once = asyncio.Semaphore(limits.SWEEP_PAGES)

    async def sweep(self) -> Swept:
        """Remove all that is old enough; return what was removed. A second call waits for the first.

        Raises:
            Exception: the store or the archive failed; what was not removed is there, and the next sweep goes on.
        """
        async with self._running:
            self._swept.clear()
            self._width = 1
            failed = [
                await self._turns(),
                await self._processes(),
                await self._messages(),
                await self._tombstones(),
                await self._commands(),
            ]
            for error in failed:
                if error is not None:
                    raise error
            return Swept(**self._swept)

    def pause(self) -> None:
        """Remove nothing more; a sweep that runs waits between two transactions."""
        self._allowed.clear()

    def resume(self) -> None:
        """Go on."""
        self._allowed.set()

    async def next_due(self) -> Micros | None:
        """Return when to look again, None for never: nothing that is not old yet can be old enough before."""
        ages, now = self._ages, self._access.clock.now()
        stages: list[tuple[Micros | None, Index[Any], tuple[str, ...]]] = [
            (ages.turns, AGES, (Aging.TURNS,)),
            (ages.processes, ENDED, ()),
            (ages.messages, AGED, ()),
            (ages.commands, OVER, ()),
            (0, AGES, (Aging.ROWS,)),
        ]
        due = []
        for age, index, prefix in stages:
            if age is not None:
                first = await self._first(index, prefix)
                due += [first + age] if first is not None else [now + age] if age else []
        tombstones = [await self._first(AGES, (Aging.TOMBSTONE,)), await self._first(EXPIRING, (MessageStatus.EXPIRED,))]
        return min([*due, *(until for until in tombstones if until is not None)], default=None)

    async def _first(self, index: Index[Any], prefix: tuple[str, ...]) -> Micros | None:
        for key, row in await self._access.reader.scan(Scan(index, prefix, 1)):
            found: Any = index.order_of(key.parts, row)[0]
            return int(found)
        return None

    # --- its stages; each returns what kept it from one process, after the others were tried ---------------------

    async def _turns(self) -> PerdureError | None:
        age = self._ages.turns
        if age is None:
            return None
        cutoff = self._access.clock.now() - age
        return await self._each(AGES, (Aging.TURNS,), cutoff, lambda key: self._compact(key, cutoff))

    async def _processes(self) -> PerdureError | None:
        failed = None
        if self._ages.processes is not None:
            cutoff = self._access.clock.now() - self._ages.processes
            failed = await self._each(ENDED, (), cutoff, self._remove)
        # Those that a stop has left between the first transaction and the last.
        return await self._each(AGES, (Aging.ROWS,), self._access.clock.now(), self._clear) or failed

    async def _messages(self) -> PerdureError | None:
        if self._ages.messages is not None:
            await self._pages("messages", lambda: Expire(self._ages.messages or 0, self._ages.tombstones))
        return None

    async def _tombstones(self) -> PerdureError | None:
        await self._pages("tombstones", Forget)
        return None

    async def _commands(self) -> PerdureError | None:
        age = self._ages.commands
        if age is not None:
            await self._pages("commands", lambda: RemoveOver(age=age, apart=APART))
        return None

    async def _pages(self, what: str, write: Callable[[], Any]) -> None:
        """Remove page after page; while all of them are full, twice as many share the next commit, so that a backlog does not grow."""
        more = True
        while more:
            pages = await asyncio.gather(*(self._page(write()) for _ in range(self._width)))
            self._swept[what] += sum(count for count, _ in pages)
            more = all(left for _, left in pages)
            self._width = min(2 * self._width, limits.SWEEP_PAGES) if more else 1

    async def _page(self, write: Any) -> tuple[int, bool]:
        async with self._at_once:
            await self._allowed.wait()
            page: tuple[int, bool] = await self._access.writer.run(write)
            return page

    async def _each(
        self, index: Index[Any], prefix: tuple[str, ...], upto: Micros, work: Callable[[Key[Any]], Coroutine[Any, Any, None]]
    ) -> PerdureError | None:
        """Do something for each row that is old enough, a page of rows at once; one that fails does not stop the others."""
        failed: PerdureError | None = None
        after: tuple[Any, ...] | None = None
        while rows := await self._access.reader.scan(Scan(index, prefix, limits.SWEEP_PROCESSES, after=after, upto=(upto,))):
            outcomes = await asyncio.gather(*(work(key) for key, _ in rows), return_exceptions=True)
            for (key, _), outcome in zip(rows, outcomes, strict=True):
                if isinstance(outcome, _ONE_PROCESS):
                    logger.warning("process %s is not swept: %s", key.parts[1], outcome)
                    failed = outcome
                elif outcome is not None:
                    raise outcome
            after = index.order_of(rows[-1][0].parts, rows[-1][1])
        return failed

    # --- one process ---------------------------------------------------------------------------------

    async def _compact(self, key: Key[Any], cutoff: Micros) -> None:
        """Remove the turns of a process that were done at `cutoff`."""
        more = True
        while more:
            process = await self._access.reader.get(PROCESS.key(*key.parts))
            if process is None:
                return
            before, oldest = await self._boundary(key, process, cutoff)
            if before > process.first:
                await self._write_out(key, process, process.first, before)
            await self._drop(partial(Compact, *_ids(key), process.stream_no, before, oldest))
            more = oldest is not None and oldest <= cutoff

    async def _boundary(self, key: Key[Any], process: ProcessRow, cutoff: Micros) -> tuple[int, Micros | None]:
        """Return where the events that stay begin, and when the turn there was done, if one is known; a page at a time."""
        before = process.first
        async for seq, at, event in self._events(key, process, process.first, process.turn_seq):
            if isinstance(event, ProcessingFinished):
                if at > cutoff or (before > process.first and seq - process.first >= limits.READ_PAGE):
                    return before, at
                before = seq + 1
        return before, None

    async def _remove(self, key: Key[Any]) -> None:
        """Remove a process that is over: from here on nobody sees it."""
        process = await self._access.reader.get(PROCESS.key(*key.parts))
        if process is None or self._ages.processes is None:
            return
        await self._write_out(key, process, process.first, process.head, whole=True)
        await self._allowed.wait()
        clear = Clear(*_ids(key), self._ages.tombstones)
        async with self._at_once:
            removed, (events, more) = await self._access.writer.commit(Remove(*_ids(key), self._ages.processes), clear)
        self._swept["processes"] += removed
        self._swept["events"] += events
        if more:
            await self._clear(key)

    async def _clear(self, key: Key[Any]) -> None:
        await self._drop(partial(Clear, *_ids(key), self._ages.tombstones))

    async def _drop(self, write: Callable[[], Any]) -> None:
        await self._pages("events", write)

    # --- events ---------------------------------------------------------------------------------------

    async def _events(self, key: Key[Any], process: ProcessRow, begin: int, end: int) -> AsyncIterator[_Event]:
        stream, seq = stream_name(*_ids(key)), begin
        while seq < end:
            scan = Scan(EVENTS, (key.parts[0], process.stream_no), limits.SWEEP_CHUNK, after=(seq - 1,), upto=(end - 1,))
            rows = await self._access.reader.scan(scan)
            for event_key, row in rows:
                seq = int(event_key.parts[2] or 0)
                yield seq, row.at, decode_event(row.data, stream=stream, seq=seq)
            if len(rows) < limits.SWEEP_CHUNK:
                return
            seq += 1

    async def _write_out(self, key: Key[Any], process: ProcessRow, begin: int, end: int, *, whole: bool = False) -> None:
        """Give events to the archive, a page in each record; the last record of a whole process says what became of it."""
        if self._archive is None:
            return
        tenant_id, process_id = _ids(key)
        record = ArchiveRecord(
            tenant_id=tenant_id, process_id=process_id, process_type=process.process_type, stream_no=process.stream_no, events=[]
        )
        async for seq, at, event in self._events(key, process, begin, end):
            values = msgspec.to_builtins(msgspec.structs.asdict(event))
            record.events.append(ArchivedEvent(seq=seq, at=at, event=type(event).__name__, values=values))
            if len(record.events) == limits.SWEEP_CHUNK:
                await self._archive(record)
                record = msgspec.structs.replace(record, events=[])
        if whole:
            state = await self._access.reader.get(PROCESS_STATE.key(tenant_id, process_id))
            fields = None if state is None else state.saved.decode()
            record = msgspec.structs.replace(record, status=process.status, note=process.note, fields=fields)
        if whole or record.events:
            await self._archive(record)


def _ids(key: Key[Any]) -> tuple[str, str]:
    return str(key.parts[0]), str(key.parts[1])


class Sweeping:
    """The sweeps of an open engine: each begins when the oldest of what is over is old enough.

    Args:
        sweeper: what does it.
        clock: the store's.
        background: runs something until the engine closes.
        leads: whether this node is the one that sweeps, now.
    """

    def __init__(
        self, sweeper: Sweeper, clock: Clock, background: Callable[[Coroutine[Any, Any, None]], None], *, leads: Callable[[], bool]
    ) -> None:
        self._sweeper = sweeper
        self._clock = clock
        self._background = background
        self._leads = leads
        self._alarm: Alarm | None = None
        self._stopped = False

    def start(self) -> None:
        """Look for the first time."""
        self._background(self._run())

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._alarm is not None:
            self._alarm.cancel()

    async def _run(self) -> None:
        now = self._clock.now()
        try:
            due = await self._sweeper.next_due() if self._leads() else now + limits.SWEEP_RETRY_US
            if due is not None and due <= now:
                await self._sweeper.sweep()
                due = await self._sweeper.next_due()
        except Exception:  # the edge of the engine: the user's archive may raise anything, and the turns go on
            logger.exception("the sweep has stopped; it is tried again")
            due = self._clock.now() + limits.SWEEP_RETRY_US
        if due is not None and not self._stopped:
            self._alarm = self._clock.call_at(max(due, now + 1), self._ring)

    def _ring(self) -> None:
        if not self._stopped:
            self._background(self._run())
