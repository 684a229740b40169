"""Handlers made of what asyncio has. Each leaves a trace: tags in the order of its effects, a log in its durable fields.

No step's output depends on its arguments alone: it names the very step that made it, so that an output which reaches
another branch on replay is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec

from perdure.engine.addressing import Address
from perdure.engine.retry import Retry
from perdure.engine.steps import step_info
from perdure.errors import KeyTaken
from tests.engine.turns import Diary, Letter


class Broken(Exception):
    """What a step of these programs fails with."""


class Note(msgspec.Struct, tag="note"):
    text: str


class Stop(msgspec.Struct, tag="stop"):
    pass


def draw() -> str:
    """A plain step: an output that no other step has."""
    return step_info().idempotency_key[-6:]


async def fetch(what: str) -> str:
    return f"{what}:{draw()}"


async def shaky(what: str) -> str:
    """Fails for some turns, always or at its first attempts."""
    if int(step_info().idempotency_key[-1], 16) // step_info().attempt > 6:
        raise Broken(what, draw())
    return f"{what}:{draw()}"


def trace(p: Diary, *parts: object) -> None:
    text = " ".join(str(part) for part in parts)
    p.tag(text)
    p.log.append(text)


async def branch(p: Diary, name: object, steps: int = 2) -> str:
    """A few steps; what each returned is traced under the branch's name."""
    got = []
    for _ in range(steps):
        got.append(await p.step(draw))
        trace(p, name, got[-1])
    return f"{name}={'+'.join(got)}"


# --- the programs ---------------------------------------------------------------------------------


async def gather(p: Diary) -> list[str]:
    return await asyncio.gather(*(branch(p, name) for name in "abcd"))


async def task_group(p: Diary) -> str:
    done: list[asyncio.Task[str]] = []
    try:
        async with asyncio.TaskGroup() as group:
            done += [group.create_task(branch(p, name)) for name in "abc"]
            done.append(group.create_task(p.step(shaky, "d")))
    except* Broken as failed:
        trace(p, "broken", [str(error) for error in failed.exceptions])
    return " ".join(["cancelled" if task.cancelled() else str(task.exception() or task.result()) for task in done])


async def first_completed(p: Diary) -> list[str]:
    pending = {asyncio.create_task(branch(p, name, steps)) for steps, name in enumerate("abcd", 1)}
    order = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            order.append(task.result())
            trace(p, "done", await p.step(fetch, task.result()))
    return order


async def first_exception(p: Diary) -> list[str]:
    tasks = [asyncio.create_task(p.step(shaky, name)) for name in "abcde"]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    trace(p, len(done), len(pending))
    for task in pending:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return [str(end) or type(end).__name__ for end in ends]


async def queue(p: Diary) -> list[str]:
    items: asyncio.Queue[str | None] = asyncio.Queue(maxsize=2)
    out: list[str] = []

    async def produce(name: str) -> None:
        for _ in range(3):
            await items.put(f"{name}{await p.step(draw)}")
        await items.put(None)

    async def consume(name: str) -> None:
        while (item := await items.get()) is not None:
            out.append(f"{name}<{item}<{await p.step(fetch, item)}")
            trace(p, out[-1])

    await asyncio.gather(produce("x"), consume("1"), produce("y"), consume("2"))
    return out


async def semaphore(p: Diary) -> list[str]:
    gate = asyncio.Semaphore(2)
    entered: list[str] = []

    async def one(name: str) -> str:
        async with gate:
            entered.append(name)
            return await branch(p, name)

    return [*await asyncio.gather(*(one(name) for name in "abcde")), *entered]


async def lock(p: Diary) -> int:
    guard = asyncio.Lock()

    async def add(name: str) -> None:
        async with guard:
            before = p.total
            await branch(p, name, 1)
            p.total = before + len(p.log)

    await asyncio.gather(*(add(name) for name in "abcd"))
    return p.total


