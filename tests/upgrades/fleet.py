"""Releases that are made up: the code is the present one, their migrations end sooner or go on further."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import apsw
import asyncpg
import pytest

from perdure.backends.migrations import CONTRACT, EXPAND, Migration
from perdure.backends.postgres import database as postgres
from perdure.backends.postgres import joined
from perdure.backends.postgres.migrations import known_migrations as of_postgres
from perdure.backends.sqlite import file as sqlite
from perdure.backends.sqlite.migrations import known_migrations as of_sqlite
from perdure.store import Store, open_store

LOOKS = 2_000  # at what happens soon, until something is taken for never


def migration(number: int, text: str, phase: str = EXPAND) -> Migration:
    return Migration(number, f"m{number}", text, hashlib.sha256(text.encode()).hexdigest(), phase)


WIDER = migration(
    101,
    "ALTER TABLE process ADD COLUMN colour TEXT NOT NULL DEFAULT 'none'; ALTER TABLE message ADD COLUMN weight INT NOT NULL DEFAULT 0; "
    "CREATE TABLE later (a INT NOT NULL PRIMARY KEY)",
)
NARROWER = migration(102, "ALTER TABLE message DROP COLUMN weight; DROP TABLE later", CONTRACT)
WIDER_AGAIN = migration(103, "CREATE TABLE latest (a INT NOT NULL PRIMARY KEY)")


_MORE: ContextVar[tuple[Migration, ...]] = ContextVar("more", default=())


def install(patch: pytest.MonkeyPatch) -> None:
    """Let what is opened know the migrations of the release that opens it."""
    for module, known in ((postgres, of_postgres), (joined, of_postgres), (sqlite, of_sqlite)):
        patch.setattr(module, "known_migrations", lambda known=known: (*known(), *_MORE.get()))


class Release:
    """What knows the present migrations, and `more`."""

    def __init__(self, url: str, *more: Migration) -> None:
        self.url = url
        self._more = more

    async def opened(self, url: str = "") -> Store:
        """Open the store; it knows what its release does as long as it is open."""
        with self.installed():
            return await open_store(url or self.url)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        store = await self.opened()
        try:
            yield store
        finally:
            await store.close()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be what this task runs with."""
        before = _MORE.set(self._more)
        try:
            yield
        finally:
            _MORE.reset(before)


async def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Look into a store behind its back."""
    if url.startswith("sqlite:"):
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        try:
            return list(connection.execute(sql))
        finally:
            connection.close()
    server = await asyncpg.connect(url, server_settings={"search_path": "perdure"})
    try:
        return [tuple(record) for record in await server.fetch(sql)]
    finally:
        await server.close()


async def behind(url: str) -> list[tuple[int, str]]:
    """The migrations behind those of the present release, with their phases, in the order in which they were applied."""
    return [(number, phase) for number, phase in await rows(url, "SELECT number, phase FROM migration WHERE number > 100 ORDER BY 1")]


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    for _ in range(LOOKS):
        if await holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")
