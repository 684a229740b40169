"""An app that runs parts (`parts.py`), and what the world outside of it remembers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from perdure import Address, App, NotDone, Process, Retry, on, step_info
from perdure.clock import Micros, micros_of
from perdure.errors import KeyTaken, StepOutcomeUnknown
from perdure.testing import EffectLedger
from tests.testing.parts import (
    CLEANING,
    SLOTS,
    Ask,
    Attempt,
    Awake,
    Branch,
    Call,
    Chance,
    Claim,
    Fail,
    First,
    Hear,
    InTime,
    Look,
    Part,
    Patch,
    Program,
    Send,
    Sequence,
    Sleep,
    Spawn,
    Step,
    Until,
)

RUNNER = Address.process("runner")
COLLECTOR = Address.key("collector")
EVERYBODY = Address.tag("everybody")


class Begin(msgspec.Struct, tag="begin"):
    program: Program


class Word(msgspec.Struct, tag="word"):
    slot: int
    text: str


class Note(msgspec.Struct, tag="note"):
    text: str


class Join(msgspec.Struct, tag="join"):
    name: str


class Told(msgspec.Struct, tag="told"):
    text: str


class Hold(msgspec.Struct, tag="hold"):
    slots: int


class Free(msgspec.Struct, tag="free"):
    slot: int


class Echo(msgspec.Struct, tag="echo"):
    text: str


class Broken(Exception):
    pass


class Failed(Exception):
    pass


class World:
    """What no crash touches: effects, tokens that were given away, what was drawn, and which version of the code there is."""

    def __init__(self) -> None:
        self.ledger = EffectLedger()
        self.forget(0)

    def forget(self, began: Micros, *, upgraded: bool = True) -> None:
        self.ledger.clear()
        self.began = began
        self.twice: set[str] = set()
        self.upgraded = upgraded
        self.drawn: dict[str, set[tuple[str, float]]] = defaultdict(set)
        self.tokens: dict[int, str] = {}
        self.on_token: Callable[[int], None] = lambda _slot: None

    def since(self, now: datetime | Micros) -> int:
        """Return how many milliseconds have passed."""
        return ((micros_of(now) if isinstance(now, datetime) else now) - self.began) // 1000


WORLD = World()
app = App("programs")


def milliseconds(time: int) -> timedelta:
    return timedelta(milliseconds=time)


# --- steps -----------------------------------------------------------------------------------------------


async def work(path: str, works_at: int, rounds: int) -> str:
    WORLD.ledger.note(path)
    for _ in range(rounds):
        await asyncio.sleep(0)
    return done(path, works_at)


def work_plainly(path: str, works_at: int, rounds: int) -> str:
    WORLD.ledger.note(path)
    return done(path, works_at)


def done(path: str, works_at: int) -> str:
    if step_info().attempt < works_at:
        raise Broken(path)
    return f"{path}:{step_info().attempt}"


async def work_once(path: str, works_at: int, rounds: int) -> str:
    if WORLD.ledger.counts[f"once {path}"]:
        WORLD.twice.add(path)
    WORLD.ledger.note(f"once {path}")
    for _ in range(rounds):
        await asyncio.sleep(0)
    return f"{path}:1"


async def was_done(path: str, works_at: int, rounds: int) -> str | NotDone:
    return f"{path}:1" if WORLD.ledger.counts[f"once {path}"] else NotDone()


async def give(slot: int, token: str) -> None:
    WORLD.tokens[slot] = token
    WORLD.on_token(slot)


async def draw(path: str, id: str, number: float) -> None:
    WORLD.ledger.note(path)
    WORLD.drawn[path].add((id, number))


# --- parts -----------------------------------------------------------------------------------------------


async def run(p: Process, part: Part, path: str) -> Any:
    """Do what a part says."""
    match part:
        case Step():
            return await step(p, part, path)
        case Sleep():
            await (asyncio.sleep(part.time / 1000) if part.plainly else p.sleep(milliseconds(part.time)))
            return "slept"
        case Hear():
            return await hear(p, part)
        case Awake():
            return await awake(p, part)
        case Claim():
            try:
                await p.bind(f"claimed {part.slot}")
            except KeyTaken:
                return "taken"
            return "mine"
        case Send():
            after = None if part.after is None else milliseconds(part.after)
            p.send(Told(part.text), to=EVERYBODY if part.everybody else COLLECTOR, after=after)
            return "sent"
        case Ask():
            return await p.ask(Address.key("rival"), Echo(part.text), result=str)
        case Spawn():
            p.spawn(helper, part.part, f"{path}c", detached=part.detached)
            return "spawned"
        case Call():
            return await p.call(helper, part.part, f"{path}c")
        case Look():
            return WORLD.since(p.now())
        case Chance():
            await p.step(draw, path, str(p.uuid()), p.random().random(), name=path)
            return "drawn"
        case Patch():
            # Behind the answer about a key the record may end, and of two ways from there the old one is taken.
            await p.step(work, f"{path} before", 1, 0, name=f"{path} before")
            way = "new" if WORLD.upgraded and p.patched(path) else "old"
            await p.step(work, f"{path} {way}", 1, 0, name=f"{path} {way}")
            return way
        case Fail():
            raise Failed
        case _:
            return await compound(p, part, path)


async def compound(p: Process, part: Any, path: str) -> Any:
    match part:
        case Attempt():
            try:
                return await run(p, part.part, path)
            except Failed:
                return "caught"
        case Branch():
            found = await step(p, part.step, f"{path}?")
            return [found, await run(p, part.fails if found == "broken" else part.works, f"{path}!")]
        case Sequence():
            return [await run(p, one, f"{path}{number}") for number, one in enumerate(part.parts)]
        case InTime():
            try:
                async with asyncio.timeout(part.time / 1000):
                    return await run(p, part.part, path)
            except TimeoutError:
                return "late"
    calls = [run(p, one, f"{path}{number}") for number, one in enumerate(part.parts)]
    match part:
        case First():
            return list(await p.first(*calls))
        case Until():
            return await until(p, [asyncio.ensure_future(call) for call in calls], part.enough)
        case _:
            return await together(p, calls, part.how)


async def step(p: Process, part: Step, path: str) -> str:
    try:
        if part.how == "once":
            await p.step(work_once, path, 1, part.rounds, name=path, at_most_once=True)
            return "once"
        if part.how == "probed":
            return await p.step(work_once, path, 1, part.rounds, name=path, at_most_once=True, probe=was_done)
        retry = Retry(max_attempts=part.attempts, initial=part.retry / 1000, factor=1.0, jitter=0.0)
        return await p.step(work_plainly if part.plain else work, path, part.works_at, part.rounds, name=path, retry=retry)
    except Broken:
        return "broken"
    except StepOutcomeUnknown:
        return "once"


async def hear(p: Process, part: Hear) -> list[str | None]:
    name, heard = f"slot {part.slot}", list[str | None]()
    if part.by == "key":
        await p.bind(name)
    elif part.by == "tag":
        p.tag(name)
    try:
        for wait in part.waits:
            word = await p.receive(Word, timeout=milliseconds(wait), where=lambda word: word.slot == part.slot)
            if word is not None:
                p.reply(word, f"took {word.text}")
            heard.append(None if word is None else word.text)
    finally:
        if part.frees and not p.leaving:
            p.unbind(name)
            p.untag(name)
    return heard


async def awake(p: Process, part: Awake) -> str:
    token, completed = p.awakeable(str)
    await p.step(give, part.slot, token)
    try:
        async with asyncio.timeout(part.time / 1000):
            return await completed
    except TimeoutError:
        return "late"


async def until(p: Process, tasks: list[asyncio.Task[Any]], enough: int) -> list[Any]:
    try:
        await p.until(lambda: sum(task.done() for task in tasks) >= min(enough, len(tasks)))
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.wait(tasks)
    return ["cancelled" if task.cancelled() else "failed" if task.exception() else task.result() for task in tasks]


async def together(p: Process, calls: list[Any], how: str) -> list[Any]:
    match how:
        case "gather":
            return ["failed" if isinstance(end, Failed) else end for end in await asyncio.gather(*calls, return_exceptions=True)]
        case "limited":
            return await p.gather_limited(2, *calls)
        case "completed":
            return sorted([value async for value in p.as_completed(calls)], key=repr)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except* Failed:
        raise Failed from None
    return [task.result() for task in tasks]


# --- processes -------------------------------------------------------------------------------------------


@app.process
async def helper(p: Process, part: Part, path: str) -> Any:
    return await run(p, part, path)


@app.process
class Runner(Process):
    noted: list[Any] = []

    @on(Begin, start=True, on_error="fail_turn")
    async def begin(self, message: Begin) -> Any:
        program = message.program
        self.noted.append("begun")
        try:
            value = await run(self, program.part, "r")
        except asyncio.CancelledError:
            if self.leaving:
                raise
            return await self.clean_up(program)
        self.noted.append(value)
        if program.fails:
            raise Failed
        return value

    async def clean_up(self, program: Program) -> str:
        await self.step(work, "clean-up", 1, 1, name="clean-up")
        self.send(Told("cleaned"), to=COLLECTOR)
        if program.cleans == "sleeps":
            await self.sleep(milliseconds(CLEANING))
        if program.cleans != "returns":
            raise asyncio.CancelledError
        self.noted.append("cleaned")
        return "cleaned"

    @on(Note, on_error="fail_turn")
    async def note(self, message: Note) -> str:
        await self.step(work, message.text, 1, 1, name=message.text)
        self.noted.append(message.text)
        return message.text


@app.process
class Member(Process):
    """Somebody who is told things, and when."""

    heard: list[tuple[str, int]] = []

    @on(Join, start=True, key=lambda message: message.name)
    async def join(self, message: Join) -> None:
        self.tag("everybody")

    @on(Told)
    async def told(self, message: Told) -> None:
        self.heard.append((message.text, WORLD.since(self.now())))


@app.process
class Rival(Process):
    """Somebody who holds keys, and answers."""

    @on(Hold, start=True, key=lambda message: "rival")
    async def hold(self, message: Hold) -> None:
        for slot in range(SLOTS):
            if message.slots >> slot & 1:
                await self.bind(f"claimed {slot}")

    @on(Free, key=lambda message: "rival")
    async def free(self, message: Free) -> None:
        self.unbind(f"claimed {message.slot}")

    @on(Echo)
    async def echo(self, message: Echo) -> str:
        await self.step(work, f"echo {message.text}", 1, 0, name=message.text)
        return f"echo {message.text}"
