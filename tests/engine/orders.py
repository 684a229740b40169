"""A small app for tests of the engine: orders, with every verb, and a ledger of the effects that happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec

from perdure import Address, App, Engine, Process, Retry, on, step_info
from perdure.engine import inspection


class Ledger:
    """What steps have done, in order; with the number of the attempt."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.keys: list[str] = []
        self.fail: dict[str, int] = {}

    async def note(self, what: str) -> str:
        self.effects.append(what)
        self.keys.append(step_info().idempotency_key)
        if self.fail.get(what, 0) > 0:
            self.fail[what] -= 1
            raise ConnectionError(f"{what} is down")
        return what.upper()


class Place(msgspec.Struct, tag="place"):
    order_id: str
    total: int = 0


class Approve(msgspec.Struct, tag="approve"):
    order_id: str
    by: str = "somebody"


class Comment(msgspec.Struct, tag="comment"):
    order_id: str
    text: str


class Close(msgspec.Struct, tag="close"):
    order_id: str


class Broadcast(msgspec.Struct, tag="broadcast"):
    tag: str
    text: str


class Boom(msgspec.Struct, tag="boom"):
    order_id: str
    how: str


class Receipt(msgspec.Struct):
    order_id: str
    status: str


class OrderFailed(Exception):
    def __init__(self, order_id: str, code: int) -> None:
        super().__init__(order_id, code)
        self.order_id = order_id
        self.code = code


def key(message: Place | Approve | Comment | Close | Boom) -> str:
    return f"order:{message.order_id}"


def make_app(ledger: Ledger) -> App:
    app = App("orders")

    @app.process
    class Order(Process):
        status: str = "new"
        comments: list[str] = []

        @on(Place, start=True, key=key)
        async def place(self, message: Place) -> Receipt:
            self.status = "placed"
            await self.step(ledger.note, f"charge {message.order_id}", name="charge", retry=Retry(max_attempts=3, initial=1.0, jitter=0.0))
            self.status = "charged"
            if message.total > 100:
                answer = await self.receive(Approve, timeout=timedelta(days=3))
                self.status = "approved" if answer else "expired"
                await self.step(ledger.note, f"settle {message.order_id}", name="settle")
            return Receipt(message.order_id, self.status)

        @on(Comment, key=key)
        async def comment(self, message: Comment) -> int:
            self.comments.append(message.text)
            self.tag(f"comment:{message.text}")
            return len(self.comments)

        @on(Broadcast, tag=lambda message: message.tag)
        async def hear(self, message: Broadcast) -> None:
            self.comments.append(message.text)
            await self.step(ledger.note, f"{self.id} hears {message.text}", name="hear")

        @on(Close, key=key)
        async def close(self, message: Close) -> str:
            await self.step(ledger.note, f"close {message.order_id}", name="close")
            return self.finish("closed")

        @on(Boom, key=key)
        async def boom(self, message: Boom) -> None:
            self.status = "broken"
            await self.step(ledger.note, f"boom {message.order_id}", name="boom")
            raise OrderFailed(message.order_id, 7)

    @app.process
    async def hello(p: Process, name: str) -> str:
        return f"Hello, {await p.step(ledger.note, name)}!"

    @app.process
    async def relay(p: Process, order_id: str, count: int) -> int:
        for number in range(count):
            p.send(Comment(order_id, f"c{number}"), to=Address.key(f"order:{order_id}"))
        await p.step(ledger.note, "relayed")
        return count

    app.extras = {"Order": Order, "hello": hello, "relay": relay}  # type: ignore[attr-defined]  # handed to the tests
    return app


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Let the loop run until the condition holds; nothing here waits for time to pass."""
    for _ in range(200_000):
        if await condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def holds(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""

    async def true() -> bool:
        return bool(condition())

    await eventually(true)


async def reaches(engine: Engine, process_id: str, status: str) -> None:
    """Wait until a process is stored with a status."""

    async def stored() -> bool:
        found = await inspection.processes(engine.store)
        return any(one.process_id == process_id and one.status == status for one in found)

    await eventually(stored)


async def only_process(engine: Engine, process_type: str = "Order") -> inspection.ProcessInfo:
    """Return the one process of a type."""
    [one] = [one for one in await inspection.processes(engine.store) if one.process_type == process_type]
    return await inspection.process(engine.store, one.process_id)


async def crash(engine: Engine) -> None:
    """Drop everything in memory, as kill -9 does; the store stays open."""
    engine._owner._open = False
    engine._owner.wheel.stop()
    for resident in engine._owner.residents.values():
        resident.leave()
    engine._owner.residents.clear()
    for task in list(engine._owner._tasks):
        task.cancel()
    await asyncio.gather(*engine._owner._tasks, return_exceptions=True)
    await engine.store.ownership.stop()
