"""Three versions of one process type in one store, told as it happens. Each call here is a command of the README, too."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

import perdure
from perdure import Address, App, Engine, Store
from perdure.deploying.building import build
from perdure.deploying.candidates import candidate_of_archive
from perdure.deploying.checking import check

HERE = Path(__file__).parent
Say = Callable[[str], None]


class Placed(msgspec.Struct):
    """What a program sends that knows nothing of versions."""

    order: str
    euros: int


class Paid(msgspec.Struct):
    """The money is there."""

    order: str


class Shop:
    """The shop of the story, and those who order there.

    Args:
        store: where it is.
        engine: that runs it. It has no process types of its own: all code comes out of the store.
        say: tells what happens.
    """

    def __init__(self, store: Store, engine: Engine, say: Say) -> None:
        self._store = store
        self._engine = engine
        self._say = say
        self._archives: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}

    def _named(self, content_hash: str | None) -> str:
        return next((name for name, known in self._hashes.items() if known == content_hash), "nothing")

    async def build(self, version: str) -> None:
        """Make a package of a folder."""
        built = await build(HERE / version)
        self._archives[version], self._hashes[version] = built.archive, built.identity
        self._say(f"built {version}")

    async def check(self, version: str) -> bool:
        """Try a version on what is open, without running anything."""
        async with candidate_of_archive(self._archives[version], self._store) as candidate:
            report = await check(self._store, candidate)
        for finding in report.findings:
            if finding.breaks:
                self._say(f"  {finding.process_id or finding.process_type}: {finding.result}")
        self._say(f"checked {version}: {'everything can go on with it' if report.ok else 'it would break what is open'}")
        return report.ok

    async def deploy(self, version: str) -> None:
        """Store a version, and let new orders start on it."""
        await perdure.deploy(self._store, self._archives[version], actor="anna")
        self._say(f"deployed {version}: new orders start on it")

    async def rollback(self) -> None:
        """Let new orders start on the version before."""
        self._say(f"rolled back: new orders start on {self._named(await self._store.packages.rollback('Order', actor='anna'))}")

    async def order(self, name: str) -> None:
        """Somebody orders, and has not paid yet."""
        await self._engine.deliver(Placed(name, 30), id=f"placed {name}", to=Address.start("Order", key=name, id=name))
        await self._reaches(name, "waiting")
        found = await self._engine.process(name)
        self._say(f"{name} ordered, on {self._named(found.package_hash)}, fields {msgspec.json.encode(found.fields).decode()}")

    async def move(self, name: str, version: str) -> None:
        """Let an open order go on with another version."""
        await self._engine.move(name, self._hashes[version], actor="anna")
        await self._reaches(name, "waiting")
        found = await self._engine.process(name)
        self._say(f"{name} moved to {self._named(found.package_hash)}, fields {msgspec.json.encode(found.fields).decode()}")

    async def pay(self, name: str) -> None:
        """The money comes."""
        await self._engine.deliver(Paid(name), id=f"paid {name}", to=Address.key(name))
        placed: Any = Placed(name, 30)
        try:
            reply = await self._engine.deliver(placed, id=f"placed {name}", to=Address.start("Order", key=name, id=name), wait=True)
            self._say(f"{name} paid: {reply}")
        except Exception as error:  # noqa: BLE001  # whatever the order raised is what is told
            self._say(f"{name} paid: {type(error).__name__}: {error}")

    async def collect(self) -> None:
        """Remove what nobody needs any more."""
        gone = await self._store.packages.collect(keep_last=1, older_than=timedelta(0), actor="anna")
        self._say(f"collected: {', '.join(sorted(self._named(one.content_hash) for one in gone)) or 'nothing'}")

    async def _reaches(self, name: str, status: str) -> None:
        while (await self._engine.process(name)).status != status:  # noqa: ASYNC110  # nothing announces a status
            await asyncio.sleep(0.01)


async def tell(url: str, say: Say) -> None:
    """Tell the story on a new store.

    Args:
        url: of the store.
        say: is called with each line.
    """
    async with perdure.open_store(url) as store, Engine(store, App("node")) as engine:
        shop = Shop(store, engine, say)
        await shop.build("v1")
        await shop.deploy("v1")
        await shop.order("ada")
        await shop.order("bob")

        await shop.build("v2_careless")
        await shop.check("v2_careless")
        await shop.build("v2")
        await shop.check("v2")
        await shop.deploy("v2")
        await shop.order("cyd")
        await shop.move("ada", "v2")
        for name in ("ada", "bob", "cyd"):
            await shop.pay(name)
        await shop.collect()

        await shop.build("v3")
        await shop.check("v3")
        await shop.deploy("v3")
        await shop.order("dorothea-m")
        await shop.pay("dorothea-m")
        await shop.rollback()
        await shop.order("eve")
        await shop.pay("eve")


async def main(arguments: list[str]) -> int:
    """Tell the story; `arguments` is the URL of an empty store, a new file when there is none."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.txt"
        os.environ["SHOP_LEDGER"] = str(ledger)
        try:
            await tell(arguments[0] if arguments else f"sqlite:///{folder}/shop.db", print)
        finally:
            del os.environ["SHOP_LEDGER"]
        print("what was asked of others:")
        print(ledger.read_text(), end="")
    return 0
