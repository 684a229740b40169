"""A conversation of thousands of messages: what one more message costs, and what a restart costs, does not grow with it."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from typing import NamedTuple

import pytest

from examples.chat_agent.chat import SHOWN, Chat, Decision, Say, app
from examples.world import in_world
from perdure import Engine, Store, VirtualClock, open_store
from perdure.backends import cache
from perdure.testing import EffectLedger
from tests.contracts.conversations import CountingReader
from tests.engine.orders import reaches

MESSAGES = 3_000
CLIENTS = 16
KEPT_MAX = 500_000  # bytes: half a kilobyte for each of a thousand messages; what stays is a fifth of it, and of another kind
KEY = "chat:ann"


class Cost(NamedTuple):
    """Rows read, by table, and the bytes that the process remembers."""

    message: Counter[str]
    recovery: Counter[str]
    fields: int


def text_of(number: int) -> str:
    return {0: "weather in Oslo", 5: "mail bob"}.get(number % 10, f"this is message {number}")


async def talk(engine: Engine, numbers: range) -> None:
    """Have so many messages answered; several are always waiting."""
    left = iter(numbers)

    async def client() -> None:
        for number in left:
            await engine.call(Chat.say, Say("ann", text_of(number)), id=f"m{number}")

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def cost_of(store: Store, number: int) -> Cost:
    """Return what one more message costs, and a restart while another one waits for a person."""
    reader = CountingReader(store.access.reader)
    access, store.access = store.access, store.access._replace(reader=reader)  # type: ignore[misc]  # only here, to count
    async with Engine(store, app) as engine:
        reader.rows.clear()
        await engine.call(Chat.say, Say("ann", "nothing special"), id=f"m{number}")
        message = Counter(reader.rows)
        await engine.deliver(Say("ann", "pay 5 to bob"), id="open")
        [process] = await engine.processes(type=Chat)
        await reaches(engine, process.process_id, "waiting")
        request = (await engine.query(Chat.state, key=KEY)).waits_for
        assert request is not None
    reader.rows.clear()
    async with Engine(store, app) as engine:
        await engine.complete_awakeable(request.token, Decision(approved=True, by="eve"))
        assert await engine.call(Chat.say, Say("ann", "pay 5 to bob"), id="open") == "bob has 5 more"
        recovery = Counter(reader.rows)
        fields = len(str((await engine.process(process.process_id)).fields))
    store.access = access  # type: ignore[misc]  # see above
    return Cost(message, recovery, fields)


async def test_neither_memory_nor_recovery_grow_with_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_HALF_ROWS", 100)  # it has a bound of its own, far beyond this test
    ledger = EffectLedger()
    with in_world(ledger):
        async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
            async with Engine(store, app) as engine:
                await talk(engine, range(30))
            short = await cost_of(store, 30)
        async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
            async with Engine(store, app) as engine:
                await talk(engine, range(MESSAGES - 1_000))
                tracemalloc.start()
                await talk(engine, range(MESSAGES - 1_000, MESSAGES))
                ledger.clear()
                gc.collect()
                kept, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                state = await engine.query(Chat.state, key=KEY)
            long = await cost_of(store, MESSAGES)

    assert (state.answered, state.lines) == (MESSAGES, 2 * MESSAGES + MESSAGES // 5)
    assert state.tools == {"weather": MESSAGES // 10, "mail": MESSAGES // 10}
    assert kept < KEPT_MAX, "a thousand messages more leave that much in memory"
    assert long.message == short.message
    assert long.message["process_log"] == SHOWN
    assert long.recovery == short.recovery
    assert long.recovery.total() < 40
    assert long.fields < 200
