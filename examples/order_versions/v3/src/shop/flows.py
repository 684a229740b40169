"""An order, from the day it is placed to the day it is shipped."""

from __future__ import annotations

import msgspec

import perdure
from shop.services import invoice, reserve, ship

app = perdure.App("shop")


class Placed(msgspec.Struct):
    """Somebody has ordered something."""

    order: str
    euros: int


class Paid(msgspec.Struct):
    """The money is there, days later perhaps."""

    order: str


class OrderInEuros(msgspec.Struct):
    """The durable fields of an order as version 1 has them."""

    euros: int = 0


@app.process
class Order(perdure.Process):
    """One order."""

    cents: int = 0

    @perdure.on(Placed, start=True, key=lambda placed: placed.order)
    async def place(self, placed: Placed) -> str:
        """Reserve, wait for the money, send the bill, ship."""
        self.cents = 100 * placed.euros
        await self.step(reserve, placed.order)
        await self.receive(Paid)
        discount = self.cents // (10 - len(placed.order))  # nobody has tried it with a long name
        await self.step(invoice, placed.order, self.cents - discount)
        await self.step(ship, placed.order)
        return self.finish(f"{placed.order}: {self.cents} cents, shipped")


@app.upcast(OrderInEuros, Order)
def _in_cents(old: dict[str, int]) -> dict[str, int]:
    return {"cents": 100 * old["euros"]}
