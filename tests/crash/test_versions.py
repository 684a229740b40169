"""A whole life of versions, crashed before and after each of its commits: it comes to the same end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perdure import Address, App, Process, Store, testing
from perdure.errors import OutcomeUnknown, PackageMissing, PackagePinned, PackageRouted, ProcessTypeRetired, StoreUnavailable
from perdure.packages.archive import Package
from perdure.packages.tables import PACKAGE
from perdure.testing import VirtualEngine
from tests.engine.orders import holds
from tests.engine.shop import Paid, lose, types_of, version
from tests.engine.test_stranded import Damage
from tests.packages.built import deploy
from tests.stores import stores

WAITS = """
@app.process
async def waits(p: perdure.Process, name: str) -> str:
    paid = await p.receive(Paid)
    return f"{{paid.id}} on {version}"
"""
ONE, TWO, THREE = (version(number, WAITS.format(version=number)) for number in (1, 2, 3))
NAMES = {str(package.identity): number for number, package in enumerate((ONE, TWO, THREE), 1)}

app = App("node")


@app.process
async def hello(p: Process, name: str) -> str:
    return "from no version"


@app.process
async def waits(p: Process, name: str) -> str:
    return "from no version"


async def surely(engine: VirtualEngine, work: Callable[[Store], Awaitable[Any]]) -> Any:
    """Do something to the packages, on the engine that comes after a crash if need be, as somebody who deploys would do."""
    while True:
        store = engine.store
        try:
            return await work(store)
        except (StoreUnavailable, OutcomeUnknown):
            await holds(lambda store=store: engine.store is not store)  # type: ignore[misc]  # a default that binds the store


async def roll_back(store: Store, process_type: str, to: Package) -> None:
    """Roll back once: whoever does not know whether he has looks at the route first."""
    routes = {route.workflow_type: route.content_hash for route in await store.packages.list_package_routes()}
    if routes[process_type] != to.identity:
        await store.packages.rollback(process_type)


async def unload(store: Store, package: Package) -> str:
    try:
        await store.packages.unload(package.identity)
    except PackageMissing:  # it was unloaded before the crash
        return "unloaded"
    except (PackagePinned, PackageRouted) as refused:
        return refused.code
    return "unloaded"


async def damage(store: Store, package: Package) -> None:
    row = await store.access.reader.get(PACKAGE.key(package.identity))
    assert row is not None
    await store.access.writer.run(Damage(row.upload_id))


async def put_again(store: Store, package: Package) -> None:
    """Store an archive anew, and let no route lead elsewhere; what is damaged is only stored again when it is removed before."""
    await lose(store, package)
    await deploy(store, package, route=False)


async def refused(engine: VirtualEngine) -> str:
    try:
        await engine.call(hello, "r", id="refused")
    except ProcessTypeRetired as error:
        return error.code
    return "started"


async def begin(engine: VirtualEngine, name: str) -> asyncio.Future[str]:
    """Start a process that waits to be paid, and return its reply to come."""
    reply = asyncio.ensure_future(engine.call(waits, name, id=name))
    await engine.settled()
    return reply


async def pay(engine: VirtualEngine, name: str) -> None:
    await engine.deliver(Paid(name), id=f"pay {name}", to=Address.process(name))


async def life(engine: VirtualEngine) -> list[Any]:
    """Deploy, start, roll back, retire, unload, collect, lose and put again; return what is seen on the way."""
    seen: list[Any] = []
    await surely(engine, lambda store: deploy(store, ONE))
    first = await begin(engine, "w1")
    await surely(engine, lambda store: deploy(store, TWO))
    seen.append(await engine.call(hello, "a", id="h2"))
    second = await begin(engine, "w2")
    for process_type in types_of(ONE):
        await surely(engine, partial(roll_back, process_type=process_type, to=ONE))
    seen.append(await engine.call(hello, "b", id="h1"))
    seen.append(await surely(engine, lambda store: unload(store, TWO)))
    await pay(engine, "w2")
    seen.append(await second)
    seen.append(await surely(engine, lambda store: unload(store, TWO)))
    await surely(engine, lambda store: store.packages.retire("hello"))
    seen.append(await refused(engine))
    await surely(engine, lambda store: deploy(store, TWO, route=False))
    await surely(engine, lambda store: deploy(store, THREE))
    await surely(engine, lambda store: store.packages.collect(keep_last=0, older_than=timedelta(0)))
    await surely(engine, lambda store: lose(store, ONE))  # its code may be in memory, or not, after a crash
    await pay(engine, "w1")
    await surely(engine, lambda store: damage(store, THREE))
    third = asyncio.ensure_future(engine.call(hello, "c", id="h3"))
    await engine.settled()
    seen.append([one.status for one in await engine.processes() if one.process_id == "h3"])
    for package in (ONE, THREE):
        await surely(engine, partial(put_again, package=package))
    await engine.settled()
    seen += [await again(engine, waits, "w1", first), await again(engine, hello, "c", third, id="h3")]
    seen.append(await surely(engine, stored))
    return seen


async def again(engine: VirtualEngine, function: Any, name: str, first: asyncio.Future[str], *, id: str = "w1") -> str:
    """Ask once more for a reply: who waited when the process was stranded was told so."""
    await asyncio.gather(first, return_exceptions=True)
    return str(await engine.call(function, name, id=id))


async def stored(store: Store) -> Any:
    routes = {route.workflow_type: NAMES[route.content_hash] for route in await store.packages.list_package_routes()}
    return [sorted({NAMES[one.content_hash] for one in await store.packages.list_package_info()}), routes]


EXPECTED = [
    "hello a from 2",
    "hello b from 1",
    "package-pinned",
    "w2 on 2",
    "unloaded",
    "process-type-retired",
    ["stranded"],
    "w1 on 1",
    "hello c from 3",
    [[1, 3], dict.fromkeys(types_of(THREE), 3)],
]


async def test_without_a_crash_it_is_this_life() -> None:
    async with testing.engine(app) as engine:
        assert await life(engine) == EXPECTED


async def test_crashed_at_each_commit_it_comes_to_the_same_end() -> None:
    report = await testing.crashes(app, life)
    report.check()
    assert report.commits > 30


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["file", "postgres"])
async def test_crashed_at_each_commit_on_a_durable_store_it_comes_to_the_same_end(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    report = await testing.crashes(app, life, stores=stores(request, kind, tmp_path).new)
    report.check()
