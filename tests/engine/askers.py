"""Handlers that ask others and wait for what they say; the world of `turns.py` answers, now and then with an error."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure.engine.addressing import Address
from perdure.engine.process import Process
from tests.engine.programs import Note, Program, Stop, branch, draw, trace
from tests.engine.turns import Diary


async def child(p: Process, number: int) -> str:
    """What is called here; it never runs, the world answers for it."""
    return str(number)


async def called(p: Diary, number: int) -> str:
    try:
        got = await p.call(child, number)
    except LookupError as error:
        got = f"failed: {error}"
    trace(p, "called", number, got)
    return got


async def calls_in_a_gather(p: Diary) -> list[str]:
    return await asyncio.gather(*(called(p, number) for number in range(3)), branch(p, "b"))


async def calls_in_a_row(p: Diary) -> list[str]:
    p.spawn(child, 7)
    got = [await called(p, number) for number in range(3)]
    p.send(Stop(), to=Address.key("k"), after=timedelta(days=1))
    return [*got, await p.step(draw)]


async def ask_races_a_timer(p: Diary) -> list[object]:
    got: list[object] = []
    for number in range(4):
        try:
            async with asyncio.timeout(0.006):
                got.append(await p.ask(Address.key("k"), Note(str(number))))
        except (TimeoutError, LookupError) as error:
            got.append(type(error).__name__)
        trace(p, got[-1], await p.step(draw))
    return got


async def ask_loses_a_race(p: Diary) -> str:
    async def asked() -> str:
        try:
            return str(await p.ask(Address.process("p9"), Stop()))
        except LookupError:
            return "failed"

    index, value = await p.first(asked(), p.step(draw), p.receive(Note))
    trace(p, index, value)
    return f"{index} {await p.step(draw)} {await p.step(draw)}"


async def awakeables(p: Diary) -> list[str]:
    early, first = p.awakeable(str)
    late, second = p.awakeable()
    never, _ = p.awakeable()
    await p.step(draw)
    got = []
    for name, wait in ((early, first), (late, second)):
        try:
            got.append(str(await wait))
        except LookupError:
            got.append("failed")
        trace(p, name, got[-1])
    return [*got, never, await p.step(draw)]


async def limited(p: Diary) -> list[str]:
    return await p.gather_limited(2, *(branch(p, name) for name in "abcde"), called(p, 9))


async def limited_and_broken(p: Diary) -> str:
    async def breaks(name: str) -> str:
        trace(p, "begins", name, await p.step(draw))
        if name == "b":
            raise LookupError(name)
        return await branch(p, name)

    try:
        await p.gather_limited(2, *(breaks(name) for name in "abcdef"))
    except LookupError as error:
        trace(p, "broken", error)
    return await p.step(draw)


async def as_they_come(p: Diary) -> list[str]:
    got = []
    async for value in p.as_completed([branch(p, "a"), called(p, 1), branch(p, "b", 1), branch(p, "c", 3)]):
        trace(p, "came", value)
        got.append(value)
    return got


async def until_enough(p: Diary) -> int:
    async def count(name: str) -> None:
        for _ in range(3):
            await p.step(draw, name=name)
            p.total += 1

    tasks = [asyncio.create_task(count(name)) for name in "abc"]
    await p.until(lambda: p.total >= 5)
    trace(p, "enough", p.total)
    await p.until(lambda: p.total == 9)
    await asyncio.gather(*tasks)
    return p.total


async def answers_mail(p: Diary) -> list[str]:
    got = []
    for _ in range(3):
        note = await p.receive(Note, timeout=timedelta(seconds=1))
        if note is not None:
            p.reply(note, f"heard {note.text}")
        got.append("none" if note is None else note.text)
        trace(p, got[-1], await p.step(draw))
    return got


ASKERS: tuple[Program, ...] = (
    calls_in_a_gather,
    calls_in_a_row,
    ask_races_a_timer,
    ask_loses_a_race,
    awakeables,
    limited,
    limited_and_broken,
    as_they_come,
    until_enough,
    answers_mail,
)
