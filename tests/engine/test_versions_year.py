"""A process that sleeps for a year, while 20 versions come and most of them go."""

from __future__ import annotations

from datetime import timedelta

from perdure import App, Engine, Store, VirtualClock
from perdure.clock import SECOND, datetime_of
from tests.engine.orders import reaches
from tests.engine.shop import reply, run, send, version
from tests.packages.built import deploy

NODE = App("node")
DEPLOYS = 20
DAY = 86_400 * SECOND
YEAR = 365 * DAY


async def test_a_process_wakes_after_a_year_on_the_version_that_it_fell_asleep_on(store: Store, clock: VirtualClock) -> None:
    first, *later = [version(number) for number in range(1, DEPLOYS + 2)]
    await deploy(store, first, at=datetime_of(clock.now()))
    wakes = clock.now() + YEAR
    async with Engine(store, NODE) as engine:
        await send(engine, "sleeper", YEAR / SECOND, id="s")
        await reaches(engine, "s", "waiting")
    collected: list[str] = []
    for number, package in enumerate(later, 2):
        clock.advance(YEAR // (DEPLOYS + 1))
        async with Engine(store, NODE) as engine:
            await deploy(store, package, at=datetime_of(clock.now()))
            assert await run(engine, "hello", "a", id=f"{number}") == f"hello a from {number}"
            collected += [one.content_hash for one in await store.packages.collect(keep_last=2, older_than=timedelta(days=30))]
            assert first.identity not in engine.versions.loaded
    assert collected == [package.identity for package in later[: len(collected)]]
    assert len(collected) > DEPLOYS // 2

    async with Engine(store, NODE) as engine:
        clock.advance(wakes - clock.now() - SECOND)
        assert not engine.versions.loaded
        clock.advance(SECOND)
        assert await reply(engine, "s") == "awake on version 1"
        assert engine.versions.loaded == (first.identity,)
        assert (await engine.process("s")).package_hash == first.identity
        assert first.identity in {one.content_hash for one in await store.packages.collect(keep_last=2, older_than=timedelta(0))}
