"""`perdure.testing` with packages."""

from __future__ import annotations

import asyncio

from perdure import App, Process, testing
from tests.engine.shop import ONE
from tests.packages.built import deploy

app = App("node")


@app.process
async def hello(p: Process, name: str) -> str:
    return "from no version"


@app.process
async def nap(p: Process) -> str:
    await p.sleep(60)
    return "awake"


async def test_no_time_passes_while_a_version_is_loaded() -> None:
    async with testing.engine(app) as engine:
        await deploy(engine.store, ONE)
        napping = asyncio.ensure_future(engine.call(nap, id="n"))
        await engine.settled()
        begun = engine.clock.now()
        assert await engine.call(hello, "a", id="h") == "hello a from 1"
        assert engine.clock.now() == begun
        assert await napping == "awake"


async def test_a_process_whose_version_was_being_loaded_goes_on_after_a_crash() -> None:
    async with testing.engine(app) as engine:
        await deploy(engine.store, ONE)
        engine.crash_at(testing.Crash(1))
        assert await engine.call(hello, "a", id="h") == "hello a from 1"
