"""Who waits for something hears of what other stores commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from perdure import Joined, Store, limits, open_store
from perdure.identity import TenantId
from perdure.operations.contract import OperationId
from tests.engine.orders import holds
from tests.stores import store_url

PATIENCE = 10  # seconds, until a test that would never end fails
NEVER_MS = 86_400_000  # between two looks for commits: what is heard was told


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "goes"])
async def test_a_commit_of_another_store_is_heard_of_whether_or_not_it_stays(
    request: pytest.FixtureRequest, tmp_path: Path, *, stays: bool
) -> None:
    """One that has closed before anybody looks has left no writer behind."""
    url = store_url(request, "postgres", tmp_path)
    async with open_store(url) as here:
        signals = here.access.signals
        with signals.listen("anything") as listener:
            await listener.wait(None)  # the first look is always news
            there = await open_store(url)
            await there.streams.cas("k", None, 1)
            if not stays:
                await there.close()

            assert await asyncio.wait_for(listener.wait(None), PATIENCE)

        await there.close()


class Ear:
    """Somebody who listens to what the nodes tell one another."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._heard.put_nowait(str(payload).partition("\n")[0])

    async def next(self) -> str:
        """Return the name of the node that tells something next."""
        return await asyncio.wait_for(self._heard.get(), PATIENCE)

    async def says(self, name: str) -> None:
        await self._connection.execute("select pg_notify('perdure_perdure', $1)", name)


@asynccontextmanager
async def ear(url: str) -> AsyncIterator[Ear]:
    connection = await asyncpg.connect(url)
    made = Ear(connection)
    await connection.add_listener("perdure_perdure", made.hear)
    try:
        yield made
    finally:
        await connection.close()


def notices_of(store: Store) -> Any:
    database: Any = store._database
    return database._notices


async def test_a_store_that_closes_at_once_has_told_the_others_before(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = store_url(request, "postgres", tmp_path)
    async with ear(url) as heard:
        async with open_store(url) as there:
            there.announce("anything")

        assert await heard.next() == notices_of(there)._node


async def test_a_store_that_is_alone_tells_nobody_until_somebody_comes(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notice is a commit of its own."""
    monkeypatch.setattr(limits, "POSTGRES_POLL_MS", 1)
    monkeypatch.setattr(limits, "POSTGRES_NOTICE_MS", 0)
    url = store_url(request, "postgres", tmp_path)
    async with ear(url) as heard, open_store(url) as here:
        notices = notices_of(here)
        with here.access.signals.listen("anything"):
            await holds(lambda: notices._alone)
            assert await heard.next() == notices._node, "here I am"
            here.announce("anything")
            await holds(lambda: not notices._untold.is_set())
            await heard.says("a guest")
            assert await heard.next() == "a guest"
            async with open_store(url) as there:
                with there.access.signals.listen("anything"):
                    assert await heard.next() == notices_of(there)._node
                    await holds(lambda: not notices._alone)
                here.announce("anything")
                assert await heard.next() == notices._node


async def test_stores_in_a_schema_with_the_longest_name_hear_of_one_another(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_POLL_MS", NEVER_MS)
    schema = "a" * 63
    url = f"{postgres_url}?schema={schema}"
    async with open_store(url) as here, open_store(url) as there:
        with here.access.signals.listen("anything") as listener:
            await listener.wait(None)
            await holds(lambda: notices_of(here)._session.live)
            there.announce("anything")
            assert await asyncio.wait_for(listener.wait(None), PATIENCE)


async def test_a_joined_transaction_commits_in_a_schema_with_the_longest_name(postgres_url: str) -> None:
    schema, operation = "a" * 63, OperationId(tenant_id=TenantId("t"), scope="orders", value="1")
    async with open_store(f"{postgres_url}?schema={schema}") as store:
        connection = await asyncpg.connect(postgres_url)
        async with connection.transaction():
            await Joined(connection, schema=schema).operations.admit(operation)
        await connection.close()

        assert await store.operations.find_operation(operation) is not None
