"""Hearing of the moment at which an event loop has nothing left to do but wait for the world outside.

The loop itself knows it, when it asks its selector to wait. No count of rounds and no short sleep can tell it: a task may
need any number of rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure.errors import UsageError

Idle = Callable[[bool], bool]
"""Called when nothing is ready; its argument says whether nothing outside can wake the loop. True: it has made something ready."""


class _Selector:
    """A loop's selector, which asks who listens before it waits."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.inner = loop._selector
        self.listeners: list[Idle] = []

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout > 0:
            # The loop watches one socket of its own, by which other threads wake it.
            alone = timeout is None and len(self.inner.get_map()) <= 1 and self.loop._default_executor is None
            made = [listener(alone) for listener in tuple(self.listeners)]
            timeout = 0 if any(made) else timeout
        return self.inner.select(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextmanager
def when_idle(listener: Idle) -> Iterator[None]:
    """Call `listener` whenever the running loop would begin to wait.

    Raises:
        UsageError: the loop is not one of asyncio's own on a selector; another one does not tell.
    """
    loop: Any = asyncio.get_running_loop()
    selector = getattr(loop, "_selector", None)
    if selector is None or not hasattr(selector, "select"):
        raise UsageError(f"perdure.testing needs an event loop of asyncio's own, found {type(loop).__name__}; run the test on one")
    if not isinstance(selector, _Selector):
        selector = loop._selector = _Selector(loop)
    selector.listeners.append(listener)
    try:
        yield
    finally:
        selector.listeners.remove(listener)
        if not selector.listeners and loop._selector is selector:
            loop._selector = selector.inner
