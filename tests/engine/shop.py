"""A shop as packages: versions of it, and how tests talk to processes whose classes they do not have."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure import Address, Engine, Store
from perdure.engine.encoded import sealed_reply
from perdure.packages.archive import Package
from tests.packages.built import built

FLOWS = """\
import msgspec
import perdure

app = perdure.App("shop")


class Placed(msgspec.Struct):
    id: str


class Paid(msgspec.Struct):
    id: str


@app.process
class Order(perdure.Process):
    version: int = {version}
    seen: int = 0

    @perdure.on(Placed, start=True, key=lambda placed: placed.id)
    async def placed(self, placed: Placed) -> str:
        self.seen += 1
        paid = await self.receive(Paid)
        return f"paid {{paid.id}} on version {version}"

    @perdure.query
    def summary(self, times: int = 1) -> list[int]:
        return [{version} * times, self.version, self.seen]


@app.process
class Counter(perdure.Process):
    count: int = {version}00

    @perdure.on(Paid, start=True, key=lambda paid: paid.id)
    async def paid(self, paid: Paid) -> int:
        self.count += 1
        return self.count


@app.process
async def hello(p: perdure.Process, name: str) -> str:
    return f"hello {{name}} from {version}"


@app.process
async def sleeper(p: perdure.Process, seconds: float) -> str:
    await p.sleep(seconds)
    return "awake on version {version}"


@app.process
async def parent(p: perdure.Process, name: str) -> str:
    await p.sleep(3600)
    return await p.call(hello, name)
{more}
"""


class Placed(msgspec.Struct):
    id: str


class Paid(msgspec.Struct):
    id: str


def version(number: int, more: str = "") -> Package:
    """Return this version of the shop."""
    return built({"shop/__init__.py": "", "shop/flows.py": FLOWS.format(version=number, more=more)})


ONE, TWO, THREE = version(1), version(2), version(3)


def types_of(package: Package) -> list[str]:
    """Return the process types of a package."""
    return [process.type for process in package.manifest.processes]


async def send(engine: Engine, function: str, *arguments: Any, id: str) -> str:
    """Start a function process; its id is that of its message."""
    payload = msgspec.json.encode(list(arguments))
    receipt = await engine.deliver_encoded(f"{function}()", payload, id=id, to=Address.start(function, id=id))
    assert receipt.process_id is not None
    return receipt.process_id


async def reply(engine: Engine, id: str) -> Any:
    """Return the sealed reply of a message: a value, or the text of an error."""
    found = await sealed_reply(engine.store.access, id, source="", tenant="default", until=10**18)
    assert found is not None
    return msgspec.json.decode(found.response) if found.error is None else found.text


async def run(engine: Engine, function: str, *arguments: Any, id: str) -> Any:
    """Run a function process to its end."""
    await send(engine, function, *arguments, id=id)
    return await reply(engine, id)


async def place(engine: Engine, name: str) -> None:
    """Start an order of this id and key, which then waits to be paid."""
    await engine.deliver(Placed(name), id=f"placed {name}", to=Address.start("Order", key=name, id=name))


async def pay(engine: Engine, name: str) -> None:
    """Let it end."""
    await engine.deliver(Paid(name), id=f"paid {name}", to=Address.key(name))


async def lose(store: Store, package: Package) -> None:
    """Remove an archive that processes need, as no `unload` does."""
    for process_type in types_of(package):
        await store.packages.delete_package(process_type, package.identity)
