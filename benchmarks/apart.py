"""A version in an interpreter of its own beside the same code in the engine's: a round trip to it, its start, and turns of two steps."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.measure import SHORT, closed_loop, fresh_store, ours, report
from perdure import Address, App, Engine
from perdure.deploying.building import build
from perdure.deploying.deploy import deploy
from perdure.engine.apart.remote import RemoteQuery, RemoteType
from perdure.engine.encoded import sealed_reply

ROUND_TRIPS = 1_000 if SHORT else 20_000
FLOWS = """\
import msgspec
import perdure

app = perdure.App("bench")


class Start(msgspec.Struct):
    id: str


async def number(value: int) -> int:
    return value


@app.process
async def two(p: perdure.Process, value: int) -> int:
    for step in range(2):
        await p.step(number, step)
    return value


@app.process
class Counter(perdure.Process):
    count: int = 0

    @perdure.on(Start, start=True)
    async def start(self, start: Start) -> None:
        self.count += 1

    @perdure.query
    def counted(self) -> int:
        return self.count
"""
PYPROJECT = """\
[project]
name = "bench"
requires-python = ">=3.11"

[tool.perdure.package]
entries = ["bench.flows"]
isolation = "{isolation}"
"""


@asynccontextmanager
async def deployed(isolation: str, folder: Path) -> AsyncIterator[tuple[Engine, str]]:
    """An engine on a new store that has the package, which is not loaded yet."""
    source = folder / isolation
    (source / "src" / "bench").mkdir(parents=True)
    files = {"pyproject.toml": PYPROJECT.format(isolation=isolation), "src/bench/__init__.py": "", "src/bench/flows.py": FLOWS}
    for path, text in {**files, "requirements.lock": ""}.items():
        (source / path).write_text(text)
    built = await build(source, environments=folder / "environments")
    async with fresh_store() as store:
        await deploy(store, built.archive, load=False)
        async with Engine(store, App("node"), environments=folder / "environments") as engine:
            yield engine, built.identity


async def apart() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for isolation in ("shared", "process"):
            async with deployed(isolation, Path(folder)) as (engine, package):
                start = time.perf_counter()
                async with engine.versions.using("Counter", package) as made:
                    report(benchmark="start of a version", isolation=isolation, ms=(time.perf_counter() - start) * 1e3, **ours())
                    if isinstance(made, RemoteType):
                        query = made.queries["counted"]
                        assert isinstance(query, RemoteQuery)
                        report(benchmark="round trip to an interpreter", **await _percentiles(made, query), **ours())
                    for clients in (1, 64):
                        await _turns(engine, isolation, clients)


async def _percentiles(made: RemoteType, query: RemoteQuery) -> dict[str, float]:
    fields, took = made.load(None), []
    for trip in range(ROUND_TRIPS):
        if trip % 1_000 == 0:
            await asyncio.sleep(0)  # the engine is alive, too
        start = time.perf_counter()
        query.answer(fields, ())
        took.append((time.perf_counter() - start) * 1e6)
    took.sort()
    return {"p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100]}


async def _turns(engine: Engine, isolation: str, clients: int) -> None:
    numbers = count()

    async def call(_client: int) -> None:
        id = f"{isolation}-{clients}-{next(numbers)}"
        await engine.deliver_encoded("two()", msgspec.json.encode([1]), id=id, to=Address.start("two", id=id))
        found = await sealed_reply(engine.store.access, id, source="", tenant="default", until=2**62)
        assert found is not None
        assert json.loads(found.response) == 1

    report(benchmark="turns of 2 steps", isolation=isolation, **await closed_loop(call, clients), **ours())
