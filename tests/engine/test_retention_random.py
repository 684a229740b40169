"""Random histories with sweeps, stops and hours in between, against a model: what is promised is kept, and nothing happens twice."""

from __future__ import annotations

import os
from datetime import timedelta
from random import Random

import pytest

from perdure import Address, Engine, RegistryKey, Retention, Store, TenantId, VirtualClock, open_store
from perdure.engine import inspection
from perdure.errors import MessageExpired, ProcessEnded
from tests.engine.keeping import Add, End, Open, account_app, fits, say
from tests.engine.orders import Ledger

HOUR = 3_600_000_000
ACCOUNTS = 3
MESSAGES_US, TOMBSTONES_US = 6 * HOUR, 12 * HOUR
RETENTION = Retention(
    turns=timedelta(hours=3), messages=timedelta(hours=6), finished_processes=timedelta(hours=4), tombstones=timedelta(hours=12)
)
RUNS = int(os.environ.get("PERDURE_SOAK_SWEEPS", "2000"))


class Said:
    """A message as the model knows it: when it was done, its reply, and when it was first refused as expired."""

    def __init__(self, message: Add, reply: object, at: int) -> None:
        self.message, self.reply, self.at = message, reply, at
        self.refused: int | None = None


class History:
    """One random history. Each addition has an amount of its own, so the ledger tells what was added, and how often."""

    def __init__(self, store: Store, clock: VirtualClock, seed: int) -> None:
        self.store, self.clock, self.random = store, clock, Random(seed)
        self.ledger = Ledger()
        self.said: dict[str, Said] = {}
        self.totals: dict[str, int] = {}
        self.opened = self.made = 0
        self.engine = self._engine()

    def _engine(self) -> Engine:
        return Engine(self.store, account_app(self.ledger), retention=RETENTION if self.random.random() < 0.7 else None)

    async def go(self) -> None:
        """Do some things, then look at what stands at the end."""
        await self.engine.__aenter__()
        for _ in range(self.random.randrange(10, 40)):
            do = self.random.choices([self.add, self.repeat, self.wait, self.sweep, self.restart, self.end], [6, 6, 4, 3, 1, 1])[0]
            await do()
        assert await fits(self.store)
        assert sorted(self.ledger.effects) == sorted(f"add {said.message.amount}" for said in self.said.values())
        for name, total in self.totals.items():
            found = await self.store.processes.lookup(TenantId("default"), RegistryKey(f"account:{name}"))
            assert found is not None, "what lives has its key"
            assert (await inspection.process(self.store, found.process_id)).fields == {"total": total}
        await self.engine.close()

    async def add(self) -> None:
        """Say something new to an account, which is opened if it has to be."""
        name = f"a{self.random.randrange(ACCOUNTS)}"
        if name not in self.totals:
            self.opened += 1
            await say(self.engine, Open(name), f"open-{self.opened}")
            self.totals[name] = 0
        self.made += 1
        message = Add(name, self.made)
        reply = await say(self.engine, message, f"m{self.made}")
        self.totals[name] += self.made
        assert reply == self.totals[name], "what is live is never lost"
        self.said[f"m{self.made}"] = Said(message, reply, self.clock.now())

    async def repeat(self) -> None:
        """Say something again: the same reply, or a refusal; never a second effect within the promise."""
        now = self.clock.now()
        known = [id for id, said in self.said.items() if now < said.at + MESSAGES_US + TOMBSTONES_US]
        if not known:
            return
        id = self.random.choice(known)
        said = self.said[id]
        try:
            assert await say(self.engine, said.message, id) == said.reply
            assert said.refused is None, "what is refused once is refused until it is forgotten"
        except MessageExpired:
            assert now >= said.at + MESSAGES_US, "a reply is kept for as long as is promised"
            said.refused = now

    async def wait(self) -> None:
        self.clock.advance(self.random.randrange(1, 4 * HOUR))

    async def sweep(self) -> None:
        await self.engine.sweep()

    async def restart(self) -> None:
        await self.engine.close()
        self.engine = self._engine()
        await self.engine.__aenter__()

    async def end(self) -> None:
        """End an account; its key is free again."""
        if self.totals:
            name = self.random.choice(sorted(self.totals))
            self.made += 1
            assert await say(self.engine, End(name), f"end-{self.made}") == f"{name}: {self.totals.pop(name)}"
            with pytest.raises(ProcessEnded):
                await self._to_the_ended(f"end-{self.made}")

    async def _to_the_ended(self, id: str) -> None:
        process_id = (await self.engine.explain(id)).process_id
        assert process_id is not None
        await self.engine.deliver(Add("x", 1), id=f"{id}-late", to=Address.process(process_id))


async def histories(seeds: range) -> None:
    for seed in seeds:
        clock = VirtualClock()
        try:
            async with open_store("sqlite:///:memory:", clock=clock) as store:
                await History(store, clock, seed).go()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def test_no_duplicate_is_accepted_within_the_promise_and_nothing_live_is_lost() -> None:
    await histories(range(60))


@pytest.mark.soak
async def test_many_random_histories_with_sweeps() -> None:
    await histories(range(1_000_000, 1_000_000 + RUNS))
