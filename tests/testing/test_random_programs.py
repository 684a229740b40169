"""Random programs on a real engine, crashed, with messages repeated and in any order: they come to what a simple model says."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from perdure import Address
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.engine.verification import verify
from perdure.testing import Crash, VirtualEngine, engine
from tests.testing.programs import (
    LEDGER,
    STAGE,
    Begin,
    Branch,
    Hear,
    Model,
    Part,
    Program,
    Race,
    Send,
    Sequence,
    Sleep,
    Spawn,
    Step,
    Together,
    Word,
    app,
)

GATE = 200
SOAK = int(os.environ.get("PERDURE_SOAK_PROGRAMS", "10000"))
SLOTS = 4

durations = st.integers(1, 10)
slots = st.integers(0, SLOTS - 1)
steps = st.builds(Step, plain=st.booleans(), works_at=st.integers(1, 3), attempts=st.integers(1, 3))
leaves = st.one_of(
    steps,
    st.builds(Sleep, durations, st.booleans()),
    st.builds(Hear, slots, durations),
    st.builds(Send, st.just("")),
    st.builds(Spawn, st.just("")),
    st.builds(Race, slots, durations.map(lambda half: 2 * half), durations.map(lambda half: 2 * half + 1)),
)


def _larger(parts: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    several = st.lists(parts, min_size=1, max_size=4).map(tuple)
    return st.one_of(st.builds(Sequence, several), st.builds(Together, several, st.booleans()), st.builds(Branch, steps, parts, parts))


class Case(msgspec.Struct, frozen=True):
    """A program, when the message of each slot comes and how often, and at which commits the engine crashes.

    A crash is planned so many commits after the one before it; `luck` puts what happens at one instant into an order.
    """

    program: Program
    arrivals: dict[int, float]
    repeats: dict[int, int]
    crashes: list[Crash]
    luck: list[int]


cases = st.builds(
    Case,
    program=st.builds(Program, st.recursive(leaves, _larger, max_leaves=10), st.integers(0, 9).map(lambda n: n == 0)),
    arrivals=st.dictionaries(slots, st.integers(0, 30).map(float)),
    repeats=st.dictionaries(slots, st.integers(1, 3)),
    crashes=st.lists(st.builds(Crash, st.integers(1, 9), st.booleans()), max_size=5),
    luck=st.lists(st.integers(0, 3), min_size=1, max_size=5),
)


def _each_its_own(part: Any, number: Callable[[], int], free: list[int]) -> Any:
    """Return the part with a slot of its own for each that hears, and a text of its own for each that sends."""
    match part:
        case Hear() | Race():
            return msgspec.structs.replace(part, slot=free.pop() if free else number() + SLOTS)
        case Send() | Spawn():
            return msgspec.structs.replace(part, text=f"t{number()}")
        case Sequence() | Together():
            return msgspec.structs.replace(part, parts=tuple(_each_its_own(one, number, free) for one in part.parts))
        case Branch():
            works, fails = (_each_its_own(one, number, free) for one in (part.works, part.fails))
            return msgspec.structs.replace(part, works=works, fails=fails)
    return part


def own_slots(case: Case) -> Case:
    """Return the case without ties: two that wait for one slot, or for one instant, would make the model a scheduler."""
    numbers = itertools.count()
    part = _each_its_own(case.program.part, numbers.__next__, list(range(SLOTS)))
    arrivals = {slot: seconds + (slot + 1) / 100 for slot, seconds in case.arrivals.items()}
    return msgspec.structs.replace(case, program=Program(part, case.program.fails), arrivals=arrivals)


class Run:
    """One case on a real engine."""

    def __init__(self, case: Case, made: VirtualEngine) -> None:
        self.case, self.engine = case, made
        self.luck = itertools.cycle(case.luck)
        self.calls: list[asyncio.Task[Any]] = []

    async def go(self) -> Any:
        self.engine.crash_at(*self.case.crashes)
        begin = Begin("runner", self.case.program)
        events: list[tuple[float, int, Any]] = [(0, 0, begin)] * 2
        for slot, seconds in self.case.arrivals.items():
            events += [(seconds, slot, Word(slot, f"word {slot}"))] * self.case.repeats.get(slot, 1)
        keyed = sorted(((seconds, next(self.luck), number) for number, (seconds, _, _) in enumerate(events)))
        now = 0.0
        for seconds, _, number in keyed:
            await self.pass_time(seconds - now)
            now = seconds
            message = events[number][2]
            self.calls.append(asyncio.ensure_future(self.send(message)))
            for _ in range(next(self.luck)):
                await asyncio.sleep(0)
        await self.pass_time(10_000)
        outcome = await asyncio.gather(*self.calls, return_exceptions=True)
        return outcome[0]

    async def send(self, message: Any) -> Any:
        if isinstance(message, Begin):
            return await self.engine.deliver(message, id="begin", wait=True)
        return await self.engine.deliver(message, id=f"word {message.slot}", to=Address.key("runner"))

    async def pass_time(self, seconds: float) -> None:
        if seconds:
            await self.engine.advance(seconds)


async def compare(case: Case) -> None:
    model = Model(case.arrivals)
    LEDGER.clear()
    expected, end = model.run(case.program)
    async with engine(app, auto_advance=False, max_threads=2) as made:
        began, STAGE.now = made.clock.now(), made.clock.now
        outcome = await Run(case, made).go()
        made.crash_at()
        found = {one.process_type: one for one in await inspection.processes(made.store)}
        runner = await inspection.process(made.store, found["Runner"].process_id)
        told = (await inspection.process(made.store, found["Collector"].process_id)).fields["heard"] if "Collector" in found else []
        assert await verify(made.store) == []
    assert STAGE.ended == began + round(end * SECOND)
    if case.program.fails:
        assert type(outcome).__name__ == "Failed"
        assert runner.fields == {"noted": []}
        assert not Counter(told) - model.told, "what a failed turn sent after its last commit is not sent"
        return
    assert outcome == expected
    assert runner.fields == {"noted": [expected]}
    assert (runner.status, runner.note) == ("idle", "")
    assert Counter(told) == model.told
    attempts = Counter(one.what for one in set(LEDGER.effects))
    assert attempts == model.effects


def check(case: Case) -> None:
    asyncio.run(compare(own_slots(case)))


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=GATE, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(cases)
def test_a_random_program_comes_to_what_the_model_says_however_it_is_crashed(case: Case) -> None:
    check(case)


@pytest.mark.soak
@settings(max_examples=SOAK, deadline=None, suppress_health_check=QUIET, phases=(Phase.generate, Phase.shrink), database=None)
@given(cases)
def test_many_random_programs(case: Case) -> None:
    check(case)
