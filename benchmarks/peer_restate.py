"""Restate's client in its own environment: `INGRESS CLIENTS SECONDS WARM_UP`. The server and the service are processes of their own."""

import sys

import aiohttp
import uvloop

from benchmarks.loop import closed_loop, load_of, say


async def main() -> None:
    load = load_of(sys.argv)
    url = f"{sys.argv[1]}/bench/four"

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=load.clients), raise_for_status=True) as session:

        async def call(value: int) -> None:
            async with session.post(url, json=value) as reply:
                await reply.read()

        result = await closed_loop(call, load)
    say(**result)


uvloop.run(main())
