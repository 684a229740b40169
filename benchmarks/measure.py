"""How everything here is measured: C clients in a closed loop, warm-up left out, one JSON line per level."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from perdure import App, Engine, Store, open_store

SHORT = os.environ.get("BENCH") == "short"
LEVELS = (1, 16) if SHORT else (1, 16, 64, 256, 1000)
SECONDS = 0.2 if SHORT else 4.0
WARM_UP = 0.1 if SHORT else 1.0
MACHINE = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def report(**values: Any) -> None:
    """Print one line."""
    line = {key: round(value, 2) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps({**line, "machine": MACHINE}), flush=True)


async def closed_loop(call: Callable[[int], Awaitable[object]], clients: int, *, seconds: float = SECONDS) -> dict[str, Any]:
    """Return calls that ended per second, and their latencies, of `clients` clients that each wait for the answer before the next call."""
    gc.collect()  # what the level before has left behind is not this one's
    latencies: list[float] = []
    numbers = iter(range(10**9))
    begin = time.perf_counter()
    measured, end = begin + WARM_UP, begin + WARM_UP + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < end:
            await call(next(numbers))
            done = time.perf_counter()
            if measured <= done <= end:
                latencies.append((done - start) * 1e6)

    await asyncio.gather(*(client() for _ in range(clients)))
    latencies.sort()
    count = len(latencies)
    return {
        "clients": clients,
        "per_s": round(count / seconds),
        "p50_us": round(latencies[count // 2], 1) if count else None,
        "p99_us": round(latencies[int(count * 0.99)], 1) if count else None,
    }


@asynccontextmanager
async def fresh_store() -> AsyncIterator[Store]:
    """A new SQLite file with the default durability, on the local disk."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        async with open_store(f"sqlite:///{folder}/bench.db") as store:
            yield store


@asynccontextmanager
async def fresh_engine(app: App) -> AsyncIterator[Engine]:
    """An engine on a new store."""
    async with fresh_store() as store, Engine(store, app) as engine:
        yield engine


def ours() -> dict[str, str]:
    """Return what every line of ours says."""
    return {"system": "perdure", "version": version("perdure"), "backend": "sqlite"}
