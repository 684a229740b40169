"""An engine that ends while a version is being made ready for it."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from perdure import App, Engine, Store
from perdure.engine import versions
from perdure.errors import PackageEntryMissing
from tests.engine.orders import eventually
from tests.engine.shop import ONE
from tests.packages.built import deploy


async def test_what_becomes_of_types_that_nobody_waits_for_any_more_is_told_to_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made in a thread, which does not end with who waits; what it looks at may be let go meanwhile."""
    begun, goes_on, told = threading.Event(), threading.Event(), list[Any]()

    def types_of(*_: object) -> None:
        begun.set()
        goes_on.wait(30)
        raise PackageEntryMissing("shop", "shop.flows:Order")

    async def use(engine: Engine) -> None:
        async with engine.versions.using("Order", ONE.identity):
            raise AssertionError("there are no types")

    monkeypatch.setattr(versions, "types_of", types_of)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await deploy(store, ONE)
    async with Engine(store, App("node")) as engine:
        using = asyncio.create_task(use(engine))
        await asyncio.to_thread(begun.wait, 30)
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        del using  # its frames keep what it waited for
        goes_on.set()
        await eventually(lambda: made(engine))
        await asyncio.sleep(0)
    gc.collect()

    assert told == []


async def made(engine: Engine) -> bool:
    return not engine.versions._making
