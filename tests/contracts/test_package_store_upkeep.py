"""Contract 5 in a whole store: an engine sweeps, and a copy has everything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import App, Engine, Store, VirtualClock, copy_store, limits, open_store
from perdure.core.table import Scan
from perdure.packages.tables import LEFT
from perdure.packages.writes import STORED_TOPIC
from tests.contracts.packages import DAY, HOUR_US, V1, V2, check, default, noise, put, record, rows, start
from tests.stores import DURABLE, store_url

LARGE = noise(3 * limits.PACKAGE_PART)
LOOKS = 100_000


async def until(store: Store, *, left: bool) -> None:
    """Let others work until there is something to sweep, or nothing."""
    for _ in range(LOOKS):
        if bool(await store.access.reader.scan(Scan(LEFT, (), 1))) == left:
            return
        await asyncio.sleep(0)
    raise AssertionError("nobody does it")


async def test_an_engine_removes_what_nobody_needs(store: Store, clock: VirtualClock) -> None:
    await put(store, record(V1, archive=LARGE))
    async with Engine(store, App("sweeps")):
        await put(store, record(V1, archive=b"other bytes"), record(V2, archive=LARGE))
        await until(store, left=False)
        await store.packages.unload(V1)
        await until(store, left=False)
        cut = asyncio.ensure_future(put(store, record(V1, archive=noise(9 * limits.PACKAGE_PART, seed=3))))
        await until(store, left=True)
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
        clock.advance(HOUR_US)
        await until(store, left=False)

    assert (await rows(store))["package_part"] == 3
    await check(store)


async def test_whoever_waits_for_a_package_hears_when_it_is_there(store: Store) -> None:
    with store.access.signals.listen(STORED_TOPIC) as listener:
        waiting = asyncio.ensure_future(listener.wait(None))
        await asyncio.sleep(0)
        await put(store, record(V1))
        await waiting


@pytest.mark.parametrize("target", DURABLE)
@pytest.mark.parametrize("source", DURABLE)
async def test_packages_come_along_when_a_store_moves(request: pytest.FixtureRequest, tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "new").mkdir()
    old, new = store_url(request, source, tmp_path), store_url(request, target, tmp_path / "new")
    async with open_store(old) as store:
        await put(store, record(V1, archive=LARGE), record(V2, after=DAY))
        await store.packages.set_route("order", V1, tenant="acme", actor="ann")
        await start(store, "p", V1)
        listed, log = await store.packages.list_packages(), await store.packages.deployments("order")

    await copy_store(old, new)

    async with open_store(new) as store:
        assert await store.packages.list_packages() == listed
        assert await store.packages.deployments("order") == log
        assert await default(store) == V2
        assert await start(store, "another") == V1
        assert (await store.packages.pins(V1)).total == 2
        await check(store)
