"""How long a tenant waits for a small turn while another starts thousands of workflows at once."""

from __future__ import annotations

import asyncio
import time

from benchmarks.measure import SHORT, fresh_store, ours, report
from benchmarks.turns import app, four
from perdure import Engine
from perdure.store import Store

FLOOD = 500 if SHORT else 10_000
BOUNDS = (None, 128) if SHORT else (None, 64, 128, 1_000_000)  # the first one is the default, the last one no bound at all


async def _probe(engine: Engine, flood: asyncio.Future[list[int]] | None, count: int) -> list[float]:
    """Call a workflow of 4 steps, one after the other, until the flood is over or so often; return the milliseconds."""
    taken: list[float] = []
    while len(taken) < count and not (flood is not None and flood.done()):
        begin = time.perf_counter()
        await engine.call(four, 0, tenant="small")
        taken.append((time.perf_counter() - begin) * 1000)
    return sorted(taken)


async def _flooded(store: Store, bound: int | None) -> None:
    async with Engine(store, app, max_concurrency=bound, max_steps=max(1000, bound or 0)) as engine:
        alone = await _probe(engine, None, 50)
        begin = time.perf_counter()
        flood = asyncio.gather(*(engine.call(four, n, tenant="flood") for n in range(FLOOD)))
        beside = await _probe(engine, flood, FLOOD)
        await flood
        report(
            benchmark="workflow of 4 steps beside a flood of another tenant",
            **ours(),
            max_concurrency=bound,
            flood=FLOOD,
            alone_p50_ms=alone[len(alone) // 2],
            beside_p50_ms=beside[len(beside) // 2],
            beside_max_ms=beside[-1],
            flood_s=time.perf_counter() - begin,
        )


async def fairness() -> None:
    """Latency of one tenant beside the flood of another, by the bound on turns."""
    for bound in BOUNDS:
        async with fresh_store() as store:
            await _flooded(store, bound)
