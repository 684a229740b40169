"""What an engine keeps of versions, and how it comes through when one cannot be loaded now: by its store, or not before something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from perdure import Address, App, Engine, Store, VirtualClock, limits
from perdure.engine.leaving import Strand
from perdure.engine.versions import Versions
from perdure.errors import PackageMissing, StoreBusy
from perdure.packages.signing import TrustPolicy, public_key, sign
from tests.engine.orders import eventually, holds, reaches
from tests.engine.shop import ONE, TWO, Paid, Placed, lose, pay, place, reply, run, send
from tests.packages.built import deploy

NODE = App("node")
SEED = bytes(range(32))
TRUST = TrustPolicy([public_key(SEED)])

MANY = 20


def failing(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Let calls fail so many times because the store is busy, and then go through."""
    left = iter(range(times))

    async def called(*args: Any, **more: Any) -> Any:
        if next(left, None) is not None:
            raise StoreBusy("somebody replaces it")
        return await real(*args, **more)

    return called


def raised(error: BaseException) -> int:
    """Return how many frames the traceback of an error has."""
    frames, found = 0, error.__traceback__
    while found is not None:
        frames, found = frames + 1, found.tb_next
    return frames


async def in_time(clock: VirtualClock, work: Awaitable[Any]) -> Any:
    """Return what comes when so much time passes as is needed."""
    task = asyncio.ensure_future(work)

    def over() -> bool:
        clock.advance(limits.STALL_US)
        return task.done()

    await holds(over)
    return await task


async def all_are(engine: Engine, status: str, count: int) -> None:
    async def so() -> bool:
        return len(await engine.processes(status=status)) == count

    await eventually(so)


async def test_a_version_is_used_by_nobody_when_its_processes_have_left_memory(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        pins = engine.versions._catalog.pins
        for number in range(3):
            await run(engine, "hello", "a", id=f"{number}")
        await engine.deliver(Paid("c"), id="c", to=Address.start("Counter", key="c", id="c"))
        await reply(engine, "c")
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        await holds(lambda: list(engine._owner.residents) == [("default", "o")])
        assert pins(ONE.identity) == 1
        await pay(engine, "o")
        await reply(engine, "placed o")
        await holds(lambda: not engine._owner.residents)
        assert pins(ONE.identity) == 0


async def test_a_failure_that_is_kept_keeps_no_frames_and_does_not_grow(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TRUST) as engine:
        for number in range(MANY):
            await send(engine, "hello", "a", id=f"{number}")
        await all_are(engine, "stranded", MANY)
        kept = [*engine.versions.failed.values(), *engine._owner.why_stuck.values()]
        assert len(kept) == 1 + MANY
        assert max(map(raised, kept)) == 0
        assert {str(one) for one in kept} == {str(engine.versions.failed[ONE.identity])}


async def test_who_asks_again_for_a_process_that_goes_on_is_not_told_that_it_was_stranded(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TRUST) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "stranded")
        await deploy(store, replace(ONE, signatures=(sign(ONE.identity, SEED),)))
        await reaches(engine, "o", "waiting")
        asked = asyncio.ensure_future(engine.deliver(Placed("o"), id="placed o", to=Address.start("Order", key="o", id="o"), wait=True))
        await pay(engine, "o")
        assert await asked == "paid o on version 1"


async def test_what_starts_while_others_are_found_unloadable_is_stranded_like_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TRUST) as engine:
        recover = engine._owner.recovery.recover
        more = iter(range(MANY, 2 * MANY))

        async def recovering(*args: Any, **given: Any) -> bool:
            if (number := next(more, None)) is not None:
                await send(engine, "hello", "a", id=f"{number}")
            return await recover(*args, **given)

        monkeypatch.setattr(engine._owner.recovery, "recover", recovering)
        await asyncio.gather(*(send(engine, "hello", "a", id=f"{number}") for number in range(MANY)))
        await all_are(engine, "stranded", 2 * MANY)


@pytest.mark.parametrize("what", ["get_package", "commit"])
async def test_a_process_begins_when_the_store_was_busy_while_its_version_was_loaded(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        if what == "commit":
            monkeypatch.setattr(engine._owner, "commit", failing(1, engine._owner.commit))
        else:
            monkeypatch.setattr(store.packages, "get_package", failing(1, store.packages.get_package))
        await send(engine, "hello", "a", id="h")
        assert await in_time(clock, reply(engine, "h")) == "hello a from 1"


async def test_what_is_stored_between_the_look_for_it_and_the_stranding_revives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        held: list[Callable[[], None]] = []
        submit = engine._owner.submit

        def hold(write: Any, *rest: Any, **more: Any) -> None:
            if isinstance(write, Strand):
                held.append(lambda: submit(write, *rest, **more))
            else:
                submit(write, *rest, **more)

        monkeypatch.setattr(engine._owner, "submit", hold)
        await pay(engine, "o")
        await holds(lambda: held)
        await deploy(store, ONE)
        await holds(lambda: not engine.versions.failed)
        for _ in range(MANY):  # until it has looked for stranded ones, and found none
            await engine.process("o")
        for one in held:
            one()
        await reaches(engine, "o", "idle")
        assert await reply(engine, "placed o") == "paid o on version 1"


async def test_stranded_processes_are_looked_at_again_when_the_store_could_not_be_read(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        await pay(engine, "o")
        await reaches(engine, "o", "stranded")
        monkeypatch.setattr(engine._owner.reviving, "revive", failing(1, engine._owner.reviving.revive))
        await deploy(store, ONE)
        assert await in_time(clock, reply(engine, "placed o")) == "paid o on version 1"


async def test_a_version_that_fails_hides_no_change_of_another(store: Store) -> None:
    versions = Versions(store, NODE)
    for package in (ONE, TWO):
        if package is TWO:
            await deploy(store, ONE)
        with pytest.raises(PackageMissing):
            async with versions.using("hello", package.identity):
                pass
    assert await versions.changed() == [ONE.identity]
    await versions.close()
