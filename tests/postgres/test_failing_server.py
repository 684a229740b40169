"""A server that fails for a while, and goes on."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from perdure import Engine, limits, open_store
from perdure.errors import OutcomeUnknown, StoreError
from tests.engine.orders import Ledger, Place, holds, make_app
from tests.postgres.owners import ALL, beside
from tests.postgres.proxy import Proxy, asked, cut, refuse

FAILS = """
create function perdure.fail() returns trigger language plpgsql as $$ begin raise exception 'a block cannot be read' using errcode = '58030'; end $$;
create trigger fails before update on perdure.turn for each row execute function perdure.fail()
"""


async def test_a_turn_whose_commit_the_server_fails_at_is_committed_when_it_works_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "STALL_US", 1_000)
    ledger = Ledger()
    async with open_store(postgres_url) as store, Engine(store, make_app(ledger)) as engine:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(FAILS)
        reply = asyncio.ensure_future(engine.deliver(Place("1"), id="place-1", wait=True))
        await holds(lambda: "a block cannot be read" in caplog.text or reply.done())
        assert not reply.done(), "it waits for the server, as everybody else does"
        await connection.execute("drop trigger fails on perdure.turn")
        await connection.close()

        await reply
    assert ledger.effects == ["charge 1"], "what its step has done was kept"


@pytest.mark.parametrize("code", ["58030", "57014"])
async def test_what_the_server_refuses_of_locks_and_of_settling_is_an_error_of_ours_and_leaves_no_connection(
    url: str, proxy: Proxy, code: str
) -> None:
    async with open_store(proxy.url(url)) as store:
        before = len(proxy.links)
        proxy.at(asked("pg_try_advisory_lock"), refuse(code, "no"))
        proxy.at(asked("set incarnation = incarnation + 1"), refuse(code, "no"))

        with pytest.raises(StoreError, match="no"):
            await store.exclusive("sweep")
        with pytest.raises(StoreError, match="no"):
            await store.settle(OutcomeUnknown(node="somebody", batch=1, cause="cut"))

        await holds(lambda: len(proxy.links) == before)
        await store.exclusive("sweep")


async def test_an_engine_that_stops_while_its_connection_breaks_gives_its_shards_back_all_the_same(
    url: str, proxy: Proxy, impatient: None
) -> None:
    """Its store is open and writes, so that its lease would not end."""
    async with open_store(proxy.url(url)) as store, beside(url) as rows:
        async with Engine(store, make_app(Ledger())):
            breaks = proxy.at(asked("set expires_at = null where node"), cut)

        assert breaks.seen.is_set()
        assert await rows.owned() == {None: ALL}
        assert await rows.run("select node from perdure.writer where expires_at is not null") == []
