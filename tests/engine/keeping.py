"""What tests of retention share: an app with an account that gets many messages, and ways to look behind the doors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from perdure import App, Engine, Process, Retention, Store, on
from perdure.conversations.tables import EVENTS, PROCESS
from perdure.core.table import Index, Scan
from perdure.engine import verification
from perdure.messages.tables import MESSAGE, MessageRow
from tests.engine.orders import Ledger

DAY = 86_400_000_000
WEEK = Retention(turns=timedelta(days=1), messages=timedelta(days=2), finished_processes=timedelta(days=3), tombstones=timedelta(days=10))
ALL_ROWS = 100_000


class Open(msgspec.Struct, tag="open"):
    name: str


class Add(msgspec.Struct, tag="add"):
    name: str
    amount: int


class Confirm(msgspec.Struct, tag="confirm"):
    name: str


class End(msgspec.Struct, tag="end"):
    name: str


def _key(message: Open | Add | Confirm | End) -> str:
    return f"account:{message.name}"


def account_app(ledger: Ledger) -> App:
    app = App("accounts")

    @app.process
    class Account(Process):
        total: int = 0

        @on(Open, start=True, key=_key)
        async def open(self, message: Open) -> str:
            return message.name

        @on(Add, key=_key)
        async def add(self, message: Add) -> int:
            await self.step(ledger.note, f"add {message.amount}", name="add")
            if message.amount > 1_000:
                await self.receive(Confirm)
            self.total += message.amount
            return self.total

        @on(End, key=_key)
        async def end(self, message: End) -> str:
            return self.finish(f"{message.name}: {self.total}")

    @app.process
    async def greet(p: Process, name: str) -> str:
        return f"Hello, {await p.step(ledger.note, name)}!"

    app.extras = {"greet": greet, "Account": Account}  # type: ignore[attr-defined]  # handed to the tests
    return app


async def say(engine: Engine, message: object, id: str) -> object:
    """Deliver a message and return its reply."""
    return await engine.deliver(message, id=id, wait=True)


async def fill(engine: Engine, name: str, count: int) -> None:
    """Open an account and add 1 to it `count` times, with ids `name-0`, …."""
    await say(engine, Open(name), f"open-{name}")
    for number in range(count):
        await say(engine, Add(name, 1), f"{name}-{number}")


async def account_id(engine: Engine, name: str) -> str:
    """Return the id of the process that holds an account's key."""
    found = await engine.explain(f"open-{name}")
    assert found.process_id is not None
    return found.process_id


async def rows(store: Store, index: Index[Any], *prefix: str | int) -> int:
    """Count the rows of an index under a prefix."""
    return len(await store.access.reader.scan(Scan(index, prefix, ALL_ROWS)))


async def events_of(store: Store, process_id: str) -> list[int]:
    """Return the sequences of a process's events as the store has them."""
    process = await store.access.reader.get(PROCESS.key("default", process_id))
    assert process is not None
    found = await store.access.reader.scan(Scan(EVENTS, ("default", process.stream_no), ALL_ROWS))
    return [int(key.parts[2] or 0) for key, _ in found]


async def message_row(store: Store, message_id: str) -> MessageRow | None:
    """Return a message's row."""
    return await store.access.reader.get(MESSAGE.key("default", "", message_id))


async def fits(store: Store) -> bool:
    """Whether the store agrees with itself."""
    return await verification.verify(store) == []
