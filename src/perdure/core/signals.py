"""Wake-ups: hints that something was committed. Whoever waits looks again; nothing depends on a hint arriving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from perdure.clock import Clock, Micros

_ELSEWHERE: Final = "elsewhere "


def elsewhere(topic: str) -> str:
    """Return a topic as one that is told to other nodes only."""
    return _ELSEWHERE + topic


class Listener:
    """One wait for one topic; a signal between two looks is not missed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def wake(self, heard: bool = True) -> None:  # an alarm calls it with no signal heard
        """End the present wait, or the next one at once."""
        if not self._future.done():
            self._future.set_result(heard)

    async def wait(self, deadline: Micros | None) -> bool:
        """Return True when there was a signal since the last wait; False once the clock is at `deadline`."""
        alarm = None if deadline is None else self._clock.call_at(deadline, lambda: self.wake(heard=False))
        try:
            return await self._future
        finally:
            if alarm is not None:
                alarm.cancel()
            self._future = asyncio.get_running_loop().create_future()


class Signals:
    """Who waits for which topic. `on_listeners` is told how many wait, so that a backend can look out for other nodes' commits."""

    def __init__(self, clock: Clock, *, on_listeners: Callable[[int], None] = lambda _count: None) -> None:
        self._clock = clock
        self._listeners: dict[str, set[Listener]] = {}
        self._count = 0
        self._on_listeners = on_listeners

    @contextmanager
    def listen(self, topic: str) -> Iterator[Listener]:
        """Listen for a topic: look, then `wait`, then look again."""
        listener = Listener(self._clock)
        self._listeners.setdefault(topic, set()).add(listener)
        self._count += 1
        self._on_listeners(self._count)
        try:
            yield listener
        finally:
            listeners = self._listeners[topic]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[topic]
            self._count -= 1
            self._on_listeners(self._count)

    def publish(self, topics: Iterable[str]) -> None:
        """Wake everybody who listens to one of the topics, here."""
        for topic in topics:
            for listener in self._listeners.get(topic, ()):
                listener.wake()

    def heard(self, topics: Iterable[str]) -> None:
        """Take in topics that another node has signalled."""
        self.publish(topic.removeprefix(_ELSEWHERE) for topic in topics)

    def publish_all(self) -> None:
        """Wake everybody: another node has committed something."""
        self.publish(list(self._listeners))
