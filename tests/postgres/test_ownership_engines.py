"""Leases on shards and engines: who may begin, beside whom, and under which name."""

from __future__ import annotations

import pytest

from perdure import App, Engine, limits
from perdure.engine.retention import Retention
from perdure.engine.sweeper import sweep
from perdure.errors import EngineRunning, StoreFull
from perdure.store import open_store
from tests.postgres.owners import ALL, Node, Rows
from tests.postgres.sweeper import SWEEPER

HALF = limits.SHARDS // 2
pytestmark = pytest.mark.usefixtures("unhurried")


async def test_a_second_engine_on_the_same_open_store_is_refused(url: str) -> None:
    app = App("app")
    async with open_store(url) as store, Engine(store, app):
        with pytest.raises(EngineRunning):
            await Engine(store, app).__aenter__()
        assert frozenset(store.ownership.shards) == ALL


async def test_a_start_that_fails_leaves_no_lease(one: Node, two: Node, rows: Rows) -> None:
    async def fails() -> None:
        raise StoreFull("no room")

    with pytest.raises(StoreFull):
        await one.ownership.start(one.keeper, fails)

    assert (await rows.writer(one))[1] is None
    assert one.ownership._session._connection is None
    await two.start()
    assert two.shards == ALL


async def test_an_engine_after_another_on_the_same_open_store_owns_everything(url: str) -> None:
    app = App("app")
    async with open_store(url) as store:
        for _ in range(2):
            async with Engine(store, app):
                assert frozenset(store.ownership.shards) == ALL
            assert not store.ownership.shards


async def test_who_needs_the_store_alone_is_refused_while_engines_run(url: str, one: Node) -> None:
    app = App("app")
    async with open_store(url) as store, Engine(store, app):
        with pytest.raises(EngineRunning):
            await one.store.exclusive("engine")
        with pytest.raises(EngineRunning):
            await sweep(one.store, Retention())

    await sweep(one.store, Retention())


async def test_an_engine_is_refused_while_somebody_has_the_store_alone(url: str, one: Node, rows: Rows) -> None:
    await one.store.exclusive("engine")
    async with open_store(url) as store:
        with pytest.raises(EngineRunning):
            await Engine(store, App("app")).__aenter__()
        assert not store.ownership.shards
        assert await rows.run("select node from perdure.writer where expires_at is not null") == []

        await one.store.give_back("engine")
        async with Engine(store, App("app")):
            assert frozenset(store.ownership.shards) == ALL


async def test_the_servers_list_of_connections_names_the_node(one: Node, rows: Rows) -> None:
    await one.start()

    names = await rows.run(
        "select distinct application_name from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and application_name <> $1",
        SWEEPER,
    )

    assert names == [(f"perdure {one.name}",)]
