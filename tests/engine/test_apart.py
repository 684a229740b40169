"""Packages with an interpreter of their own do what packages do that share the engine's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, limits, open_store, query
from perdure.clock import SECOND
from perdure.engine.export import ProcessExport
from perdure.errors import QueryNotFound, StoreBusy, UsageError
from perdure.packages.archive import Package
from tests.engine.orders import eventually, holds, reaches
from tests.engine.shop import reply, run, send
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
        return msgspec.structs.replace(await engine.export_process("w"), package_hash=None)


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


async def test_a_query_is_answered_there_as_of_the_last_commit(store: Store, tmp_path: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await engine.deliver(Start("w", str(tmp_path)), id="1", to=Address.start("Works", key="w", id="w"))
        await armed(engine, "fails")
        assert [await engine.query(Asks.count, "w"), await engine.query(Asks.count, "w", 5)] == [1, 5]
        with pytest.raises(ValueError, match="an odd query"):
            await engine.query(Asks.odd, "w")
        with pytest.raises(UsageError, match="takes 1 arguments, found 2"):
            await engine.query(Asks.count, "w", 1, 2)  # type: ignore[call-arg, arg-type]  # that is the point
        with pytest.raises(QueryNotFound):
            await engine.query(Asks.unknown, "w")


class Asks(Process):
    """Queries by the names that those of the package have."""

    @query
    def count(self, times: int = 1) -> int:
        return times

    @query
    def odd(self) -> int:
        return 0

    @query
    def unknown(self) -> int:
        return 0


async def test_its_code_has_its_public_name_and_another_process_of_the_system(store: Store, tmp_path: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        module, again, child, _, python = await run(engine, "where", id="1")
        assert (module, again) == ("shop.flows", "shop.flows")
        assert int(child) == engine.versions.apart[APART.identity] != os.getpid()
        assert Path(python).is_relative_to(tmp_path)
        assert "shop" not in sys.modules


async def test_code_that_does_not_fit_its_record_is_stuck_with_the_reason(store: Store, tmp_path: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "deadlocked", id="d")
        await reaches(engine, "d", "stuck")
        assert "waits for something that is not durable" in (await engine.process("d")).note


async def test_a_message_that_cannot_be_read_fails_its_turn(store: Store, tmp_path: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        assert "expected" in (await run(engine, "asleep", "no number", id="a")).lower()


async def test_versions_that_nobody_uses_are_stopped_when_they_are_too_many(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "APART_IDLE", 1)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        for number in range(3):
            package = works(apart=True, more=f"NUMBER = {number}\n")
            await deploy(store, package)
            await run(engine, "where", id=str(number))
            last = package.identity
        await holds(lambda: list(engine.versions.apart) == [last])
