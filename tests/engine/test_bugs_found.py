"""Bugs that were found by use, each in its smallest form."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from perdure.errors import MessageNotFound
from tests.engine.conftest import Running
from tests.engine.orders import Ledger, Place, eventually, make_app


async def test_a_caller_that_leaves_while_its_message_is_accepted_is_not_told_of_the_end_of_the_engine(running: Running) -> None:
    app = make_app(Ledger())
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
    async with running(app) as engine:
        caller = asyncio.ensure_future(engine.deliver(Place("1", total=500), id="p", wait=True))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])

        async def accepted() -> bool:
            try:
                return (await engine.explain("p")).status == "open"
            except MessageNotFound:
                return False

        await eventually(accepted)
    gc.collect()

    assert caller.cancelled()
    assert unheard == []
