"""An engine in memory whose time is virtual, and which a test may crash."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from perdure import limits
from perdure.clock import SECOND, Micros, VirtualClock
from perdure.core.ownership import Lease
from perdure.core.write import Write
from perdure.engine.app import App
from perdure.engine.engine import Engine
from perdure.engine.notes import Envelope, Note, Receipt
from perdure.engine.owner import Owner
from perdure.engine.process import micros
from perdure.errors import StoreUnavailable, UsageError
from perdure.store import Store
from perdure.testing.backend import Crash, Incarnations
from perdure.testing.idle import when_idle

R = TypeVar("R")
_NOBODY_ANSWERS = (
    "somebody waits for a reply, but no step is under way and nothing is due{}: it would never come; "
    "deliver what the process waits for, or give its receive a timeout"
)


class LastingOwner(Owner):
    """An owner whose callers outlive it: who waited for it when it was dropped asks the next one, as the client of a killed server does."""

    evicts = False  # each would be one more step of the clock; crashes try the replay

    def __init__(self, store: Store, app: App, **bounds: Any) -> None:
        super().__init__(store, app, **bounds)
        self.successor: asyncio.Future[LastingOwner] = asyncio.get_running_loop().create_future()
        self.replies = 0  # how many were asked for
        self._started = asyncio.Event()
        self._crashed = False

    async def start(self) -> None:
        """Take up what is open in the store; who came before hears now."""
        await super().start()
        self._started.set()

    def drop(self) -> None:
        """Forget everything at once."""
        self._crashed = True
        super().drop()

    async def receipt(self, envelope: Envelope) -> Receipt:
        """Accept a message, here or after a crash."""
        return await self._lasting(partial(super().receipt, envelope), lambda owner: owner.receipt(envelope))

    async def reply(self, envelope: Envelope) -> tuple[str, bytes]:
        """Return a message's reply, from here or from after a crash."""
        self.replies += 1
        return await self._lasting(partial(super().reply, envelope), lambda owner: owner.reply(envelope))

    async def run(self, write: Write[R], notes_of: Callable[[R], list[Note]], *, lease: Lease | None = None) -> R:
        """Commit a write, here or after a crash."""
        return await self._lasting(partial(super().run, write, notes_of, lease=lease), lambda owner: owner.run(write, notes_of))

    async def _lasting(self, call: Callable[[], Awaitable[R]], again: Callable[[LastingOwner], Awaitable[R]]) -> R:
        here = asyncio.ensure_future(self._once_started(call))
        try:
            await asyncio.wait((here, self.successor), return_when=asyncio.FIRST_COMPLETED)
            if here.done() and not (self._crashed and isinstance(here.exception(), StoreUnavailable | UsageError)):
                return here.result()
        finally:
            here.cancel()
        return await again(await asyncio.shield(self.successor))

    async def _once_started(self, call: Callable[[], Awaitable[R]]) -> R:
        await self._started.wait()
        return await call()


