"""A server that fails for a while, and goes on."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from perdure import Engine, limits, open_store
from tests.engine.orders import Ledger, Place, holds, make_app

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
