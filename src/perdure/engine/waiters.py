"""Who waits in this process for the replies of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from perdure.engine.redriving import first_id

_Reply = tuple[str, bytes]
_Key = tuple[str, str]


class Waiters:
    """Futures of sealed replies, each outcome and bytes, by tenant and the message's reference."""

    def __init__(self) -> None:
        self._waiters: dict[_Key, list[asyncio.Future[_Reply]]] = {}
        self._watchers: dict[_Key, asyncio.Future[_Reply]] = {}

    def add(self, key: _Key, reply: asyncio.Future[_Reply]) -> None:
        """Somebody waits for a reply."""
        self._waiters.setdefault(key, []).append(reply)

    def remove(self, key: _Key, reply: asyncio.Future[_Reply]) -> None:
        """He has gone away."""
        if others := [one for one in self._waiters.pop(key, ()) if one is not reply]:
            self._waiters[key] = others

    @contextmanager
    def watching(self, key: _Key, sealed: asyncio.Future[_Reply]) -> Iterator[asyncio.Future[_Reply]]:
        """Let a future have a reply that is sealed from now on; nobody waits for it."""
        self._watchers[key] = sealed
        try:
            yield sealed
        finally:
            if self._watchers.get(key) is sealed:
                del self._watchers[key]

    def __bool__(self) -> bool:
        """Whether somebody waits for a reply."""
        return bool(self._waiters)

    @property
    def all(self) -> list[_Key]:
        """The messages whose replies somebody waits for, or watches for."""
        return list(dict.fromkeys([*self._waiters, *self._watchers]))

    def repetitions(self, tenant_id: str, ref: str) -> list[str]:
        """Return the messages that somebody waits for and that this one is a repetition of, by its name, or may be."""
        return [other for tenant, other in self._waiters if tenant == tenant_id and first_id(other) == first_id(ref)]

    def answer(self, key: _Key, reply: _Reply) -> bool:
        """Give a reply to all who wait for it; return whether anybody did."""
        hear = [*self._waiters.pop(key, ()), *([self._watchers[key]] if key in self._watchers else [])]
        for future in hear:
            if not future.done():
                future.set_result(reply)
        return bool(hear)

    def fail(self, key: _Key, error: Exception) -> None:
        """Tell all who wait for a reply that none will come from here."""
        fail(self._waiters.pop(key, ()), error)

    def fail_all(self, error: Exception) -> None:
        """Tell everybody."""
        waiters, self._waiters = self._waiters, {}
        for futures in waiters.values():
            fail(futures, error)


def fail(futures: Iterable[asyncio.Future[_Reply]], error: Exception) -> None:
    """Let futures end with an error."""
    for future in futures:
        if not future.done():
            future.set_exception(error)
            future.exception()  # looked at: who waited for it may have been cancelled before he heard of it
