"""An app that is served, and clients of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec

import perdure
from perdure import App, Engine, Store, VirtualClock, open_store
from perdure.server.serving import serving
from tests.worker.hub import Hub


class Place(msgspec.Struct):
    order: str
    amount: int = 1


class Total(msgspec.Struct):
    total: int


class Paid(msgspec.Struct, tag="paid"):
    amount: int


def shop() -> App:
    app = perdure.App("shop")

    @app.process
    class Order(perdure.Process):
        total: int = 0

        @perdure.on(Place, start=True, key=lambda message: message.order)
        async def place(self, message: Place) -> Total:
            if message.amount < 0:
                raise LookupError("no such amount")
            self.total += message.amount
            return Total(self.total)

        @perdure.on(Paid)
        async def paid(self, message: Paid) -> Total:
            await self.sleep(message.amount)
            return Total(self.total)

    return app


@asynccontextmanager
async def shop_on(clock: VirtualClock, *, dev: bool = True) -> AsyncIterator[Hub]:
    async with (
        open_store("sqlite:///:memory:", clock=clock) as store,
        Engine(store, shop()) as engine,
        serving(engine, dev=dev) as server,
    ):
        yield Hub(store, clock, server.url)


@contextmanager
def shop_elsewhere() -> Iterator[str]:
    """Serve on another thread, by the machine's clock: for clients that block. Give the URL."""
    ready, stop, urls = threading.Event(), asyncio.Event(), list[str]()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with open_store("sqlite:///:memory:") as store, Engine(store, shop()) as engine, serving(engine, dev=True) as server:
            work = asyncio.create_task(_work(store))
            urls.append(server.url)
            ready.set()
            await stop.wait()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _work(store: Store) -> None:
    """Do the commands of deployment `acme`: the result is the params."""
    from perdure.commands.contract import Succeeded

    while True:
        for lease in await store.commands.lease("acme", wait=30_000_000):
            assert isinstance(lease.params, bytes)
            await store.commands.complete(lease.command_id, lease.token, Succeeded(result=lease.params))
