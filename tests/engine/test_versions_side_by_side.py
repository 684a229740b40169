"""Two and twenty versions of the same modules in one engine, each with an open process that uses its modules in every way."""

from __future__ import annotations

import gc
import sys
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Store, VirtualClock, limits
from perdure.packages.archive import Package
from tests.engine.orders import holds, reaches
from tests.engine.shop import reply
from tests.packages.built import built, deploy
from tests.packages.versions import SHOP, WAYS

NODE = App("node")
COUNT = 22
KEPT = 2
FLOWS = """\
from __future__ import annotations

import inspect
import traceback
from importlib.resources import files

import msgspec
import perdure
from shop import models, ways
from . import left
from .models import Address, Kind, Line, Order

app = perdure.App("shop")


class Begin(msgspec.Struct):
    id: str


class Go(msgspec.Struct):
    order: Order
    address: Address


class Seen(msgspec.Struct):
    ways: dict[str, float]
    lazy: int
    circular: int
    kinds: list[bool]
    resource: str
    trace: str
    source: str


def each_way() -> dict[str, float]:
    return {name: getattr(ways, name)() for name in WAYS}


def trace() -> str:
    try:
        raise models.Broken("it broke in {n}")
    except models.Broken:
        return traceback.format_exc()


@app.process
class Tour(perdure.Process):
    order: Order | None = None
    address: Address = Address("nowhere")

    @perdure.on(Begin, start=True, key=lambda begin: begin.id)
    async def begin(self, begin: Begin) -> Seen:
        go = await self.receive(Go)
        from shop import late  # in the turn itself
        self.order, self.address = go.order, go.address
        return Seen(
            ways=await self.step(each_way),
            lazy=late.NUMBER,
            circular=left.other(),
            kinds=[type(go.order) is Order, type(go.order.lines[0]) is Line, type(go.address) is Address, go.address.kind is Kind.HOME],
            resource=files(__package__).joinpath("data/grüße.txt").read_text(encoding="utf-8"),
            trace=await self.step(trace),
            source=inspect.getsource(Tour.begin),
        )
"""


def numbered(number: int) -> Package:
    """Return this version of the shop."""
    files = {**SHOP, "shop/flows.py": FLOWS.replace("WAYS", repr(WAYS))}
    return built({path: text.replace("{n}", str(number)) for path, text in files.items()})


class Begin(msgspec.Struct):
    id: str


class Go(msgspec.Struct):
    order: Any
    address: Any


def public() -> set[str]:
    """Return what is in `sys.modules` under a name of the package that anybody could import."""
    return {name for name in sys.modules if name.partition(".")[0] in {"shop", "shared"}}


def check(seen: dict[str, Any], number: int) -> None:
    """Check what the process of a version has seen."""
    assert seen["ways"] == dict.fromkeys(WAYS, number)
    assert (seen["lazy"], seen["circular"], seen["resource"]) == (number, number, f"hällo {number}\n")
    assert seen["kinds"] == [True] * 4
    assert f"it broke in {number}" in seen["trace"]
    assert 'raise models.Broken("it broke in' in seen["trace"], "the line of the code is shown"
    assert "go = await self.receive(Go)" in seen["source"]


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "restarted"])
async def test_many_versions_of_the_same_modules_are_side_by_side_and_go_when_nobody_needs_them(
    store: Store, clock: VirtualClock, restarted: bool
) -> None:
    packages = [numbered(number) for number in range(1, COUNT + 1)]
    before = public()
    engine = await Engine(store, NODE).__aenter__()
    for number, package in enumerate(packages, 1):
        await deploy(store, package)
        await engine.deliver(Begin(f"t{number}"), id=f"begin {number}", to=Address.start("Tour", key=f"t{number}", id=f"t{number}"))
        await reaches(engine, f"t{number}", "waiting")
    if restarted:
        await engine.close()
        engine = await Engine(store, NODE).__aenter__()
    try:
        catalog = engine.versions._catalog
        for number in range(1, COUNT + 1):
            go = Go({"type": "order", "lines": [{"sku": f"{number}"}]}, {"street": "a", "kind": "home"})
            await engine.deliver(go, id=f"go {number}", to=Address.key(f"t{number}"))
        for number in range(1, COUNT + 1):
            check(await reply(engine, f"begin {number}"), number)
        assert len(engine.versions.loaded) == COUNT
        assert public() == before

        await holds(lambda: not engine._owner.residents)
        clock.advance(limits.REST_US)  # who has waited is remembered until the next look at those that rest
        catalog._most = KEPT
        catalog._make_room()
        await holds(lambda: len(engine.versions.loaded) == KEPT)
        await holds(lambda: gc.collect() >= 0 and catalog.evicted_alive == 0)
        assert {name for _, name in engine.versions.said if name is not None} == set(engine.versions.loaded)
    finally:
        await engine.close()
