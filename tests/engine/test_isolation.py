"""Packages that ask for an interpreter of their own."""

from __future__ import annotations

import msgspec

from perdure import App, Engine, Store
from perdure.packages.archive import Package
from tests.engine.orders import reaches
from tests.engine.shop import ONE, place
from tests.packages.built import deploy

NODE = App("node")


def alone(package: Package) -> Package:
    """Return the package with an interpreter of its own."""
    manifest = msgspec.structs.replace(package.manifest, isolation="process")
    return msgspec.structs.replace(package, manifest=manifest, identity=manifest.identity)


async def test_a_package_that_asks_for_an_interpreter_of_its_own_is_stranded(store: Store) -> None:
    await deploy(store, alone(ONE))
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "stranded")
        [order] = await engine.processes(status="stranded")
        assert order.note.startswith("package-isolation-unavailable: package shop ")
