"""The app that is served in these tests."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

import perdure
from perdure import WebhookEvent


class Place(msgspec.Struct):
    order: str
    amount: int


class Pay(msgspec.Struct):
    order: str


class Fail(msgspec.Struct):
    order: str


class Note(msgspec.Struct):
    order: str
    text: str = ""


class Odd(msgspec.Struct):
    value: int


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def paid(event: WebhookEvent) -> Place | None:
    """Return what an event of Stripe is here."""
    if event.kind != "charge.succeeded":
        return None
    charge = event.data["data"]["object"]
    return Place(charge["metadata"]["order"], charge["amount"])


def placed(event: WebhookEvent) -> Place:
    """Return what an event of the shop's own is here."""
    return Place(**event.data["data"])


class Shop:
    """An app, and what its handlers did."""

    def __init__(self) -> None:
        self.app = perdure.App("shop")
        self.placed: list[str] = []
        self.secrets = [SECRET]
        self.gate = asyncio.Event()
        shop = self

        @self.app.process
        class Order(perdure.Process):
            total: int = 0

            @perdure.on(Place, key=lambda message: f"order/{message.order}", start=True)
            async def place(self, message: Place) -> dict[str, int]:
                shop.placed.append(message.order)
                self.total += message.amount
                return {"total": self.total}

            @perdure.on(Pay, key=lambda message: f"order/{message.order}")
            async def pay(self, message: Pay) -> str:
                await self.step(shop.gate.wait, name="gate")
                return f"paid {message.order}"

            @perdure.on(Fail, key=lambda message: f"order/{message.order}")
            async def fail(self, message: Fail) -> None:
                raise ValueError(f"no {message.order}")

            @perdure.on(Note, tag=lambda message: f"notes/{message.order}")
            async def note(self, message: Note) -> None: ...

            @perdure.query
            def summary(self, factor: int = 1) -> int:
                return self.total * factor

            @perdure.query
            def broken(self) -> int:
                raise ValueError(f"secret {self.total}")

        self.app.webhook("stripe", scheme="stripe", secret=lambda: self.secrets, message=paid)
        self.app.webhook("standard", scheme="standard", secret=lambda: self.secrets, message=placed)
        self.app.webhook("github", scheme="github", secret=lambda: self.secrets, kind="Place")
        self.app.webhook(
            "later",
            scheme="standard",
            secret=SECRET,
            kind="Note",
            to=perdure.Address.key("nobody"),
            lasting=lambda event: timedelta(hours=1) if event.data["order"] == "7" else None,
        )
        self.app.webhook("unset", scheme="github", secret_env="NO_SUCH_SECRET_IS_SET", kind="Place")

        @self.app.process
        async def greet(p: perdure.Process, name: str, mark: str = "!") -> str:
            return f"Hello, {name}{mark}"

        @self.app.process
        async def waits(p: perdure.Process) -> str:
            note = await p.receive(Odd)
            return f"got {note.value}"
