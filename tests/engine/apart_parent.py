"""An engine for a test to kill: `python -m tests.engine.apart_parent STORE ENVIRONMENTS PLACE`. It prints `child` and its number."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from perdure import App, Engine, open_store
from tests.engine.orders import holds
from tests.engine.shop import send
from tests.engine.works import works
from tests.packages.built import deploy


async def main(url: str, environments: str, place: str) -> None:
    package = works(apart=True)
    async with open_store(url) as store:
        await deploy(store, package)
        async with Engine(store, App("node"), environments=environments) as engine:
            await send(engine, "computes", place, id="c")
            await holds((Path(place) / "done").exists)
            sys.stdout.write(f"child {engine.versions.apart[package.identity]}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
