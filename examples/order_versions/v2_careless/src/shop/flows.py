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


@app.process
class Order(perdure.Process):
    """One order."""

    cents: int = 0

    @perdure.on(Placed, start=True, key=lambda placed: placed.order)
    async def place(self, placed: Placed) -> str:
        """Send the bill, reserve, wait for the money, ship."""
        self.cents = 100 * placed.euros
        await self.step(invoice, placed.order, self.cents)
        await self.step(reserve, placed.order)
        await self.receive(Paid)
        await self.step(ship, placed.order)
        return self.finish(f"{placed.order}: {self.cents} cents, shipped")