async def event_and_condition(p: Diary) -> list[str]:
    begun = asyncio.Event()
    change = asyncio.Condition()
    stock: list[str] = []
    sold: list[str] = []

    async def supply(name: str) -> None:
        await begun.wait()
        got = await p.step(fetch, name)
        async with change:
            stock.append(got)
            change.notify()

    async def sell(name: str) -> None:
        async with change:
            await change.wait_for(lambda: bool(stock))
            sold.append(f"{name}<{stock.pop(0)}")
        trace(p, sold[-1], await p.step(draw))

    async def begin() -> None:
        trace(p, await p.step(draw))
        begun.set()

    await asyncio.gather(sell("1"), supply("a"), sell("2"), supply("b"), begin(), supply("c"), sell("3"))
    return sold


async def timeouts(p: Diary) -> list[str]:
    async def one(name: str, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                return await branch(p, name, 3)
        except TimeoutError:
            return f"{name} late: {await p.step(draw)}"

    return [*await asyncio.gather(one("a", 0.003), one("b", 0.008), one("c", 0.02), one("d", 30))]


async def wait_for(p: Diary) -> list[str]:
    async def one(name: str, seconds: float) -> str:
        try:
            return await asyncio.wait_for(branch(p, name), seconds)
        except TimeoutError:
            trace(p, name, "late")
            return await asyncio.wait_for(p.step(fetch, name), None)

    return [*await asyncio.gather(one("a", 0.002), one("b", 0.004), one("c", 0.01), one("d", 0))]


async def sleep_races_steps(p: Diary) -> list[str]:
    async def heart() -> None:
        while True:
            await asyncio.sleep(0.002)
            trace(p, "beat", await p.step(draw))

    beats = asyncio.create_task(heart())
    got = await asyncio.gather(branch(p, "a"), branch(p, "b", 3), asyncio.sleep(0.004, "slept"))
    beats.cancel()
    return [*got, str((await asyncio.gather(beats, return_exceptions=True))[0])]


async def first(p: Diary) -> list[str]:
    out = []
    for round_number in range(3):
        index, value = await p.first(branch(p, f"{round_number}a"), branch(p, f"{round_number}b", 1), p.sleep(0.006))
        out.append(f"{index} {value}")
        trace(p, out[-1])
    return out


async def nested_gather(p: Diary) -> str:
    async def pair(name: str) -> list[str | BaseException]:
        return [*await asyncio.gather(p.step(shaky, name), branch(p, name), return_exceptions=True)]

    ends = await asyncio.gather(pair("a"), asyncio.gather(pair("b"), p.step(shaky, "c")), pair("d"), return_exceptions=True)
    return str(ends)


async def sets_of_tasks(p: Diary) -> list[str]:
    tasks = {asyncio.create_task(branch(p, number, 1)) for number in range(12)}
    await asyncio.sleep(0.002)
    for task in tasks & {task for task in tasks if not task.done()}:
        trace(p, "open", task.get_name())
        if len(p.log) % 3 == 0:
            task.cancel()
    for future in {asyncio.shield(task) for task in tasks if not task.done()}:
        trace(p, "shielded", (await asyncio.gather(future, return_exceptions=True))[0])
    done, _ = await asyncio.wait(tasks)
    return ["cancelled" if task.cancelled() else task.result() for task in done]


async def shield(p: Diary) -> list[str]:
    kept = asyncio.create_task(branch(p, "kept", 3))
    try:
        async with asyncio.timeout(0.003):
            await asyncio.shield(kept)
    except TimeoutError:
        trace(p, "impatient", await p.step(draw))
    return [await kept, await p.step(draw)]


# --- beyond the list --------------------------------------------------------------------------------


async def as_completed_over_tasks(p: Diary) -> list[str]:
    tasks = [asyncio.create_task(branch(p, name)) for name in "abc"]
    return [await end for end in asyncio.as_completed(tasks, timeout=20)]


async def retries(p: Diary) -> list[str]:
    policy = Retry(max_attempts=3, initial=0.002, jitter=0.5)

    async def one(name: str) -> str:
        try:
            return await p.step(shaky, name, retry=policy)
        except Broken as error:
            return f"gave up {error}"

    return [*await asyncio.gather(*(one(name) for name in "abcd")), str(await p.first(one("e"), p.sleep(0.003)))]


async def mail_races_steps(p: Diary) -> list[str]:
    out: list[str] = []

    async def listen(name: str) -> None:
        while isinstance(message := await p.receive(Note, Stop, timeout=timedelta(milliseconds=4)), Note | None):
            out.append(f"{name}<{None if message is None else message.text}<{await p.step(draw)}")

    await asyncio.gather(listen("1"), listen("2"), branch(p, "steps", 3))
    even = await p.receive(Note, timeout=timedelta(seconds=1), where=lambda note: note.text in "02468")
    return [*out, str(even)]


NOTES = (
    *(Letter(1_500 * number, Note(str(number))) for number in range(9)),
    Letter(20_000, Stop()),
    Letter(21_000, Note("10")),
    Letter(21_000, Stop()),
)


async def keys(p: Diary) -> list[str]:
    async def claim(name: str) -> str:
        await p.step(draw)
        try:
            await p.bind(name)
        except KeyTaken as taken:
            p.total += 1
            return f"{name} is {taken.owner}'s"
        p.send(Note(name), Address.key(name))
        await asyncio.sleep(0.003)
        return f"{name} {await p.step(draw)}"

    return [*await asyncio.gather(*(claim(name) for name in ("a", "b", "taken", "c"))), await claim("d"), str(p.total)]


OWNERS = {"taken": "p9"}


async def first_of_keys(p: Diary) -> str:
    index, _ = await p.first(p.bind("a"), p.bind("b"), p.step(fetch, "c"))
    p.total = index
    return f"{index} {await p.step(draw)}"


async def ends_on_a_key(p: Diary) -> str:
    index, _ = await p.first(p.bind("a"), p.bind("b"))
    return str(index)


async def generators(p: Diary) -> list[str]:
    async def pages() -> AsyncIterator[str]:
        try:
            while True:
                yield await p.step(draw)
        finally:
            trace(p, "closed", await p.step(fetch, "close"))

    async def read(name: str, count: int) -> str:
        got = []
        async for page in pages():
            got.append(page)
            if len(got) == count:
                break
        return f"{name}={got}, then {await p.step(draw)}"

    return [*await asyncio.gather(read("a", 1), read("b", 2), read("c", 3))]


async def chance(p: Diary) -> list[str]:
    async def one(name: str) -> str:
        await p.step(draw)
        trace(p, name, p.now().isoformat(), p.random().randrange(1000), p.uuid())
        await asyncio.sleep(p.random().random() / 100)
        return await p.step(fetch, f"{name} {p.now()} {p.uuid()}")

    return [str(p.random().random()), *await asyncio.gather(*(one(name) for name in "abc"))]


async def patches(p: Diary) -> list[str]:
    async def one(name: str, *changes: str) -> str:
        got = []
        for change in changes:
            got.append(await p.step(draw) if p.patched(change) else "old")
            trace(p, name, change, got[-1], p.patched(change))
        return f"{name}={got}"

    begun = p.patched("begun")
    ends = await asyncio.gather(one("a", "x", "y"), one("b", "y", "x"), branch(p, "c"), one("d", "begun", "z"))
    return [str(begun), *ends, str(p.patched("z")), str(p.patched("at the end"))]


Program = Callable[[Diary], Coroutine[Any, Any, Any]]
PROGRAMS: tuple[Program, ...] = (
    gather,
    task_group,
    first_completed,
    first_exception,
    queue,
    semaphore,
    lock,
    event_and_condition,
    timeouts,
    wait_for,
    sleep_races_steps,
    first,
    nested_gather,
    sets_of_tasks,
    shield,
    as_completed_over_tasks,
    retries,
    mail_races_steps,
    keys,
    first_of_keys,
    ends_on_a_key,
    generators,
    chance,
    patches,
)
