"""Many versions in a store: how long an engine takes to start, what it has loaded then, and what a start on a version costs."""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.measure import SHORT, closed_loop, report
from perdure import App, Engine, Process, Store, open_store
from perdure.packages.archive import Package
from tests.engine.orders import eventually
from tests.engine.shop import send
from tests.packages.built import built, deploy, siblings
from tests.postgres.server import Server

VERSIONS = 50 if SHORT else 1_000
LOADED = 10 if SHORT else 100  # versions that are loaded and let go, for their memory
PINNED = 3
CLIENTS = 64
SOURCE = """\
import msgspec
import perdure

app = perdure.App("shop")


class Paid(msgspec.Struct):
    id: str


@app.process
async def hello(p: perdure.Process, name: str) -> str:
    return name


@app.process
async def waits(p: perdure.Process, name: str) -> str:
    from shop.number import NUMBER
    paid = await p.receive(Paid)
    return f"{paid.id} {NUMBER}"
"""
local = App("local")


@local.process
async def hello(_p: Process, name: str) -> str:
    return name


def packages() -> list[Package]:
    """Return versions that differ by one file."""
    first = built({"shop/__init__.py": "", "shop/number.py": "", "shop/flows.py": SOURCE})
    return list(siblings(first, "shop/number.py", (f"NUMBER = {number}\n" for number in range(VERSIONS))))


@asynccontextmanager
async def urls() -> AsyncIterator[dict[str, str]]:
    """A new SQLite file, and an empty database of a server with the default durability."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Server(durable=True) as server:
        yield {"sqlite": f"sqlite:///{folder}/bench.db", "postgres": str(server.fresh())}


async def versions_stored() -> None:
    """On both backends: starts of processes, local and on a version, then an engine's start with many versions stored."""
    stored = packages()
    async with urls() as found:
        for backend, url in found.items():
            await _calls(backend, url, stored[0])
            await _fill(url, stored)
            await _start(backend, url)
    await _memory(stored[:LOADED])


async def _calls(backend: str, url: str, package: Package) -> None:
    for what in ("local code", "a version"):
        async with open_store(url) as store, Engine(store, local) as engine:
            if what == "a version":
                await deploy(store, package)
            result = await closed_loop(partial(_call, engine), CLIENTS)
            report(benchmark="turn of 0 steps", backend=backend, on=what, **result)


async def _call(engine: Engine, n: int) -> str:
    return await engine.call(hello, f"{n}")


async def _fill(url: str, stored: list[Package]) -> None:
    """Store all, the first ones with a process each that waits."""
    async with open_store(url) as store, Engine(store, local) as engine:
        for number, package in enumerate(stored):
            await deploy(store, package)
            if number < PINNED:
                await send(engine, "waits", f"{number}", id=f"w{number}")
                await eventually(partial(_waits, engine, f"w{number}"))


async def _waits(engine: Engine, process_id: str) -> bool:
    return (await engine.process(process_id)).status == "waiting"


async def _start(backend: str, url: str) -> None:
    start = time.perf_counter()
    async with open_store(url) as store:
        opened = time.perf_counter()
        async with Engine(store, local) as engine:
            ended = time.perf_counter()
            loaded = len(engine.versions.loaded)
            first = await _first(engine)
    report(
        benchmark="start of an engine",
        backend=backend,
        versions=VERSIONS,
        pinned=PINNED,
        store_ms=(opened - start) * 1000,
        engine_ms=(ended - opened) * 1000,
        loaded=loaded,
        first_start_ms=first * 1000,
    )


async def _first(engine: Engine) -> float:
    """Return how long the first process takes, whose version is loaded for it."""
    start = time.perf_counter()
    await engine.call(hello, "a")
    return time.perf_counter() - start


async def _memory(stored: list[Package]) -> None:
    """What stays of versions that an engine has loaded for a process each and let go."""
    async with open_store("sqlite:///:memory:") as store, Engine(store, local) as engine:
        await _run_on(engine, store, stored[0])
        tracemalloc.start()
        held = []
        for most in (len(stored), 0):
            engine.versions._catalog._most = most  # noqa: SLF001  # how many stay is no setting
            before = tracemalloc.get_traced_memory()[0]
            for package in stored[1:] if most else ():
                await _run_on(engine, store, package)
            engine.versions._catalog._make_room()  # noqa: SLF001  # as the next that is given back would
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0] - before)
        tracemalloc.stop()
        report(
            benchmark="memory of a version in an engine",
            versions=len(stored),
            kib=held[0] / len(stored) / 1024,
            freed_kib=-held[1] / len(stored) / 1024,
            alive=engine.versions._catalog.evicted_alive,  # noqa: SLF001  # for people who look into an engine
        )


async def _run_on(engine: Engine, store: Store, package: Package) -> None:
    await deploy(store, package)
    await engine.call(hello, "a")
