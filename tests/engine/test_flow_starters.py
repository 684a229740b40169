"""Flow control under eight who start jobs at the same time, in random orders, with duplicates and crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest

from perdure import App, Engine, Flow, Process, Rate, Store, VirtualClock, open_store, testing
from perdure.clock import SECOND
from perdure.flows.tables import PLACE
from tests.engine.conftest import Running
from tests.engine.orders import crash, eventually

STARTERS = 8
JOBS = 6
CUSTOMERS = ("ann", "bob", "cat")


class Go(msgspec.Struct, tag="go"):
    """Ends a job."""


class Shop:
    """Jobs of a few customers: when each began, and how many ran at the same time.

    Args:
        seed: of all that is random.
        full: no job ends before so many have run at the same time.
        **flow: the limits.
    """

    def __init__(self, seed: int, *, full: int = 1, **flow: Any) -> None:
        self.random = Random(seed)
        self.full = full
        self.was_full = asyncio.Event()
        self.begun: list[tuple[datetime, str]] = []
        self.calls: list[asyncio.Future[str]] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.app = App("shop")

        @self.app.process(flow=Flow(key=lambda _name, customer, _urgency: customer, **flow))
        async def job(p: Process, name: str, customer: str, urgency: int) -> str:
            return await p.step(self.work, name, customer, p.now())

        self.job = job

    async def work(self, name: str, customer: str, at: datetime) -> str:
        self.begun.append((at, name))
        for of in ("all", customer):
            self.running[of] += 1
            self.most[of] = max(self.most[of], self.running[of])
        if self.running["all"] == self.full:
            self.was_full.set()
        await self.was_full.wait()
        for _ in range(self.random.randrange(12)):
            await asyncio.sleep(0)
        for of in ("all", customer):
            self.running[of] -= 1
        return name

    def starter(self, engine: Engine, number: int) -> Awaitable[list[str]]:
        """Start jobs one by one, without waiting for any; each is also started, under the same id, by the next starter."""
        order = Random(f"{self.random.random()} {number}")
        names = [f"{owner % STARTERS}.{n}" for owner in (number, number + 1) for n in range(JOBS)]
        order.shuffle(names)

        async def begin() -> list[str]:
            calls = []
            for name in names:
                for _ in range(order.randrange(5)):
                    await asyncio.sleep(0)
                calls.append(asyncio.ensure_future(engine.call(self.job, name, customer_of(name), 0, id=name)))
                self.calls.append(calls[-1])
            return await asyncio.gather(*calls)

        return begin()

    async def start(self, engine: Engine) -> None:
        """Let all starters go, and check that each job had its one answer."""
        for replies in await asyncio.gather(*(self.starter(engine, number) for number in range(STARTERS))):
            assert len(set(replies)) == 2 * JOBS


def customer_of(name: str) -> str:
    return CUSTOMERS[int(name[0]) % len(CUSTOMERS)]


def all_names() -> list[str]:
    return sorted(f"{owner}.{n}" for owner in range(STARTERS) for n in range(JOBS))


async def nobody(store: Store) -> bool:
    return await store.access.reader.count(PLACE) == 0


@pytest.mark.parametrize("seed", range(6))
async def test_eight_starters_never_run_more_than_allowed_nor_less_than_they_could(running: Running, seed: int) -> None:
    shop = Shop(seed, full=4, concurrency=4, key_concurrency=2)
    async with running(shop.app) as engine:
        await shop.start(engine)

        assert sorted(name for _, name in shop.begun) == all_names(), "each job runs once, however often it is started"
        assert shop.most["all"] == 4
        assert all(shop.most[customer] <= 2 for customer in CUSTOMERS)
        assert await nobody(engine.store)


@pytest.mark.parametrize("seed", range(12))
async def test_a_crash_under_eight_starters_exceeds_no_limit_and_loses_nobody(store: Store, seed: int) -> None:
    shop = Shop(seed, full=4, concurrency=4, key_concurrency=2)
    engine = Engine(store, shop.app)
    await engine.__aenter__()
    until = store.access.writer.commits + 1 + Random(seed).randrange(40)
    starters = [asyncio.ensure_future(shop.starter(engine, number)) for number in range(STARTERS)]

    async def there() -> bool:
        return store.access.writer.commits >= until or all(starter.done() for starter in starters)

    await eventually(there)
    for starter in starters:
        starter.cancel()
    await asyncio.gather(*starters, return_exceptions=True)
    for call in shop.calls:
        call.cancel()
    await asyncio.gather(*shop.calls, return_exceptions=True)
    await crash(engine)
    shop.running.clear()
    async with Engine(store, shop.app) as engine:
        await shop.start(engine)
        assert await nobody(store)

    assert {name for _, name in shop.begun} == set(all_names())
    assert shop.most["all"] == 4
    assert all(shop.most[customer] <= 2 for customer in CUSTOMERS)


async def test_eight_starters_together_keep_a_rate_and_a_rate_per_key(clock: VirtualClock) -> None:
    shop = Shop(1, rate=Rate(2, timedelta(seconds=1)), key_rate=Rate(1, timedelta(seconds=1)))
    async with open_store("sqlite:///:memory:", clock=clock) as store, Engine(store, shop.app) as engine:
        started = asyncio.ensure_future(shop.start(engine))
        for _ in range(40 * len(all_names())):
            if started.done():
                break
            for _ in range(60):
                await asyncio.sleep(0)
            clock.advance(SECOND // 4)
        await started

    times = sorted(at for at, _ in shop.begun)
    assert len(times) == len(all_names())
    assert min(later - at for at, later in pairwise(times)) >= timedelta(seconds=0.5)
    for customer in CUSTOMERS:
        own = sorted(at for at, name in shop.begun if customer_of(name) == customer)
        assert min(later - at for at, later in pairwise(own)) >= timedelta(seconds=1)
    assert times[-1] - times[0] < timedelta(seconds=2) * len(times), "the rate is used, not only kept"


async def test_what_eight_starters_queue_begins_by_priority_and_then_in_order(running: Running) -> None:
    shop = Shop(2, concurrency=1, priority=lambda _name, _customer, urgency: urgency)
    gate = asyncio.Event()

    async def work(name: str, customer: str, at: datetime) -> str:
        if name == "first":
            await gate.wait()
        return await Shop.work(shop, name, customer, at)

    shop.work = work  # type: ignore[method-assign]  # the first one holds the only place
    async with running(shop.app) as engine:
        calls = [asyncio.ensure_future(engine.call(shop.job, "first", "ann", 0, id="first"))]
        accepted: list[tuple[int, int, str]] = []

        async def starter(number: int) -> None:
            order = Random(number)
            for n in range(JOBS):
                name, urgency = f"{number}.{n}", order.randrange(3)
                calls.append(asyncio.ensure_future(engine.call(shop.job, name, "ann", urgency, id=name)))
                accepted.append((urgency, len(accepted), name))
                await asyncio.sleep(0)

        await asyncio.gather(*(starter(number) for number in range(STARTERS)))
        await eventually(lambda: _queued(engine.store, STARTERS * JOBS + 1))
        gate.set()
        await asyncio.gather(*calls)

        assert [name for _, name in shop.begun] == ["first", *(name for _, _, name in sorted(accepted))]


async def _queued(store: Store, count: int) -> bool:
    return await store.access.reader.count(PLACE) == count


async def test_who_can_follow_only_when_another_has_begun_waits_for_no_time() -> None:
    app = App("held")

    @app.process(flow=Flow(concurrency=1, key=lambda customer: customer, key_rate=Rate(1, timedelta(seconds=1))))
    async def job(p: Process, customer: str) -> None:
        await p.receive(Go)

    async with testing.engine(app) as engine:
        calls = [asyncio.ensure_future(engine.call(job, "bob", id=f"b{n}")) for n in range(3)]
        await engine.settled()
        await engine.advance(2)

        assert engine.clock.next_alarm() is None
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
