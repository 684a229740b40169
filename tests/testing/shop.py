"""An order with an approval, a money transfer that is undone, and a relay that starts others: what the tests of testing run."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

from perdure import Address, App, Process, Retry, on, step_info
from perdure.testing import EffectLedger, VirtualEngine


class Place(msgspec.Struct, tag="place"):
    order_id: str


class Approve(msgspec.Struct, tag="approve"):
    order_id: str


class Note(msgspec.Struct, tag="note"):
    text: str


class Refused(Exception):
    pass


def order_key(message: Place | Approve) -> str:
    return f"order:{message.order_id}"


class Shop:
    """The app, with the ledger that its steps write to."""

    def __init__(self) -> None:
        self.ledger = ledger = EffectLedger()
        self.app = app = App("shop")

        async def charge(order_id: str) -> str:
            ledger.note(f"charge {order_id}")
            if step_info().attempt == 1:
                raise ConnectionError(order_id)
            return f"charge of {order_id}"

        def ship(order_id: str) -> str:
            ledger.note(f"ship {order_id}")
            return f"parcel {order_id}"

        async def move(account: str, amount: int) -> int:
            ledger.note(f"{account} {amount:+}")
            if account == "closed":
                raise Refused(account)
            return amount

        @app.process
        class Order(Process):
            status: str = "new"
            notes: list[str] = []

            @on(Place, start=True, key=order_key)
            async def place(self, message: Place) -> str:
                self.status = await self.step(charge, message.order_id, retry=Retry(max_attempts=3, jitter=0.0))
                self.tag("orders")
                answer = await self.receive(Approve, timeout=timedelta(days=3))
                if answer is None:
                    self.status = "expired"
                else:
                    self.status = await self.step(ship, message.order_id)
                return self.status

            @on(Note, tag=lambda message: "orders")
            async def note(self, message: Note) -> int:
                self.notes.append(message.text)
                return len(self.notes)

        @app.process
        async def transfer(p: Process, source: str, target: str, amount: int) -> str:
            await p.step(move, source, -amount)
            try:
                await p.step(move, target, amount)
            except Refused:
                await p.step(move, source, amount, name="undo")
                return "undone"
            return "moved"

        @app.process
        async def relay(p: Process, count: int) -> int:
            moved = await asyncio.gather(*(p.step(move, f"a{number}", number, name=f"move {number}") for number in range(count)))
            for number in range(count):
                p.spawn(transfer, "a", "closed" if number else "b", number)
            await p.sleep(60)
            p.send(Note("relayed"), to=Address.tag("orders"))
            return sum(moved)

        self.order, self.transfer, self.relay = Order, transfer, relay

    async def ordering(self, engine: VirtualEngine) -> object:
        """One order is approved, one is not."""
        await engine.deliver(Approve("1"), id="a1", to=Address.key("order:1"))
        first = await engine.call(self.order.place, Place("1"), id="p1")
        await engine.deliver(Note("soon"), id="n1", to=Address.tag("orders"))
        second = await engine.call(self.order.place, Place("2"), id="p2")
        return first, second, await engine.call(self.order.place, Place("1"), id="p1")

    async def transferring(self, engine: VirtualEngine) -> object:
        """Two transfers at once, one of which is undone."""
        calls = [engine.call(self.transfer, "a", target, 5, id=f"to {target}") for target in ("b", "closed")]
        return await asyncio.gather(*calls)

    async def relaying(self, engine: VirtualEngine) -> object:
        """Side by side, children, and a message to who is there."""
        await engine.deliver(Place("1"), id="p1")
        return await engine.call(self.relay, 3, id="r")
