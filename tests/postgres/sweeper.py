"""Statements for databases of tests that stay while tests come and go, over connections that stay as well.

A new connection reads the catalogue for each table that it touches: to empty all takes 20 ms on one, and 2 ms on one that has done it before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import asyncpg

SWEEPER: Final = "sweeper"  # in the server's list of connections


def sweep(url: str, *statements: str) -> None:
    """Run statements in a database, one after another, and wait for them; from any thread, whether or not it has a loop that runs."""
    _sweeper().execute(url, *statements)


def leave(url: str) -> None:
    """Keep no connection to a database: it is to be copied, which the server does of one that nobody uses."""
    _sweeper().leave(url)


class _Sweeper:
    """One connection to each database, and a thread with the loop that they are used from."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._connections: dict[str, asyncpg.Connection[Any]] = {}
        threading.Thread(target=self._loop.run_forever, name="sweeper", daemon=True).start()

    def execute(self, url: str, *statements: str) -> None:
        asyncio.run_coroutine_threadsafe(self._execute(url, statements), self._loop).result()

    def leave(self, url: str) -> None:
        connection = self._connections.pop(url, None)
        if connection is not None:
            asyncio.run_coroutine_threadsafe(connection.close(), self._loop).result()

    async def _execute(self, url: str, statements: Sequence[str]) -> None:
        connection = self._connections.get(url)
        if connection is None or connection.is_closed():
            connection = self._connections[url] = await asyncpg.connect(url, server_settings={"application_name": SWEEPER})
        for statement in statements:
            await connection.execute(statement)


@cache
def _sweeper() -> _Sweeper:
    return _Sweeper()
