"""A backend that counts its commits and can stop dead at one of them, and the stores that follow one another over it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from perdure.clock import VirtualClock
from perdure.core.access import Access
from perdure.core.backend import Backend, Batch, Found, Wanted, WriterRow
from perdure.core.database import Database
from perdure.core.signals import Signals
from perdure.core.writer import Writer
from perdure.errors import StoreUnavailable
from perdure.store import Store, connection
from perdure.testing.apart import open_apart

_IN_MEMORY: Final = "sqlite:///:memory:"
LOGS: Final = (logging.getLogger("perdure.core"), logging.getLogger("perdure.engine"))


class Crash(NamedTuple):
    """When to crash: at the `commit`-th one from now on (or from the crash before), counted from 1; `lost`, if its batch is not durable."""

    commit: int
    lost: bool = False

    def __str__(self) -> str:
        return f"crash {'before' if self.lost else 'after'} commit {self.commit}"


class Crashed(StoreUnavailable):
    """What the writer of a crashed engine is stopped by."""


class CrashingBackend:
    """See `perdure.core.backend.Backend`. It writes to `inner` until it is dead."""

    def __init__(self, inner: Backend, on_crash: Callable[[], None]) -> None:
        self._inner = inner
        self._on_crash = on_crash
        self._planned: Crash | None = None
        self._death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.commits = 0

    def plan(self, crash: Crash | None) -> None:
        """Crash then, or not at all; commits are counted from here on."""
        self.commits = 0
        self._planned = crash

    def die(self) -> None:
        """Answer nothing any more."""
        if not self._death.done():
            self._death.set_result(None)

    def _check(self) -> None:
        if self._death.done():
            raise Crashed("the test has crashed this engine")

    async def fence(self) -> WriterRow:
        """Open a new incarnation."""
        self._check()
        return await self._inner.fence()

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        """Read, and open the batch."""
        self._check()
        return await self._inner.prefetch(wanted, locked=locked)

    def read_now(self, wanted: Wanted) -> Found | None:
        """Read within the open batch."""
        return self._inner.read_now(wanted)

    async def apply(self, batch: Batch) -> None:
        """Write and commit; or crash: nobody hears of this batch, whether it is durable or lost."""
        self._check()
        self.commits += 1
        crash = self._planned
        if crash is None or self.commits != crash.commit:
            await self._inner.apply(batch)
            return
        self._planned = None
        if crash.lost:
            await self._inner.abandon()
        else:
            await self._inner.apply(batch)
        asyncio.get_running_loop().call_soon(self._on_crash)
        await self._death
        self._check()

    async def abandon(self) -> None:
        """Give up the open batch."""
        await self._inner.abandon()

    async def close(self) -> None:
        """Give back everything."""
        await self._inner.close()


class Incarnations:
    """One database, and one store after another over it: what a crash leaves is what the next one finds.

    Args:
        clock: the stores' time.
        url: of the database; one in memory when not given.
    """

    def __init__(self, clock: VirtualClock, url: str | None = None) -> None:
        self._clock = clock
        self._url = url
        self.on_crash: Callable[[], None] = _nobody
        self._before = 0
        self._to_come: deque[Crash] = deque()
        # One stream for each length: a restart, which draws 16 bytes for its jitter, does not change the ids that follow.
        self._streams: dict[int, random.Random] = {}
        self._database: Database | None = None
        self._backend: CrashingBackend | None = None

    def randomness(self, count: int) -> bytes:
        """Return random bytes that are the same in every run."""
        return self._streams.setdefault(count, random.Random(count)).randbytes(count)  # noqa: S311  # no secret is made of them

    async def open(self) -> Store:
        """Open the next store."""
        database = self._database = self._database or await self._opened()
        self._backend = CrashingBackend(database.backend, self._crash)
        self._backend.plan(self._to_come.popleft() if self._to_come else None)
        signals = Signals(self._clock)
        writer = Writer(self._backend, on_signals=signals.publish)
        await writer.start()
        return Store(Access(writer, database.reader, signals, self._clock, self.randomness), database)

    async def _opened(self) -> Database:
        connect = connection(self._url or _IN_MEMORY, self._clock, self.randomness, create=True)
        return await (connect() if self._url in {None, _IN_MEMORY} else open_apart(connect))

    @property
    def _current(self) -> CrashingBackend:
        assert self._backend is not None, "a store was opened"
        return self._backend

    @property
    def commits(self) -> int:
        """How many commits there were since the last plan, crashes in between or not."""
        return self._before + self._current.commits

    def plan(self, *crashes: Crash) -> None:
        """Crash then, each counted from the one before it; commits are counted from here on."""
        self._before = 0
        self._to_come = deque(crashes)
        self._current.plan(self._to_come.popleft() if self._to_come else None)

    def _crash(self) -> None:
        self.on_crash()  # of the engine, which is made after the first of its stores

    async def kill(self, store: Store) -> None:
        """Stop a store as a kill does: what its writer had not committed is lost."""
        self._before += self._current.commits
        self._current.die()
        with _expected():
            # It fails when the writer has stopped, behind all that waited.
            await asyncio.gather(store.access.writer.commit(), return_exceptions=True)
        await store.ownership.stop()


def _nobody() -> None:
    raise AssertionError("a crash is planned for an engine, after it was made")


@contextmanager
def _expected() -> Iterator[None]:
    """The writer and the engine log what stops them; that a test has done so is no news."""

    def is_news(record: logging.LogRecord) -> bool:
        told = record.args if isinstance(record.args, tuple) else ()
        return not any(isinstance(one, Crashed) for one in told)

    for log in LOGS:
        log.addFilter(is_news)
    try:
        yield
    finally:
        for log in LOGS:
            log.removeFilter(is_news)
