"""How everything here is measured: C clients in a closed loop, warm-up left out, one JSON line per level."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import loop
from benchmarks.loop import Load
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
    return await loop.closed_loop(call, Load(clients, seconds, WARM_UP))


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
