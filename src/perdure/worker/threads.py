"""Threads for plain handlers, which nobody can stop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Threads:
    """As many threads as a worker does commands at the same time.

    Those of asyncio are fewer, and names of hosts are looked up on them: plain handlers would keep their own leases from being renewed.

    Attributes:
        left: functions that were given up and still run.
    """

    def __init__(self, most: int, freed: Callable[[], None]) -> None:
        self.left = 0
        self._freed = freed
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="perdure-worker")

    async def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Return what a plain function returns. When this is cancelled, the function goes on and keeps its thread."""
        future = self._pool.submit(contextvars.copy_context().run, _called, function, arguments)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not (future.cancelled() or future.done()):
                self._leave(future)
            raise

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self, future: Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        self.left += 1

        def over(_: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._come_back)

        future.add_done_callback(over)

    def _come_back(self) -> None:
        self.left -= 1
        self._freed()


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except StopIteration as error:  # a future cannot hold one: whoever waits for it would wait for ever
        raise RuntimeError("the handler raised StopIteration") from error
