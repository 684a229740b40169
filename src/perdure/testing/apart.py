"""A database used on a thread of its own: to the engine, whose time is virtual, each of its calls takes none.

The engine's loop stands still during a call. So it knows when it has nothing left to do, and a run goes the same way each time.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, cast

from perdure.core.database import Database
from perdure.core.ownership import WholeStore

T = TypeVar("T")
_ROUNDS: Final = (0, 1, 3, 2)
"""How many rounds of the engine's loop come before an answer, in turn: what others do meanwhile has to be tried, too."""


class Apart:
    """A thread with a loop, on which coroutines of another loop run to their end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-database", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, or raise what it raises; this thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Calls:
    """What calls an object's coroutines on the thread, and everything else as it is."""

    def __init__(self, inner: Any, apart: Apart) -> None:
        self._inner = inner
        self._apart = apart
        self._rounds = itertools.cycle(_ROUNDS)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            answer = self._apart.run(found(*arguments, **named))
            for _ in range(next(self._rounds)):
                await asyncio.sleep(0)
            return answer

        return call


class _Database(_Calls):
    """A `Database`, with its backend and its reader, of which its engine owns all."""

    def __init__(self, inner: Database, apart: Apart) -> None:
        super().__init__(inner, apart)
        self.backend = _Calls(inner.backend, apart)
        self.reader = _Calls(inner.reader, apart)
        # A lease ends by a time that is not the engine's.
        self.ownership = WholeStore(self.exclusive, self.give_back, inner.shards)
        self._closed = False

    async def close(self) -> None:
        """Give back what is held, and end the thread; harmless when called again."""
        if not self._closed:
            self._closed = True
            self._apart.run(self._inner.close())
            self._apart.stop()


async def open_apart(connect: Callable[[], Awaitable[Database]]) -> Database:
    """Open a database on a thread of its own.

    Raises:
        StoreError, UsageError: what `connect` raises.
    """

    async def opened() -> Database:
        return await connect()

    apart = Apart()
    try:
        return cast("Database", _Database(apart.run(opened()), apart))
    except BaseException:
        apart.stop()
        raise
