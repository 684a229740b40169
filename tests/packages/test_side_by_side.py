"""Processes of many versions of one package in one engine: each runs its own code, and what is recorded is that of local code."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest

from perdure import Address, App, testing
from tests.packages.conftest import Load
from tests.packages.versions import made

FLOWS = """\
from __future__ import annotations

import msgspec
import perdure
from shop.models import Order, Refused
from . import steps


class Approve(msgspec.Struct, tag="approve"):
    by: str


async def order_{n}(p: perdure.Process, order: Order) -> Order:
    from shop import late  # in the turn itself
    charged = await p.step(steps.charge, order)
    try:
        await p.step(steps.refuse, order)
    except Refused as error:
        charged.notes.append(f"{type(error).__module__ == Refused.__module__} {error} {error.code} {late.NUMBER}")
    try:
        await p.call(check_{n}, order)
    except Refused as error:
        charged.notes.append(f"{type(error) is Refused} {error}")
    approve = await p.receive(Approve)
    charged.notes.append(f"{type(approve) is Approve} {approve.by}")
    return charged


async def check_{n}(p: perdure.Process, order: Order) -> None:
    raise Refused("not checked", code=order.total)


class Ask(msgspec.Struct, tag="ask"):
    code: int


class Desk(perdure.Process):
    @perdure.on(Ask, start=True, key=lambda m: f"desk {m.code}")
    async def answer(self, message: Ask) -> None:
        raise Refused("not told", code=message.code)
"""
FILES = {
    "shop/__init__.py": "",
    "shop/flows.py": FLOWS,
    "shop/steps.py": (
        "from .models import Order, Refused\n\n"
        "async def charge(order: Order) -> Order:\n    from shop.late import NUMBER\n    return Order(order.total, [f'charged by {NUMBER}'])\n\n"
        "def refuse(order: Order) -> None:\n    raise Refused(f'no: {type(order).__qualname__}', code=order.total)\n"
    ),
    "shop/models.py": (
        "from __future__ import annotations\nimport msgspec\n\n"
        "class Order(msgspec.Struct):\n    total: int\n    notes: list[str] = []\n    of: Order | None = None\n\n"
        "class Refused(Exception):\n    def __init__(self, text, *, code):\n        super().__init__(text)\n        self.code = code\n"
    ),
    "shop/late.py": "NUMBER = {n}\n",
}


def numbered(number: int) -> dict[str, str]:
    return {path: text.replace("{n}", str(number)) for path, text in FILES.items()}


def registered(app: App, flows: Any, number: int) -> Any:
    app.process(getattr(flows, f"check_{number}"))
    return app.process(getattr(flows, f"order_{number}"))


async def run(engine: testing.VirtualEngine, *all_flows: Any) -> list[Any]:
    """Start an order on the code of each version, crash while all wait, approve them, and return what came of them."""
    numbers = range(1, len(all_flows) + 1)
    orders = [
        asyncio.ensure_future(engine.call(getattr(flows, f"order_{number}"), flows.Order(number), id=f"o{number}"))
        for number, flows in zip(numbers, all_flows, strict=True)
    ]
    await testing.settled(engine)
    await engine.crash()
    for number, flows in zip(numbers, all_flows, strict=True):
        await engine.deliver(flows.Approve(f"b{number}"), id=f"approve-{number}", to=Address.process(f"o{number}"))
    return await asyncio.gather(*orders)


@pytest.mark.parametrize("count", [2, 20])
async def test_processes_of_many_versions_run_in_one_engine_each_with_its_own_code(loads: Load, count: int) -> None:
    app = App("shops")
    versions = [loads(made(numbered(number))).module("shop.flows") for number in range(1, count + 1)]
    for number, flows in enumerate(versions, 1):
        registered(app, flows, number)

    async with testing.engine(app) as engine:
        found = await run(engine, *versions)

    for number, (flows, order) in enumerate(zip(versions, found, strict=True), 1):
        assert type(order) is flows.Order
        assert order.notes == [f"charged by {number}", f"True no: Order {number} {number}", "True not checked", f"True b{number}"]


async def test_whoever_asks_gets_errors_of_the_version_that_he_asks_with(loads: Load) -> None:
    one, other = (loads(made(numbered(number))).module("shop.flows") for number in (1, 2))
    app = App("shops")
    registered(app, one, 1)
    app.process(one.Desk)
    async with testing.engine(app) as engine:
        with pytest.raises(one.Refused, match="not checked") as called:
            await engine.call(one.check_1, one.Order(7), id="c1")
        with pytest.raises(one.Refused, match="not told") as delivered:
            await engine.deliver(one.Ask(8), id="c2", wait=True)
        with pytest.raises(other.Refused, match="not told") as again:
            await engine.deliver(other.Ask(8), id="c2", wait=True)

    assert (called.value.code, delivered.value.code, again.value.code) == (7, 8, 8)


async def test_the_record_is_the_same_as_of_local_code_and_is_replayed_by_either(
    loads: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = numbered(1)
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    both = importlib.import_module("shop.flows"), loads(made(files)).module("shop.flows")
    apps = [App("shop"), App("shop")]
    exports = []
    for app, flows in zip(apps, both, strict=True):
        registered(app, flows, 1)
        async with testing.engine(app) as engine:
            await run(engine, flows)
            exports.append(await engine.export_process("o1"))

    assert exports[0] == exports[1]
    assert b"@" not in exports[1].to_json()
    for app in apps:
        for export in exports:
            testing.replay(export, app).check()


async def test_a_version_goes_on_with_a_process_of_another_version_of_the_same_code(loads: Load) -> None:
    first, second = (loads(made({**numbered(1), "shop/more.py": f"MORE = {more}"})).module("shop.flows") for more in (1, 2))
    apps = [App("shop"), App("shop")]
    for app, flows in zip(apps, (first, second), strict=True):
        registered(app, flows, 1)

    async with testing.engine(apps[0]) as engine:
        asking = asyncio.ensure_future(engine.call(first.order_1, first.Order(1), id="o1"))
        await testing.settled(engine)
        export = await engine.export_process("o1")
        asking.cancel()

    testing.replay(export, apps[1]).check()
