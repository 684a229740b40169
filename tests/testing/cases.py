"""Random programs, and what happens to them."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import msgspec
from hypothesis import reject
from hypothesis import strategies as st

from perdure.testing import Crash
from tests.testing.model import Model, Outcome, Tie
from tests.testing.parts import (
    SLOTS,
    Arrival,
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
    Outside,
    Patch,
    Program,
    Send,
    Sequence,
    Sleep,
    Spawn,
    Step,
    Together,
    Until,
)
from tests.testing.restless import Disturbance

UNIT = 700  # milliseconds; times that are made differ from its multiples by multiples of 7, and by what else tells them apart
MOMENTS = 40  # into which the time to the end of a program is divided
CRASHES_MAX = 5  # more, and a turn is taken for poison


class Case(msgspec.Struct, frozen=True):
    """A program, what happens to it, and what must make no difference.

    Attributes:
        program: what one process does.
        outside: what its outcome depends on.
        cancel: ask it to stop at this round of the loop, counted from the begin.
        repeats: messages that are delivered once more: which, and how much later.
        crashes: at which commits the engine crashes, each so many after the one before.
        disturbances: what else happens to the engine.
        luck: numbers that put what happens at one instant into an order.
        narrow: whether the engine runs in narrow bounds.
    """

    program: Program
    outside: Outside = Outside()
    cancel: int | None = None
    repeats: tuple[tuple[int, int], ...] = ()
    crashes: tuple[Crash, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()
    luck: tuple[int, ...] = (0,)
    narrow: bool = False


def _often(times: int, strategy: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Any]]:
    return [strategy.map(lambda part: part) for _ in range(times)]  # one and the same would count once


units = st.integers(1, 10)
moments = st.integers(0, MOMENTS + 10)
slots = st.integers(0, SLOTS - 1)
flags = st.booleans()
steps = st.builds(
    Step,
    how=st.sampled_from(["usual", "usual", "once", "probed"]),
    plain=flags,
    works_at=st.integers(1, 3),
    attempts=st.integers(1, 3),
    retry=units,
    rounds=st.integers(0, 3),
)
sleeps = st.builds(Sleep, units, flags)
hears = st.builds(Hear, st.just(0), st.lists(units, min_size=1, max_size=3).map(tuple), st.sampled_from(["runner", "key", "tag"]), flags)
sends = st.builds(Send, st.just(""), flags, st.none() | units)
awakes = st.builds(Awake, st.just(0), units)
leaves = st.one_of(
    *_often(3, steps),
    *_often(3, hears),
    *_often(2, sleeps),
    *_often(2, awakes),
    *_often(2, sends),
    st.builds(Claim, st.just(0)),
    st.builds(Ask, st.just("")),
    st.sampled_from([Patch(), Chance()]),
    st.sampled_from([Patch(), Look(), Fail()]),
)


def _larger(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(parts, min_size=1, max_size=4).map(tuple)
    return st.one_of(
        st.builds(Sequence, several),
        st.builds(Sequence, several),
        st.builds(Together, several, st.sampled_from(["gather", "group", "limited", "completed"])),
        st.builds(First, several),
        st.builds(Until, several, st.integers(1, 4)),
        st.builds(InTime, parts, units),
        st.builds(Branch, steps, parts, parts),
        st.builds(Attempt, parts),
        st.builds(Call, parts),
        st.builds(Spawn, parts, flags),
    )


arrivals = st.builds(Arrival, slots, moments, st.none() | units)
outsides = st.builds(
    Outside,
    words=st.one_of(st.lists(arrivals, max_size=8), st.lists(arrivals, min_size=4, max_size=8)).map(tuple),
    completions=st.dictionaries(slots, moments, max_size=4),
    frees=st.dictionaries(slots, moments, max_size=4),
    notes=st.lists(moments, max_size=3).map(tuple),
    pause=st.none() | st.tuples(moments, units),
    cancel=st.none() | st.none() | moments,
    upgrade=st.none() | st.none() | moments,
)
disturbances = st.builds(Disturbance, st.integers(1, 60), st.sampled_from(["evict", "evict", "evict", "kill", "close", "hold", "hold all"]))
_cases = st.builds(
    Case,
    program=st.builds(
        Program,
        st.builds(Sequence, st.lists(st.recursive(leaves, _larger, max_leaves=8), min_size=1, max_size=7).map(tuple)),
        st.integers(0, 9).map(lambda n: n == 9),
        st.sampled_from(["raises", "returns", "sleeps"]),
    ),
    outside=outsides,
    cancel=st.none() | st.none() | st.none() | st.integers(1, 150),
    repeats=st.lists(st.tuples(st.integers(0, 12), moments), max_size=5).map(tuple),
    crashes=st.lists(st.builds(Crash, st.integers(1, 12), flags), max_size=5).map(tuple),
    disturbances=st.lists(disturbances, max_size=10).map(tuple),
    luck=st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple),
    narrow=flags,
)


class _Made:
    """Gives each part of a program a slot, a text, and times of its own."""

    def __init__(self) -> None:
        self._times = itertools.count(1)
        self._texts = itertools.count(1)
        self._counts: Counter[type] = Counter()

    def time(self, units: int) -> int:
        return UNIT * units + 7 * next(self._times)

    def part(self, part: Any, *, child: bool = False) -> Any:
        changed: dict[str, Any] = {}
        match part:
            case Hear() | Awake() | Claim():
                changed["slot"] = self._counts[type(part)]
                self._counts[type(part)] += 1
            case Send() | Ask():
                changed["text"] = f"t{next(self._texts)}"
        match part:
            case Step():
                changed["retry"] = self.time(part.retry)
            case Sleep() | Awake():
                changed["time"] = self.time(part.time)
            case Hear():
                changed["waits"] = tuple(self.time(wait) for wait in part.waits)
                changed["by"] = "key" if child and part.by == "runner" else part.by
            case Send() if part.after is not None:
                changed["after"] = self.time(part.after)
            case InTime():
                changed |= {"time": self.time(part.time), "part": self.part(part.part, child=child)}
            case Attempt():
                changed["part"] = self.part(part.part, child=child)
            case Call() | Spawn():
                changed["part"] = self.part(part.part, child=True)
            case Branch():
                changed = {name: self.part(getattr(part, name), child=child) for name in ("step", "works", "fails")}
            case Sequence() | Together() | First() | Until():
                changed["parts"] = tuple(self.part(one, child=child) for one in part.parts)
        return msgspec.structs.replace(part, **changed) if changed else part

    def outside(self, outside: Outside, plan: Outcome) -> Outside:
        """Spread what comes from outside over the time to the planned end and a little longer.

        Some of the messages come when the program does something, and several may come at one instant: for different slots
        the order makes no difference. Everything else comes at instants of its own.
        """
        taken: set[tuple[int, int]] = set()
        end = plan.end
        busy = sorted({event.caused for event in plan.events} - {0})

        def arrival(part: int, slot: int) -> int:
            if not busy or part % 2:
                return moment(part, 1, slot)
            at = busy[part // 2 % len(busy)]
            if (slot, at) in taken:
                return moment(part, 1, slot)
            taken.add((slot, at))
            return at

        def moment(part: int, other: int, slot: int = -1) -> int:
            at = UNIT * (part * end // (MOMENTS * UNIT)) + other
            while (slot, at) in taken or (slot < 0 and at in {then for _, then in taken}):
                at += 7
            taken.add((slot, at))
            return at

        def arrivals_of(of: dict[int, int], kind: type) -> dict[int, int]:
            taken.clear()
            count = self._counts[kind]
            return {slot % count: arrival(at, slot % count) for slot, at in of.items()} if count else {}

        hears = max(1, self._counts[Hear])
        words = [(one.slot % hears, one) for one in outside.words]
        arrivals = [Arrival(slot, arrival(one.at, slot), None if one.keep is None else self.time(one.keep)) for slot, one in words]
        held = outside.pause and moment(outside.pause[0], 4)
        return Outside(
            words=tuple(sorted(arrivals, key=lambda word: word.at)),
            completions=arrivals_of(outside.completions, Awake),
            frees=arrivals_of(outside.frees, Claim),
            notes=tuple(sorted(moment(at, 3) for at in outside.notes)),
            pause=None if held is None or outside.pause is None else (held, held + UNIT * outside.pause[1] + 1),
            cancel=None if outside.cancel is None else moment(outside.cancel, 6),
            upgrade=None if outside.upgrade is None else moment(outside.upgrade, 6),
        )


def apart(case: Case) -> Case:
    """Return the case with times and names that tell everything apart, as one that can be run. Raises Tie: it has no such times."""
    made = _Made()
    program = msgspec.structs.replace(case.program, part=made.part(case.program.part))
    outside = made.outside(case.outside, Model(Outside(), interrupted=False).do(program.part, "r", 0))
    if case.cancel is not None:  # whether a note comes before or after that is nobody's promise
        outside = msgspec.structs.replace(outside, cancel=None, notes=())
    killed = len(case.crashes)
    left: list[Disturbance] = []
    for one in case.disturbances:
        killed += one.what in ("kill", "close")  # a crash may come in between, and then it counts
        if killed <= CRASHES_MAX or one.what not in ("kill", "close"):
            left.append(one)
    return msgspec.structs.replace(case, program=program, outside=outside, disturbances=tuple(left))


@st.composite
def apart_cases(draw: st.DrawFn) -> Case:
    """Draw a case that can be run. Hypothesis shows it as it is run, and not how it came about."""
    try:
        return apart(draw(_cases))
    except Tie:
        reject()


cases = apart_cases()
