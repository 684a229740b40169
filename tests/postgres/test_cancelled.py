"""Callers who are cancelled while a connection is made."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import open_store
from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Session
from tests.engine.orders import eventually
from tests.postgres.server import Server

OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'perdure%' and pid <> pg_backend_pid()"


async def test_who_is_cancelled_while_a_connection_is_made_leaves_neither_it_nor_an_error(postgres_server: Server) -> None:
    """At any round of the loop."""
    told: list[Any] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    session = Session(parse(postgres_server.url()))
    rounds = 0
    while True:
        connecting = asyncio.ensure_future(session.connected())
        for _ in range(rounds):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled():
            break
        rounds += 1

    watching = await session.connected()
    while await watching.fetchval(OTHERS):
        pass  # the last ones are on their way out
    await session.close()
    loop.set_exception_handler(before)

    assert rounds
    assert told == []


async def opened(url: str) -> None:
    async with open_store(url):
        pass


async def held(url: str) -> None:
    async with open_store(url) as store:
        await store.exclusive("sweep")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", [opened, held])
async def test_an_opening_or_a_lock_that_is_cancelled_leaves_no_connection(url: str, work: Callable[[str], Awaitable[None]]) -> None:
    """At every fortieth round of the loop, of some thousand: the connection is kept by nobody who would close it later."""
    watching = Session(parse(url))
    rounds, kept = 0, list[asyncio.Task[None]]()
    while not kept or kept[-1].cancelled():
        kept.append(asyncio.ensure_future(work(url)))
        for _ in range(rounds):
            await asyncio.sleep(0)
        kept[-1].cancel()
        await asyncio.wait([kept[-1]])
        rounds += 40

    connection = await watching.connected()
    gc.collect()  # seldom, one is left to the collector: a known defect, and of which moment is not known
    await eventually(lambda: nobody(connection))
    await watching.close()
    assert len(kept) > 1


async def nobody(connection: Any) -> bool:
    return not await connection.fetchval(OTHERS)
