"""How many connections a store has, and what each of them asks the server before it is of use."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from perdure import limits
from perdure.backends.postgres import driver
from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Session
from perdure.store import Store, open_store
from tests.postgres.owners import Rows

READERS = "select count(*) from pg_stat_activity where application_name like 'perdure%' and datname = current_database()"
ARRAYS = "select $1::bigint[], array(select row(1, 'a'))"


async def read(store: Store, times: int) -> None:
    await asyncio.gather(*(store.streams.read_value("v") for _ in range(times)))


async def test_reads_share_a_connection_when_none_takes_long(url: str, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_READER_SECONDS", 86_400.0)
    async with open_store(url) as store:
        [(before,)] = await rows.run(READERS)

        await read(store, 50)

        assert await rows.run(READERS) == [(before + 1,)]


async def test_more_are_made_up_to_the_limit_when_reads_wait_for_long(url: str, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_READER_SECONDS", 0.0)
    async with open_store(url) as store:
        [(before,)] = await rows.run(READERS)

        await read(store, 50)

        assert await rows.run(READERS) == [(before + limits.POSTGRES_READERS,)]


async def test_opening_a_store_and_writing_to_it_takes_one_connection(url: str) -> None:
    async with open_store(url) as store:
        await store.streams.append("s", b"x", 0)

        backend: Any = store.access.writer._backend
        assert backend._session.made == 1


async def test_only_the_first_connection_asks_for_the_servers_own_types(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[frozenset[int]] = []
    asks = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]

    async def introspects(self: object, typeoids: frozenset[int], *args: Any, **kwargs: Any) -> Any:
        asked.append(typeoids)
        return await asks(self, typeoids, *args, **kwargs)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", introspects)
    monkeypatch.setattr(driver, "_KNOWN", {})
    found = []
    for _ in range(3):
        session = Session(parse(url))
        found.append([tuple(row) for row in await session.rows(ARRAYS, ([1, 2],))])
        await session.close()

    assert len(asked) == 1
    assert found == [[([1, 2], [(1, "a")])]] * 3


async def test_types_of_a_database_s_own_are_asked_for_by_each_connection(url: str, rows: Rows) -> None:
    """Their numbers are others in another database."""
    for first in ("a", "b"):
        await rows.run(f"create type perdure.own as enum ('{first}')")
        session = Session(parse(url))
        try:
            assert [tuple(row) for row in await session.rows("select array[$1::perdure.own]", (first,))] == [([first],)]
        finally:
            await session.close()
            await rows.run("drop type perdure.own")
    assert all(number < 10_000 for asked in driver._KNOWN for number in asked)
