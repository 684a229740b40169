"""Random families, cancelled at random moments by random callers, while the engine crashes: no child slips through, nobody else is hit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from perdure import App, Process, testing
from perdure.engine.control import CancelProcess
from perdure.engine.notes import NO_APP
from perdure.engine.verification import verify
from perdure.testing import Crash, VirtualEngine
from tests.engine.families import Go
from tests.engine.orders import eventually
from tests.engine.test_cancel_children import all_asked

RUNS = 60
DEPTH = 3


async def breathe() -> None:
    """Take a step's time."""


def grown() -> App:
    app = App("random")

    @app.process
    async def node(p: Process, depth: int) -> str:
        chance = p.random()
        calls = list[Coroutine[Any, Any, str]]()
        try:
            for _ in range(chance.randrange(1, 5) if depth else 0):
                match chance.randrange(6):
                    case 0:
                        await p.step(breathe)
                    case 1:
                        await p.sleep(chance.randrange(1, 5))
                    case 2:
                        calls.append(p.call(node, depth - 1))
                    case 3:
                        p.spawn(node, depth - 1, detached=True)
                    case _:
                        p.spawn(node, depth - 1)
            await asyncio.gather(*calls, p.receive(Go))
        except asyncio.CancelledError:
            match chance.randrange(4):
                case 0:
                    p.spawn(node, 1)
                case 1:
                    await p.step(breathe, name="undo")
                case 2:
                    return "gave way"
            raise
        finally:
            for call in calls:
                call.close()
        return "went"

    return app


async def run(seed: int) -> int:
    """Return how many processes were cancelled."""
    chance = random.Random(seed)
    app = grown()
    async with testing.engine(app) as engine:
        call = asyncio.ensure_future(engine.call(app.type_named("node").target, DEPTH, id=f"root-{seed}"))
        engine.crash_at(*(Crash(chance.randrange(1, 12), lost=chance.random() < 0.5) for _ in range(chance.randrange(3))))
        for _ in range(chance.randrange(4)):
            await engine.advance(chance.random() * 3)
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        await eventually(lambda: _there(engine, f"root-{seed}"))
        await cancel(engine, f"root-{seed}", chance)
        engine.crash_at(*(Crash(chance.randrange(1, 6), lost=chance.random() < 0.5) for _ in range(chance.randrange(3))))
        await engine.advance(60)
        call.cancel()
        assert await all_asked(engine.store)
        return await check(engine, seed)


async def _there(engine: VirtualEngine, process_id: str) -> bool:
    """Return whether a process is there: the commit of its start may have been lost."""
    return process_id in [one.process_id for one in await engine.processes(limit=1_000)]


async def cancel(engine: VirtualEngine, root: str, chance: random.Random) -> None:
    """Cancel a process, as the engine does, or as a command line does beside it, whose request the engine hears of later."""
    if chance.random() < 0.5:
        await engine.cancel(root, force=chance.random() < 0.2)
    else:
        await engine._owner.run(CancelProcess(NO_APP, "default", root, ""), lambda _result: [])


async def check(engine: VirtualEngine, seed: int) -> int:
    assert await verify(engine.store) == []
    processes = {one.process_id: one for one in await engine.processes(limit=1_000)}
    cancelled = {process_id for process_id, one in processes.items() if one.note.startswith("cancelled")}
    for process_id, one in processes.items():
        expected = process_id == f"root-{seed}" or one.parent in cancelled
        assert (process_id in cancelled) == expected, f"seed {seed}: {process_id} of {one.parent} is {one.status} {one.note}"
        assert (one.status == "ended") == expected, f"seed {seed}: {process_id} is {one.status}"
    return len(cancelled)


async def test_the_family_of_a_cancelled_process_is_cancelled_and_nobody_else_whatever_happens() -> None:
    cancelled = [await run(seed) for seed in range(RUNS)]

    assert sum(cancelled) > 3 * RUNS, "families are large enough to tell"
