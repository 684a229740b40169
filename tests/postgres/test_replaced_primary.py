"""A primary that was replaced and does not know it: it takes connections and answers reads, and its writes wait for a standby for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from perdure import limits
from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Lost, Session
from perdure.store import open_store
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server, database_of

GUARD = 20.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_SECONDS", 0.5)


@pytest.fixture
async def replaced(postgres_url: str) -> AsyncIterator[Server]:
    """One with a database of the same name as the other's, and with the same in it: an empty store."""
    name = database_of(postgres_url)
    with Server() as server:
        server.execute(f"create database {name}")
        for url in (server.url(name), postgres_url):
            await (await open_store(url)).close()
        server.execute("alter system set synchronous_standby_names = 'follows_another'", "select pg_reload_conf()")
        yield server


def both(url: str, replaced: Server, server: Server) -> str:
    return f"postgresql://postgres@127.0.0.1:{replaced.port},127.0.0.1:{server.port}/{database_of(url)}"


async def port_of(session: Session) -> int:
    return int((await session.rows("select inet_server_port()"))[0][0])


async def test_a_store_goes_on_to_the_server_that_takes_writes(postgres_url: str, replaced: Server, postgres_server: Server) -> None:
    async with asyncio.timeout(GUARD), open_store(both(postgres_url, replaced, postgres_server)) as store:
        await store.streams.cas("colour", None, 7, tenant_id="acme")

    async with open_store(postgres_url, create=False) as store:
        assert await store.streams.read_value("colour", tenant_id="acme") == 7


async def test_what_a_store_reads_comes_from_where_it_was_fenced(postgres_url: str, replaced: Server, postgres_server: Server) -> None:
    async with open_store(postgres_url) as store:
        await store.streams.cas("colour", None, 7, tenant_id="acme")

    async with asyncio.timeout(GUARD), open_store(both(postgres_url, replaced, postgres_server)) as store:
        assert await store.streams.read_value("colour", tenant_id="acme") == 7


async def test_what_a_store_reads_comes_from_where_it_wrote_last(postgres_url: str, postgres_server: Server) -> None:
    place = postgres_server.port
    async with asyncio.timeout(GUARD), Proxy(place) as first, Proxy(place) as second:
        url = f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/{database_of(postgres_url)}"
        async with open_store(url) as store:
            first.refusing = True
            first.end_all()
            await store.streams.cas("colour", None, 7, tenant_id="acme")
            first.refusing, asked = False, first.accepted

            assert await store.streams.read_value("colour", tenant_id="acme") == 7
            assert first.accepted == asked


async def test_a_connection_that_got_no_answer_in_time_is_made_to_the_next_server(
    postgres_url: str, replaced: Server, postgres_server: Server
) -> None:
    session = Session(parse(both(postgres_url, replaced, postgres_server)))
    assert await port_of(session) == replaced.port

    with pytest.raises(Lost, match="TimeoutError"):
        await session.execute("create table told (n int)")

    assert await port_of(session) == postgres_server.port
    await session.close()


async def test_all_connections_of_a_store_leave_a_server_once_another_one_has_taken_a_write(
    postgres_url: str, replaced: Server, postgres_server: Server
) -> None:
    address = parse(both(postgres_url, replaced, postgres_server))
    reading, writing, in_transaction, later = (Session(address) for _ in range(4))
    await in_transaction.begin()
    assert [await port_of(each) for each in (reading, writing, in_transaction)] == [replaced.port] * 3
    with pytest.raises(Lost, match="TimeoutError"):
        await writing.execute("create table told (n int)")
    await writing.execute("create table told (n int)")

    before = await port_of(reading)
    writing.wrote()
    after = [await port_of(each) for each in (reading, writing, in_transaction, later)]
    await in_transaction.rollback()

    assert before == replaced.port, "nothing is known before a write is durable"
    assert after == [postgres_server.port, postgres_server.port, replaced.port, postgres_server.port]
    assert await port_of(in_transaction) == postgres_server.port
    for session in (reading, writing, in_transaction, later):
        await session.close()
