"""What happens to versions while they are loaded, started on, let go and removed, in every order that there is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from perdure import App, Engine, Store, open_store
from perdure.errors import PackageMissing, PackagePinned, ProcessTypeRetired
from perdure.packages.signing import TrustPolicy, public_key, sign
from tests.engine.orders import holds, reaches
from tests.engine.shop import ONE, TWO, pay, place, reply, run, send, types_of
from tests.packages.built import deploy

NODE = App("node")
SEED = bytes(range(32))
ROUNDS = 12
MANY = 20


class Gate:
    """Lets no archive of one package through before it is opened."""

    def __init__(self, store: Store, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self._opened = asyncio.Event()
        self._get = store.packages.get_package
        self._package = package
        monkeypatch.setattr(store.packages, "get_package", self._through)

    async def _through(self, content_hash: str) -> Any:
        found = await self._get(content_hash)
        if content_hash == self._package:
            self.waiting += 1
            await self._opened.wait()
        return found

    def open(self) -> None:
        self._opened.set()


async def test_while_a_version_is_loaded_another_is_deployed_and_started_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        gate = Gate(store, ONE.identity, monkeypatch)
        for number in range(MANY):
            await send(engine, "hello", "a", id=f"one {number}")
        await holds(lambda: gate.waiting)
        await deploy(store, TWO)
        assert await run(engine, "hello", "b", id="two") == "hello b from 2"
        assert engine.versions.loaded == (TWO.identity,)
        gate.open()
        assert [await reply(engine, f"one {number}") for number in range(MANY)] == ["hello a from 1"] * MANY
        assert gate.waiting == 1


async def test_what_is_deployed_again_with_what_was_missing_while_it_is_loaded_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        gate = Gate(store, ONE.identity, monkeypatch)
        await send(engine, "hello", "a", id="h")
        await holds(lambda: gate.waiting)
        await deploy(store, replace(ONE, signatures=(sign(ONE.identity, SEED),)))
        gate.open()
        assert await reply(engine, "h") == "hello a from 1"


async def test_an_engine_that_stops_while_it_loads_a_version_goes_on_with_it_at_the_next_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(store, ONE)
    with monkeypatch.context() as patch:
        async with Engine(store, NODE) as engine:
            gate = Gate(store, ONE.identity, patch)
            await send(engine, "hello", "a", id="h")
            await place(engine, "o")
            await holds(lambda: gate.waiting)
    async with Engine(store, NODE) as engine:
        assert await reply(engine, "h") == "hello a from 1"
        await reaches(engine, "o", "waiting")
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"


async def test_versions_that_are_let_go_as_soon_as_nobody_uses_them_run_what_is_started_on_them(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        engine.versions._catalog._most = 0
        names = [f"h{number}" for number in range(MANY)]
        sent = [asyncio.ensure_future(run(engine, "hello", name, id=name)) for name in names]
        await deploy(store, TWO)
        await place(engine, "o")
        assert {await one for one in sent} <= {f"hello {name} from {number}" for name in names for number in (1, 2)}
        for number in range(MANY):
            assert await run(engine, "hello", "a", id=f"again {number}") == "hello a from 2"
        await reaches(engine, "o", "waiting")
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 2"
        await holds(lambda: engine.versions.loaded == ())
        assert not [package for _, package in engine.versions.said if package is not None]


async def start(engine: Engine, name: str) -> str:
    """Start an order that waits, if that is not refused; return how it went."""
    try:
        await place(engine, name)
    except (ProcessTypeRetired, PackageMissing) as error:
        return error.code
    return "started"


async def withdraw(store: Store, after: int) -> str:
    """Let nothing start on a package any more, and remove it, a while after others have begun to start."""
    for _ in range(after):
        await asyncio.sleep(0)
    try:
        for process_type in types_of(ONE):
            await store.packages.retire(process_type)
        await store.packages.unload(ONE.identity)
    except PackagePinned as error:
        return error.code
    return "unloaded"


async def test_no_process_is_on_a_package_that_was_removed_while_it_started(url: str) -> None:
    went: set[str] = set()
    async with open_store(url) as store, Engine(store, NODE) as engine:
        for number in range(ROUNDS):
            await deploy(store, ONE)
            names = [f"o{number}.{each}" for each in range(3)]
            *starts, ended = await asyncio.gather(*(start(engine, name) for name in names), withdraw(store, number * 2))
            started = [name for name, outcome in zip(names, starts, strict=True) if outcome == "started"]
            assert (ended == "package-pinned") == bool(started), (started, ended)
            went |= {*starts, ended}
            for name in started:
                await reaches(engine, name, "waiting")
                await engine.cancel(name, force=True)
    assert went >= {"started", "package-pinned"}
