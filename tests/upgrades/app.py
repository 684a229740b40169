"""What nodes of different releases do together: accounts that are added to, with a step each, and a reply that counts."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec

from perdure import App, Engine, Process, on
from perdure.store import Store

ACCOUNTS = 7


class Add(msgspec.Struct, tag="add"):
    account: str


def make_app(effects: Counter[str]) -> App:
    app = App("accounts")

    async def note(what: str) -> int:
        effects[what] += 1
        return 1

    @app.process
    class Account(Process):
        total: int = 0

        @on(Add, start=True, key=lambda message: f"account:{message.account}")
        async def add(self, message: Add) -> int:
            self.total += await self.step(note, f"{message.account} {self.total}")
            return self.total

    return app


class Load:
    """Who adds, through an engine or beside one, and what was acknowledged."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()
        self.entries = 0

    async def run(self, engine: Engine, name: str, count: int = 40) -> None:
        """Add to all accounts, many at once, and wait for every reply."""
        accounts = [f"{number % ACCOUNTS}" for number in range(count)]
        replies = await asyncio.gather(
            *(engine.deliver(Add(account), id=f"{name} {number}", wait=True) for number, account in enumerate(accounts))
        )
        self.replies.update(f"{account} {reply}" for account, reply in zip(accounts, replies, strict=True))

    async def beside(self, store: Store, name: str, count: int = 20) -> None:
        """Use a contract of a store without an engine."""
        for number in range(count):
            await store.streams.append(name, b"x", number)
        self.entries += len(await store.streams.read_from(name, 0))

    def check(self, messages: int) -> None:
        """Each message has added one, once, and its step ran once."""
        assert self.replies.total() == messages
        assert set(self.replies.values()) == {1}, "two messages got the same reply"
        assert set(self.effects.values()) == {1}
        assert self.effects.total() == messages
