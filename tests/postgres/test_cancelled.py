"""Callers who are cancelled while a connection is made."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Session
from tests.postgres.server import Server


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
    sql = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'perdure%' and pid <> pg_backend_pid()"
    while await watching.fetchval(sql):
        pass  # the last ones are on their way out
    await session.close()
    loop.set_exception_handler(before)

    assert rounds
    assert told == []
