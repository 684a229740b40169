"""A connection that breaks in the middle of a transaction: what comes after it is not done on another one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import limits
from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Lost, Session
from perdure.backends.postgres.statements import Statements, by_table
from perdure.core.backend import Change
from perdure.core.table import Key
from tests.core.shop import JOB, LETTER, OWNER, TABLES
from tests.engine.orders import eventually
from tests.postgres.proxy import Proxy, mute


@pytest.mark.parametrize("next_call", [lambda session: session.rows("select 1"), lambda session: session.commit()])
async def test_a_transaction_does_not_go_on_over_another_connection(
    postgres_url: str, next_call: Callable[[Session], Awaitable[object]]
) -> None:
    session, other = Session(parse(postgres_url)), Session(parse(postgres_url))
    await session.begin()
    [(pid,)] = await session.rows("select pg_backend_pid()")
    connection = await session.connected()
    await other.rows("select pg_terminate_backend($1)", (pid,))

    async def closed() -> bool:
        return connection.is_closed()

    await eventually(closed)

    with pytest.raises(Lost):
        await next_call(session)

    assert not session.in_transaction
    assert [tuple(row) for row in await session.rows("select 1")] == [(1,)], "the next one begins anew"
    await session.close()
    await other.close()


async def test_a_statement_is_prepared_once_per_connection(url: str) -> None:
    session = Session(parse(url))
    for number in range(3):
        assert [tuple(row) for row in await session.rows("select $1::int", (number,))] == [(number,)]
    kept = await session.rows("select custom_plans + generic_plans from pg_prepared_statements where statement = 'select $1::int'")
    await session.close()

    assert [tuple(row) for row in kept] == [(3,)]


async def test_a_server_that_does_not_let_go_of_a_statement_in_time_is_left(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver itself would wait for that without end."""
    monkeypatch.setattr(limits, "POSTGRES_PREPARED", 1)
    session = Session(parse(proxy.url(url)))
    await session.rows("select 1")
    await session.rows("select 2")
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_SECONDS", 0.1)
    closing = proxy.at(lambda message: message.side == "client" and message.kind == "C", mute)

    async with asyncio.timeout(20):  # which never ends, if this fails
        with pytest.raises(Lost):
            await session.rows("select 3")

    assert closing.seen.is_set()
    await session.close()


async def test_the_server_notices_soon_that_the_machine_of_a_connection_is_gone(url: str) -> None:
    session = Session(parse(url))
    names = [f"tcp_keepalives_{name}" for name in limits.POSTGRES_KEEPALIVES]

    found = await session.rows("select setting::int from unnest($1::text[]) name join pg_settings using (name)", (names,))
    await session.close()

    assert [setting for (setting,) in found] == list(limits.POSTGRES_KEEPALIVES.values())


def test_a_store_keeps_no_more_texts_of_statements_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_TEXTS", 2)
    statements = Statements("perdure", {table.name: dict.fromkeys(table.columns, "bigint") for table in TABLES})
    keys: list[Key[Any]] = [JOB.key(1), LETTER.key("k", 1), OWNER.key("k")]

    reads = [statements.read(by_table([key]), {}, lock=lock) for key in keys for lock in (False, True) for _ in range(2)]
    writes = [statements.write([Change(key, 1, None)], (), (1, 2, 3, "n", 4), {}, first=1)[0] for key in keys for _ in range(2)]

    assert len({sql for sql, _ in reads}) == 2 * len(keys)
    assert len(set(writes)) == len(keys)
    assert len(statements._reads) <= 2
    assert len(statements._writes) <= 2
