"""URLs of stores of every kind, each new and a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from perdure.clock import VirtualClock
from perdure.store import open_store
from tests.postgres.server import Server

KINDS: Final = ("memory", "file", "postgres")
DURABLE: Final = ("file", "postgres")
_FREE: Final[list[str]] = []


def store_url(request: pytest.FixtureRequest, kind: str, folder: Path) -> str:
    """Return the URL of a store of this kind; on PostgreSQL one whose tables are there already."""
    if kind == "memory":
        return "sqlite:///:memory:"
    if kind == "file":
        return f"sqlite:///{folder / 'store.db'}"
    server = request.getfixturevalue("postgres_server")
    url = _FREE.pop() if _FREE else _new(server)
    request.addfinalizer(lambda: _give_back(server, url))
    return url


def _new(server: Server) -> str:
    url = str(server.fresh())
    _apart(_make(url))
    return url


def _give_back(server: Server, url: str) -> None:
    """Empty a database for the next test: to make a new one takes ten times as long."""
    _apart(_empty(url))
    _FREE.append(url)


def _apart(work: Coroutine[Any, Any, None]) -> None:
    """Run something to its end, whether or not this thread has a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _make(url: str) -> None:
    async with open_store(url, clock=VirtualClock(0)):
        pass


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        await connection.execute("drop table if exists perdure.copying")  # of a copy that was stopped
        tables = await connection.fetch(
            "select relname from pg_class where relnamespace = 'perdure'::regnamespace and relkind = 'r' and relname not in ('store', 'migration', 'writer', 'shard')"
        )
        await connection.execute("; ".join(f"delete from perdure.{name}" for (name,) in tables))
        await connection.execute(
            "delete from perdure.writer where node <> ''; update perdure.writer set last_tick = 0; update perdure.shard set node = null, epoch = 0"
        )
    finally:
        await connection.close()
