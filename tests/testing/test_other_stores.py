"""Virtual time on a store of any kind: a file, or a database of a server."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import open_store, testing
from perdure.engine import inspection
from perdure.errors import StoreUnavailable
from perdure.testing import Crash
from tests.stores import DURABLE, KINDS, store_url, stores
from tests.testing.shop import Place, Shop


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("kind", KINDS)
async def test_on_any_store_days_pass_by_themselves_and_a_crash_changes_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    shop = Shop()

    async with testing.engine(shop.app, store=store_url(request, kind, tmp_path)) as engine:
        began = engine.clock.now()
        engine.crash_at(Crash(2), Crash(1, lost=True))
        assert await engine.call(shop.order.place, Place("1"), id="p1") == "expired"
        assert engine.clock.now() - began > timedelta(days=3) // timedelta(microseconds=1)

    assert "perdure-database" not in threads()


@pytest.mark.parametrize("kind", DURABLE)
async def test_what_a_test_has_left_in_a_store_can_be_looked_at(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    shop, url = Shop(), store_url(request, kind, tmp_path)
    async with testing.engine(shop.app, store=url) as engine:
        await engine.call(shop.order.place, Place("1"), id="p1")

    async with open_store(url, create=False) as store:
        [one] = await inspection.processes(store)
        assert (await store.info()).writers == 1, "the test's own writer has closed"

    assert one.open_message is None


async def test_a_store_that_cannot_be_opened_leaves_no_thread() -> None:
    with pytest.raises(StoreUnavailable, match="no server that can be written to"):
        async with testing.engine(Shop().app, store="postgresql://127.0.0.1:1/none"):
            pass

    assert "perdure-database" not in threads()


async def test_each_run_of_crashes_has_a_store_of_its_own(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    shop, made = Shop(), []
    having = stores(request, "file", tmp_path)

    def new() -> object:
        made.append(having.new())
        return made[-1]

    report = await testing.crashes(shop.app, shop.transferring, ledger=shop.ledger, stores=new)  # type: ignore[arg-type]

    report.check()
    assert len(made) == 1 + len(report.runs)
