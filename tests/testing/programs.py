"""Handlers as data, which a real engine runs and a simple model predicts.

The model is a clock and the meaning of each part, nothing else: no commits, records, queues or loops. All durations of
programs are whole seconds, and the message of each slot comes at a fraction of its own, so that no two things that could
decide a race are due at one instant.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from perdure import Address, App, Process, Retry, on, step_info
from perdure.clock import Micros
from perdure.testing import EffectLedger

RETRY_SECONDS = 4
COLLECTOR = Address.start("Collector", key="collector")


class Step(msgspec.Struct, frozen=True, tag=True):
    """A step that works at its n-th attempt; `attempts` are allowed."""

    plain: bool
    works_at: int
    attempts: int


class Sleep(msgspec.Struct, frozen=True, tag=True):
    seconds: int
    plainly: bool  # by asyncio's own sleep


class Hear(msgspec.Struct, frozen=True, tag=True):
    """Wait for the message of a slot."""

    slot: int
    seconds: int


class Send(msgspec.Struct, frozen=True, tag=True):
    text: str


class Spawn(msgspec.Struct, frozen=True, tag=True):
    text: str


class Race(msgspec.Struct, frozen=True, tag=True):
    """Whichever of a message and a sleep comes first, within a time."""

    slot: int
    sleep: int
    within: int


class Branch(msgspec.Struct, frozen=True, tag=True):
    """One of two ways, by what a step has recorded."""

    step: Step
    works: Part
    fails: Part


class Sequence(msgspec.Struct, frozen=True, tag=True):
    parts: tuple[Part, ...]


class Together(msgspec.Struct, frozen=True, tag=True):
    parts: tuple[Part, ...]
    group: bool  # in a TaskGroup instead of gather


Part = Step | Sleep | Hear | Send | Spawn | Race | Branch | Sequence | Together


class Program(msgspec.Struct, frozen=True):
    """What one process does, and whether it fails in the end."""

    part: Part
    fails: bool


class Begin(msgspec.Struct, tag="begin"):
    name: str
    program: Program


class Word(msgspec.Struct, tag="word"):
    slot: int
    text: str


class Told(msgspec.Struct, tag="told"):
    text: str


class Broken(Exception):
    pass


class Failed(Exception):
    pass


# --- the engine's side -----------------------------------------------------------------------------------


app = App("programs")
LEDGER = EffectLedger()


class Stage:
    """What a test knows of the run beside its outcome: the clock, and when the program ended."""

    now: Callable[[], Micros] = int
    ended: Micros = 0


STAGE = Stage()


async def work(path: str, works_at: int) -> str:
    LEDGER.note(path)
    await asyncio.sleep(0)
    if step_info().attempt < works_at:
        raise Broken(path)
    return f"{path}:{step_info().attempt}"


def work_plainly(path: str, works_at: int) -> str:
    LEDGER.note(path)
    if step_info().attempt < works_at:
        raise Broken(path)
    return f"{path}:{step_info().attempt}"


@app.process
async def child(p: Process, text: str) -> str:
    await p.step(work, f"child {text}", 1)
    p.send(Told(f"child {text}"), to=COLLECTOR)
    return text


@app.process
class Collector(Process):
    heard: list[str] = []

    @on(Told, start=True, key=lambda message: "collector")
    async def told(self, message: Told) -> int:
        self.heard.append(message.text)
        return len(self.heard)


@app.process
class Runner(Process):
    noted: list[Any] = []

    @on(Begin, start=True, key=lambda message: message.name, on_error="fail_turn")
    async def begin(self, message: Begin) -> Any:
        value = await self.do(message.program.part, "r")
        self.noted.append(value)
        STAGE.ended = STAGE.now()  # for the test alone: a handler does not look at clocks
        if message.program.fails:
            raise Failed(message.name)
        return value

    async def attempt(self, part: Step, path: str) -> str:
        retry = Retry(max_attempts=part.attempts, initial=RETRY_SECONDS, factor=1.0, jitter=0.0)
        try:
            return await self.step(work_plainly if part.plain else work, path, part.works_at, retry=retry)
        except Broken:
            return "broken"

    async def do(self, part: Part, path: str) -> Any:
        match part:
            case Step():
                return await self.attempt(part, path)
            case Sleep():
                await (asyncio.sleep(part.seconds) if part.plainly else self.sleep(part.seconds))
                return "slept"
            case Hear():
                word = await self.receive(Word, timeout=timedelta(seconds=part.seconds), where=lambda word: word.slot == part.slot)
                return None if word is None else word.text
            case Send():
                self.send(Told(part.text), to=COLLECTOR)
                return "sent"
            case Spawn():
                self.spawn(child, part.text)
                return "spawned"
            case Race():
                return await self.race(part)
            case Branch():
                found = await self.attempt(part.step, f"{path}?")
                return [found, await self.do(part.fails if found == "broken" else part.works, f"{path}!")]
            case Sequence():
                return [await self.do(one, f"{path}{number}") for number, one in enumerate(part.parts)]
            case Together():
                return await self.together(part, path)

    async def race(self, part: Race) -> Any:
        try:
            async with asyncio.timeout(part.within):
                hear = self.receive(Word, where=lambda word: word.slot == part.slot)
                index, value = await self.first(hear, self.sleep(part.sleep))
                return [index, None if value is None else value.text]
        except TimeoutError:
            return "late"

    async def together(self, part: Together, path: str) -> list[Any]:
        calls = [self.do(one, f"{path}{number}") for number, one in enumerate(part.parts)]
        if not part.group:
            return await asyncio.gather(*calls)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
        return [task.result() for task in tasks]


# --- the model -------------------------------------------------------------------------------------------------


class Model:
    """What a program comes to, given when the message of each slot arrives, in seconds."""

    def __init__(self, arrivals: dict[int, float]) -> None:
        self.arrivals = arrivals
        self.effects: Counter[str] = Counter()
        self.told: Counter[str] = Counter()

    def run(self, program: Program) -> tuple[Any, float]:
        """Return the value and the end, in seconds."""
        return self.do(program.part, "r", 0)

    def do(self, part: Part, path: str, now: float) -> tuple[Any, float]:
        match part:
            case Step():
                return self.step(part, path, now)
            case Sleep():
                return "slept", now + part.seconds
            case Hear():
                comes = self.arrivals.get(part.slot)
                if comes is None or comes >= now + part.seconds:
                    return None, now + part.seconds
                return f"word {part.slot}", max(now, comes)
            case Send():
                self.told[part.text] += 1
                return "sent", now
            case Spawn():
                self.told[f"child {part.text}"] += 1
                self.effects[f"child {part.text}"] += 1
                return "spawned", now
            case Race():
                return self.race(part, now)
            case Branch():
                found, then = self.step(part.step, f"{path}?", now)
                value, end = self.do(part.fails if found == "broken" else part.works, f"{path}!", then)
                return [found, value], end
            case Sequence():
                values = []
                for number, one in enumerate(part.parts):
                    value, now = self.do(one, f"{path}{number}", now)
                    values.append(value)
                return values, now
            case Together():
                ends = [self.do(one, f"{path}{number}", now) for number, one in enumerate(part.parts)]
                return [value for value, _ in ends], max(end for _, end in ends)

    def step(self, part: Step, path: str, now: float) -> tuple[str, float]:
        attempts = min(part.works_at, part.attempts)
        self.effects[path] += attempts
        value = f"{path}:{attempts}" if part.works_at <= part.attempts else "broken"
        return value, now + RETRY_SECONDS * (attempts - 1)

    def race(self, part: Race, now: float) -> tuple[Any, float]:
        comes = self.arrivals.get(part.slot)
        heard = now + part.within + 1 if comes is None else max(now, comes)
        slept = now + part.sleep
        end = min(heard, slept)
        if end > now + part.within:
            return "late", now + part.within
        return ([0, f"word {part.slot}"] if heard < slept else [1, None]), end
