"""The world of the examples: a service that knows idempotency keys, in a file that outlives the store."""

from __future__ import annotations

from pathlib import Path

from examples.world import Effect, FileWorld, act, in_world
from perdure import App, Process, testing
from perdure.testing import Crash

app = App("shop")


def ship(what: str) -> None:
    act(f"ship {what}")


@app.process
async def shipping(p: Process, what: str) -> None:
    await p.step(ship, what)


async def test_what_comes_again_under_a_key_is_recognised_and_outlives_the_program(tmp_path: Path) -> None:
    with FileWorld(tmp_path / "world.db") as world, in_world(world):
        async with testing.engine(app) as engine:
            engine.crash_at(Crash(2, lost=True))
            await engine.call(shipping, "boots", id="s1")
            engine.crash_at()
            await engine.call(shipping, "boots", id="s2")

    with FileWorld(tmp_path / "world.db") as world:
        assert world.effects() == [Effect("ship boots", 2), Effect("ship boots", 1)]
