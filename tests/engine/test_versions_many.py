"""Many versions in a store: an engine that starts loads what is needed, and reads no more than with few."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import App, Engine, Store
from tests.contracts.conversations import CountingReader
from tests.engine.orders import reaches
from tests.engine.shop import ONE, pay, place, reply
from tests.packages.built import deploy, siblings

NODE = App("node")
FEW, MANY = 5, 60
PINNED = 3


async def opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, int], list[str], Engine]:
    """Start an engine; return the rows that it has read until it was open, the archives that it has asked for, and itself."""
    asked: list[str] = []
    get = store.packages.get_package

    async def counted(content_hash: str) -> Any:
        asked.append(content_hash)
        return await get(content_hash)

    reader = CountingReader(store.access.reader)
    with monkeypatch.context() as patch:
        patch.setattr(store, "access", store.access._replace(reader=reader))
        patch.setattr(store.packages, "get_package", counted)
        engine = await Engine(store, NODE).__aenter__()
    monkeypatch.setattr(store.packages, "get_package", counted)
    return dict(reader.rows), asked, engine


async def test_an_engine_starts_without_a_look_at_versions_that_nobody_needs_now(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = [ONE, *siblings(ONE, "shop/number.py", (f"NUMBER = {number}\n" for number in range(MANY)))]
    async with Engine(store, NODE) as engine:
        for number, package in enumerate(packages[:PINNED]):
            await deploy(store, package)
            await place(engine, f"o{number}")
            await reaches(engine, f"o{number}", "waiting")
    rows = []
    for before, after in ((PINNED, FEW), (FEW, MANY)):
        for package in packages[before:after]:
            await deploy(store, package)
        read, asked, engine = await opened(store, monkeypatch)
        rows.append(read)
        assert (asked, engine.versions.loaded) == ([], ())
        await engine.close()
    assert rows[0] == rows[1]

    read, asked, engine = await opened(store, monkeypatch)
    await pay(engine, "o1")
    assert await reply(engine, "placed o1") == "paid o1 on version 1"
    assert asked == [packages[1].identity]
    assert engine.versions.loaded == (packages[1].identity,)
    await engine.close()


def test_siblings_are_other_packages_of_the_same_types() -> None:
    first, second = siblings(ONE, "shop/number.py", ["NUMBER = 1\n", "NUMBER = 2\n"])
    assert len({ONE.identity, first.identity, second.identity}) == 3
    assert first.manifest.processes == second.manifest.processes == ONE.manifest.processes