class VirtualEngine(Engine):
    """An engine of `perdure.testing.engine`.

    Attributes:
        clock: its time: `now()` in microseconds, `advance(…)`.
    """

    clock: VirtualClock
    owner_type = LastingOwner
    _owner: LastingOwner

    def __init__(self, store: Store, app: App, *, incarnations: Incarnations, auto_advance: bool, max_threads: int) -> None:
        super().__init__(store, app, max_threads=max_threads)
        self._incarnations = incarnations
        self._auto_advance = auto_advance
        self._max_threads = max_threads
        self._settling: list[asyncio.Future[None]] = []
        self._patience: Micros = 0
        self._patient_for = -1
        self._advances = 0
        self._reopening: asyncio.Task[None] | None = None

    # --- time ----------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Return when nothing is under way any more: what is left waits for messages or for time."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.append(settled)
        await settled

    async def advance(self, duration: timedelta | float) -> None:
        """Let a duration, a timedelta or seconds, pass, and everything happen that is due on the way.

        Raises:
            UsageError: it is no duration.
        """
        end = self.clock.now() + micros(duration)
        await self.settled()
        while (due := self.clock.next_alarm()) is not None and due <= end:
            self._go_to(due)
            await self.settled()
        self._go_to(end)
        await self.settled()

    def _go_to(self, due: Micros) -> None:
        self.clock.advance(max(0, due - self.clock.now()))

    def on_idle(self, alone: bool) -> bool:
        """The loop has nothing to do: say so to whoever waits for that, or go to what is due next, if somebody waits for a reply."""
        if self._owner.runs_steps or self._owner.versions.busy:  # code that is imported on a thread is under way, too
            return False
        if self._settling:
            settling, self._settling = self._settling, []
            for future in settling:
                if not future.done():
                    future.set_result(None)
            return True
        if not (self._auto_advance and self._owner.waiters):
            return False
        return self._go_on(alone=alone)

    def _go_on(self, *, alone: bool) -> bool:
        now, due = self.clock.now(), self.clock.next_alarm()
        if self._patient_for != self._owner.replies:  # it begins anew with everybody who comes to wait
            self._patient_for, self._patience, self._advances = self._owner.replies, now + limits.TESTING_SPAN_US, 0
        if due is not None and due <= self._patience and self._advances < limits.TESTING_ADVANCES_MAX:
            self._advances += 1
            self._go_to(due)
            return True
        if due is None and not alone:  # something outside may bring what is waited for
            return False
        self._owner.waiters.fail_all(
            UsageError(
                _NOBODY_ANSWERS.format(
                    "" if due is None else f" that brings it in {limits.TESTING_ADVANCES_MAX:,} steps of the clock, or in a hundred years"
                )
            )
        )
        return True

    # --- crashes ---------------------------------------------------------------------------------------

    @property
    def commits(self) -> int:
        """How many commits there were since the start, or since `crash_at`."""
        return self._incarnations.commits

    async def crash(self) -> None:
        """Drop everything in memory, as a kill does, and start again on what was committed.

        Who waits for a reply gets it from the next engine. What was not committed is lost; async steps under way are
        cancelled, plain functions run on to their end, and nobody hears of them.
        """
        owner = self._owner
        asyncio.get_running_loop().call_soon(self.on_crash)
        await asyncio.shield(owner.successor)

    def crash_at(self, *crashes: Crash) -> None:
        """Crash at commits to come: the first one is counted from here, each other from the crash before. Without any: no more."""
        self._incarnations.plan(*crashes)

    def on_crash(self) -> None:
        """Drop everything; a task opens the next engine in its place."""
        self._owner.drop()
        gc.set_threshold(*self._gc_threshold)
        self._reopening = asyncio.get_running_loop().create_task(self._reopen(self._owner))

    async def _reopen(self, before: LastingOwner) -> None:
        try:
            await self._incarnations.kill(self.store)
            Engine.__init__(self, await self._incarnations.open(), self.app, max_threads=self._max_threads)
            await Engine.__aenter__(self)
        except BaseException as error:
            before.successor.set_exception(error)
            raise
        before.successor.set_result(self._owner)

    async def close(self) -> None:
        """Stop, as an engine does. Raises what kept the engine after a crash from its start."""
        self._incarnations.plan()
        try:
            if self._reopening is not None:
                await self._reopening
        finally:
            await super().close()


@asynccontextmanager
async def engine(
    app: App,
    *,
    start: datetime | None = None,
    auto_advance: bool = True,
    max_threads: int = limits.MAX_THREADS,
    store: str | None = None,
) -> AsyncIterator[VirtualEngine]:
    """Run an app on a store in memory, in virtual time: `async with perdure.testing.engine(app) as engine:`.

    Args:
        app: the process types.
        start: what time it is in the beginning; with a time zone. In November 2023 when not given.
        auto_advance: while somebody waits for a reply, go to the next due thing whenever nothing is under way. A step
            that runs is under way, however long it takes: time stands still. When false, only `engine.advance` and
            `engine.clock.advance` move the time.
        max_threads: plain functions that run as steps at the same time.
        store: the URL of another store to run on, a file or a database of a server, which nobody else has open. The event
            loop stands still while it is asked.

    Raises:
        StoreError: the store cannot be opened.
        UsageError: `start` has no time zone, or the event loop is not one of asyncio's own.
        UsageError, to who waits for a reply: nothing is under way, nothing is due, and nothing outside can change that.
    """
    clock = VirtualClock() if start is None else VirtualClock(_instant(start))
    incarnations = Incarnations(clock, store)
    made = VirtualEngine(await incarnations.open(), app, incarnations=incarnations, auto_advance=auto_advance, max_threads=max_threads)
    incarnations.on_crash = made.on_crash
    try:
        with when_idle(made.on_idle):
            async with made:
                incarnations.plan()
                yield made
    finally:
        await made.store.close()


async def settled(engine: VirtualEngine) -> None:
    """Return when nothing is under way in the engine any more: what is left waits for messages or for time."""
    await engine.settled()


def _instant(start: datetime) -> Micros:
    if start.tzinfo is None:
        raise UsageError(f"start={start!r}: say in which time zone, datetime(…, tzinfo=UTC)")
    return round(start.timestamp() * SECOND)
