"""Handlers made at random of everything at once, crashed everywhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from perdure.conversations.events import Bound, Patched, decode_event
from perdure.engine.addressing import Address
from perdure.engine.retry import Retry
from perdure.errors import KeyTaken
from tests.engine.programs import NOTES, OWNERS, Broken, Note, Stop, draw, fetch, shaky, trace
from tests.engine.turns import Commit, Diary, Handler, Life, World

GATE = range(40)
SOAK = range(1_000, 3_000)
POLICY = Retry(max_attempts=3, initial=0.002, jitter=0.5)
Part = Callable[[Diary, asyncio.Lock, str], Coroutine[Any, Any, None]]


async def step(p: Diary, lock: asyncio.Lock, name: str) -> None:
    trace(p, name, await p.step(draw))


async def failing(p: Diary, lock: asyncio.Lock, name: str) -> None:
    try:
        trace(p, name, await p.step(shaky, name, retry=POLICY))
    except Broken as error:
        trace(p, name, error)


async def nap(p: Diary, lock: asyncio.Lock, name: str) -> None:
    await asyncio.sleep(0.003)
    trace(p, name)


async def wait(p: Diary, lock: asyncio.Lock, name: str) -> None:
    await p.sleep(0.001)
    p.total += 1


async def hear(p: Diary, lock: asyncio.Lock, name: str) -> None:
    trace(p, name, await p.receive(Note, Stop, timeout=timedelta(milliseconds=5), where=lambda message: message != Note("4")))


async def tell(p: Diary, lock: asyncio.Lock, name: str) -> None:
    p.send(Note(name), Address.key("k"))


async def claim(p: Diary, lock: asyncio.Lock, name: str) -> None:
    key = "taken" if len(p.log) % 3 == 0 else name
    try:
        await p.bind(key)
        trace(p, name, "has it")
    except KeyTaken:
        trace(p, name, "taken")


async def roll(p: Diary, lock: asyncio.Lock, name: str) -> None:
    trace(p, name, p.random().random(), p.uuid(), p.now())


async def change(p: Diary, lock: asyncio.Lock, name: str) -> None:
    if p.patched(f"change {len(name) % 3}"):
        trace(p, name, await p.step(fetch, name))


PARTS: tuple[Part, ...] = (step, step, failing, nap, wait, hear, tell, claim, roll, change)


def program(seed: int) -> Handler:
    """A handler of a few parts, put together at random."""
    choose = random.Random(seed)

    def make(depth: int) -> Part:
        if depth == 0 or choose.random() < 0.25:
            return choose.choice(PARTS)
        parts = [make(depth - 1) for _ in range(choose.randint(2, 3))]
        return choose.choice(TOGETHER)(parts)

    part = make(3)

    async def handler(p: Diary) -> list[str]:
        await part(p, asyncio.Lock(), "r")
        trace(p, "end", await p.step(fetch, "end"))
        return p.log

    return handler


def one_by_one(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        for number, part in enumerate(parts):
            await part(p, lock, f"{name}{number}")

    return run


def together(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        await asyncio.gather(*(part(p, lock, f"{name}{number}") for number, part in enumerate(parts)))

    return run


def in_a_group(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        async with asyncio.TaskGroup() as group:
            for number, part in enumerate(parts):
                group.create_task(part(p, lock, f"{name}{number}"))

    return run


def the_first(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        index, _ = await p.first(*(part(p, lock, f"{name}{number}") for number, part in enumerate(parts)))
        trace(p, name, "first", index)

    return run


def in_time(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        try:
            async with asyncio.timeout(0.006):
                await together(parts)(p, lock, name)
        except TimeoutError:
            trace(p, name, "late")

    return run


def locked(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        own = asyncio.Lock()
        async with lock:
            await together(parts)(p, own, name)

    return run


def cancelled(parts: list[Part]) -> Part:
    async def run(p: Diary, lock: asyncio.Lock, name: str) -> None:
        task = asyncio.create_task(parts[0](p, lock, f"{name}c"))
        await one_by_one(parts[1:])(p, asyncio.Lock(), name)
        task.cancel()
        done, _ = await asyncio.wait({task, asyncio.create_task(asyncio.sleep(0))})
        trace(p, name, len(done), task.cancelled())

    return run


TOGETHER = (one_by_one, together, together, in_a_group, the_first, in_time, locked, cancelled)


def may_go_the_old_way(commits: list[Commit], crash: int) -> bool:
    """Whether a patch follows an answer about a key that is the last record: then the turn has been there, as far as anybody can tell."""
    kinds = [[type(decode_event(data, stream="", seq=0)) for _, data in commit.events] for commit in commits]
    return bool(crash and kinds[crash - 1][-1:] == [Bound] and Patched in kinds[crash])


def crash_everywhere(seed: int) -> None:
    exact = World(program(seed), seed=seed, letters=NOTES, owners=OWNERS, lags=(0,), message=f"m{seed}")
    whole = Life(exact).run()
    assert whole.over
    assert whole.error is None
    for crash in range(len(whole.commits)):
        life = Life(exact, whole.commits[:crash], knows_timers=crash % 2 == 0).run()
        assert life.outcome == whole.outcome or may_go_the_old_way(whole.commits, crash), f"seed {seed}, after commit {crash}"
        assert life.error is None
    late = World(program(seed), seed=seed + 1, letters=NOTES, owners=OWNERS, message=f"m{seed}")
    whole = Life(late).run()
    for crash in range(len(whole.commits)):
        life = Life(late, whole.commits[:crash], knows_timers=crash % 2 == 0).run()
        assert life.over
        assert life.error is None, f"seed {seed}, after commit {crash}, with commits that take their time"


def test_random_handlers_replay_right_at_every_crash() -> None:
    for seed in GATE:
        crash_everywhere(seed)


@pytest.mark.soak
def test_many_random_handlers() -> None:
    for seed in SOAK:
        crash_everywhere(seed)
