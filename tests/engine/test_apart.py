"""Packages with an interpreter of their own do what packages do that share the engine's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from perdure import Address, App, Engine, Store, VirtualClock, open_store
from perdure.clock import SECOND
from perdure.engine.export import ProcessExport
from perdure.errors import StoreBusy
from perdure.packages.archive import Package
from tests.engine.orders import eventually
from tests.engine.shop import reply
from tests.engine.works import did, works
from tests.packages.built import deploy
from tests.stores import KINDS, store_url

NODE = App("node")
APART, SHARED = works(apart=True), works(apart=False)


class Start(msgspec.Struct):
    id: str
    folder: str = ""


class Word(msgspec.Struct):
    text: str


async def say(engine: Engine, text: str, id: str, to: str = "w") -> None:
    await engine.deliver(Word(text), id=id, to=Address.process(to))


async def looked_at(engine: Engine, process: str) -> ProcessExport | None:
    """Return the record of a process, None when it changes meanwhile."""
    try:
        return await engine.export_process(process)
    except StoreBusy:
        return None


async def armed(engine: Engine, timer: str, process: str = "w") -> None:
    """Wait until a process waits for a timer."""

    async def stored() -> bool:
        found = await looked_at(engine, process)
        return found is not None and found.status == "waiting" and found.timers.get(timer, 0) > engine.clock.now()

    await eventually(stored)


async def awaits_mail(engine: Engine) -> None:
    """Wait until a process waits for nothing but messages."""

    async def stored() -> bool:
        found = await looked_at(engine, "w")
        return found is not None and found.status == "waiting" and not found.timers

    await eventually(stored)


async def lives(store: Store, clock: VirtualClock, package: Package, environments: Path) -> ProcessExport:
    """Let a process do all that it can, with a restart in between, and return its record."""
    await deploy(store, package)
    async with Engine(store, NODE, environments=environments) as engine:
        await engine.deliver(Word("x"), id="t", to=Address.start("Holder", key="taken", id="t"))
        await engine.deliver(Start("w", "place"), id="1", to=Address.start("Works", key="w", id="w"))
        for _ in range(2):
            await armed(engine, "fails")
            clock.advance(5 * SECOND)
        await awaits_mail(engine)
        await say(engine, "no", "2")
        await say(engine, "yes", "3")
        await armed(engine, "sleep")
    async with Engine(store, NODE, environments=environments) as engine:
        clock.advance(60 * SECOND)
        await armed(engine, "sleep#2")
        clock.advance(5 * SECOND)
        await armed(engine, "sleep#3")
        clock.advance(10 * SECOND)
        await reply(engine, "1")
        await say(engine, "x", "4")
        await reply(engine, "4")
        await say(engine, "boom", "5")
        assert await reply(engine, "5") == "boom"
        return await engine.export_process("w")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_record_of_a_life_is_that_of_shared_code(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, doings = [], []
    for package in (SHARED, APART):
        folder = tmp_path / package.manifest.isolation
        clock = VirtualClock()
        monkeypatch.setenv("PLACE", str(folder))
        folder.mkdir()
        async with open_store(store_url(request, kind, folder), clock=clock) as store:
            records.append(await lives(store, clock, package, tmp_path / "environments"))
        doings.append(did(folder))

    assert doings[0] == doings[1]
    assert len(doings[0]) == 7
    assert records[0] == records[1]
    assert sum(len(turn.events) for turn in records[0].turns) == 30
