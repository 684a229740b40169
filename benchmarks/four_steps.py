"""Perdure as a program of its own, beside the peers: `URL CLIENTS SECONDS WARM_UP`. Client and engine are one process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from benchmarks.loop import closed_loop, load_of, say
from benchmarks.turns import app, four
from perdure import Engine, open_store
from perdure.errors import UsageError


async def main(url: str) -> None:
    async with AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(open_store(url))
        except UsageError as error:
            say(skipped=f"this version of Perdure does not open such a store: {str(error).replace(url, urlsplit(url).scheme)}")
            return
        engine = await stack.enter_async_context(Engine(store, app))

        async def call(n: int) -> int:
            return await engine.call(four, n)

        result = await closed_loop(call, load_of(sys.argv))
        say(commits=store.access.writer.commits, **result)


asyncio.run(main(sys.argv[1]))
