"""Steps that run at most once: no crash makes one happen twice, and what becomes of an unknown end is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import pytest

from perdure.conversations.events import StepAttemptFailed, StepBegun, StepCompleted, StepFailed, TimerFired
from perdure.engine.retry import Retry
from perdure.engine.steps import NotDone, step_info
from perdure.errors import StepOutcomeUnknown, StepTimedOut
from tests.engine.careful import CarefulLife, CarefulWorld
from tests.engine.programs import Broken, draw, fetch, shaky, trace
from tests.engine.turns import Commit, Diary, Life, recorded_by

SEEDS = range(8)
MORE_SEEDS = range(100, 200)
POLICY = Retry(max_attempts=3, initial=0.002, jitter=0.0)
LIMIT = timedelta(milliseconds=6)
ENDS = (StepCompleted, StepFailed, StepAttemptFailed)


async def pay(what: str) -> str:
    return f"paid {what}:{draw()}"


async def pays_or_breaks(what: str) -> str:
    if int(step_info().idempotency_key[-1], 16) // step_info().attempt > 6:
        raise Broken(what)
    return f"paid {what}:{draw()}"


async def was_paid(what: str) -> str | NotDone:
    """Finds a payment in two of three cases."""
    return NotDone() if (int(step_info().idempotency_key[-2], 16) + step_info().attempt) % 3 == 0 else f"found {what}"


def was_paid_if_it_answers(what: str) -> str | NotDone:
    if int(step_info().idempotency_key[-3], 16) % 3 == 0:
        raise Broken(f"nobody answers about {what}")
    return NotDone() if int(step_info().idempotency_key[-2], 16) % 3 == 0 else f"found {what}"


async def tried(p: Diary, name: str, call: Coroutine[Any, Any, str]) -> str:
    try:
        got = await call
    except (Broken, StepOutcomeUnknown, StepTimedOut) as error:
        got = type(error).__name__
    trace(p, name, got)
    return got


# --- the programs ---------------------------------------------------------------------------------


async def alone(p: Diary) -> list[str]:
    p.total = 1
    first = await tried(p, "a", p.step(pay, "a", at_most_once=True))
    p.total = 2
    return [first, await tried(p, "b", p.step(pay, "b", at_most_once=True, probe=was_paid)), await p.step(draw)]


async def beside_others(p: Diary) -> list[str]:
    calls = (
        p.step(pay, "a", at_most_once=True),
        p.step(pay, "b", at_most_once=True, probe=was_paid),
        p.step(pay, "c", at_most_once=True, probe=was_paid_if_it_answers, retry=POLICY),
        p.step(fetch, "d"),
        p.step(shaky, "e", retry=POLICY),
    )
    return [*await asyncio.gather(*(tried(p, name, call) for name, call in zip("abcde", calls, strict=True)))]


async def with_retries(p: Diary) -> list[str]:
    calls = (
        p.step(pays_or_breaks, "a", at_most_once=True, retry=POLICY),
        p.step(pays_or_breaks, "b", at_most_once=True, retry=POLICY, probe=was_paid),
        p.step(pays_or_breaks, "c", at_most_once=True, retry=POLICY, probe=was_paid_if_it_answers),
    )
    return [*await asyncio.gather(*(tried(p, name, call) for name, call in zip("abc", calls, strict=True)))]


async def in_time(p: Diary) -> list[str]:
    calls = (
        p.step(pay, "a", at_most_once=True, timeout=LIMIT),
        p.step(pay, "b", at_most_once=True, timeout=LIMIT, retry=POLICY),
        p.step(pay, "c", at_most_once=True, timeout=LIMIT, probe=was_paid, retry=POLICY),
        p.step(fetch, "d", timeout=LIMIT),
        p.step(fetch, "e", timeout=LIMIT, retry=POLICY),
    )
    return [*await asyncio.gather(*(tried(p, name, call) for name, call in zip("abcde", calls, strict=True)))]


async def called_off(p: Diary) -> list[str]:
    got = []
    for number in range(3):
        index, value = await p.first(tried(p, "a", p.step(pay, "a", at_most_once=True)), p.sleep(0.003))
        got.append(f"{index} {value}")
        trace(p, number, got[-1])
    return [*got, await p.step(draw)]


async def with_keys(p: Diary) -> list[str]:
    await p.bind("a")
    got = [await tried(p, "b", p.step(pay, "b", at_most_once=True, probe=was_paid))]
    ends = await asyncio.gather(p.bind("c"), tried(p, "d", p.step(pay, "d", at_most_once=True)), p.bind("e"))
    return [*got, ends[1]]


Program = Callable[[Diary], Coroutine[Any, Any, list[str]]]
PROGRAMS: tuple[Program, ...] = (alone, beside_others, with_retries, in_time, called_off, with_keys)


def open_in(commits: Sequence[Commit]) -> set[str]:
    """The steps that are recorded as begun and not as ended."""
    begun: set[str] = set()
    for _, event in recorded_by(commits):
        if isinstance(event, StepBegun):
            begun.add(event.name)
        elif isinstance(event, ENDS) and not getattr(event, "probe", False):
            begun.discard(event.name)
    return begun


def crash_everywhere(program: Program, seed: int) -> int:
    """Crash after each commit, go on, crash again in the middle of that. Return how often a step's end was unknown."""

    async def code(p: Diary) -> list[str]:
        return [*await program(p), await p.step(draw, name="at the end")]

    unknown = 0
    whole = CarefulLife(CarefulWorld(code, seed=seed, message=f"m{seed}", lags=(0,))).run()
    assert whole.over
    for crash in range(len(whole.commits)):
        world = CarefulWorld(code, seed=seed, message=f"m{seed}", lags=(0,))
        lives = [CarefulLife(world)]
        while len(lives[0].commits) < crash:  # to just before the next commit: what was asked for has begun
            lives[0].go_on()
        lives[0].turn.leave()
        lives.append(CarefulLife(world, lives[0].commits[:crash]))
        unknown += len(open_in(whole.commits[:crash]))
        recorded = len(recorded_before(lives[0], crash))
        middle = (crash + len(whole.commits)) // 2
        while len(lives[1].commits) < middle and not lives[1].over and lives[1]._heap:
            lives[1].go_on()
        lives[1].turn.leave()
        lives.append(CarefulLife(world, lives[1].commits[: -1 if lives[1].over else None]))
        last = lives[2].run()
        assert last.over
        assert last.error is None
        assert last.events[:recorded] == whole.events[:recorded], "what is recorded stands"
        once = [begun for begun in world.begun if begun[0].startswith("pay")]
        assert len(set(once)) == len(once), "no attempt begins twice"
        again = CarefulWorld(code, seed=seed + 1000, message=f"m{seed}")
        replayed = CarefulLife(again, last.commits[:-1]).run()
        assert (replayed.value, replayed.effects) == (last.value, last.effects), "a replay of it all comes to the same"
    return unknown


def recorded_before(life: CarefulLife, crash: int) -> list[Any]:
    return [event for commit in life.commits[:crash] for event in commit.events]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_no_attempt_begins_twice_whatever_crashes(program: Program) -> None:
    assert sum(crash_everywhere(program, seed) for seed in SEEDS), "some crashes leave a step whose end is unknown"


@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_no_attempt_begins_twice_in_many_orders_of_what_happens(program: Program) -> None:
    for seed in MORE_SEEDS:
        crash_everywhere(program, seed)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_crash_while_none_is_open_changes_nothing(program: Program) -> None:
    for seed in SEEDS:
        world = CarefulWorld(program, seed=seed, message=f"m{seed}", lags=(0,))
        whole = CarefulLife(world).run()
        for crash in range(len(whole.commits)):
            if not open_in(whole.commits[:crash]):
                assert CarefulLife(world, whole.commits[:crash]).run().outcome == whole.outcome


# --- what is recorded, one by one -------------------------------------------------------------------


def kinds(life: Life) -> list[type]:
    return [type(event) for _, event in life.events]


def test_the_start_is_committed_before_the_function_runs() -> None:
    async def code(p: Diary) -> str:
        return await p.step(pay, "a", at_most_once=True)

    world = CarefulWorld(code, lags=(500,))
    life = CarefulLife(world)
    assert [len(commit.events) for commit in life.commits] == [1]
    assert world.begun == []
    assert kinds(life.run()) == [StepBegun, StepCompleted]
    assert world.begun == [("pay", 1)]


def test_an_unknown_end_is_an_error_that_every_replay_repeats() -> None:
    async def code(p: Diary) -> str:
        try:
            return await p.step(pay, "a", at_most_once=True, retry=Retry(max_attempts=9))
        except StepOutcomeUnknown as error:
            await p.step(draw)
            return str(error)

    world = CarefulWorld(code, lags=(0,))
    first = CarefulLife(world)
    first.go_on()
    assert world.begun == [("pay", 1)]

    life = CarefulLife(world, first.commits).run()

    assert "step 'pay' was begun and may have happened: its engine stopped" in life.value
    assert world.begun == [("pay", 1)], "a retry policy does not apply to it"
    assert kinds(life) == [StepBegun, StepFailed, StepCompleted]
    assert CarefulLife(world, life.commits[:-1]).run().outcome == life.outcome


def test_a_probe_that_says_not_done_has_the_step_begun_again() -> None:
    async def never(_what: str) -> NotDone:
        return NotDone()

    async def code(p: Diary) -> str:
        return await p.step(pay, "a", at_most_once=True, probe=never)

    world = CarefulWorld(code, lags=(0,))
    lives = [CarefulLife(world)]
    lives[0].go_on()
    for attempt in (2, 3):
        lives.append(CarefulLife(world, lives[-1].commits))
        while world.begun[-1] != ("pay", attempt):
            lives[-1].go_on()
    life = lives[-1].run()

    assert life.value.startswith("paid a")
    assert world.begun == [("pay", 1), ("pay", 2), ("pay", 3)]
    assert world.asked == [("pay", 1), ("pay", 2)]
    assert kinds(life) == [StepBegun, StepBegun, StepBegun, StepCompleted]


def test_a_probe_that_fails_is_asked_again_durably_and_at_last_the_end_is_unknown() -> None:
    async def breaks(_what: str) -> str:
        raise Broken("away")

    async def code(p: Diary) -> str:
        try:
            return await p.step(pay, "a", at_most_once=True, probe=breaks, retry=Retry(max_attempts=3, initial=60))
        except StepOutcomeUnknown as error:
            return str(error)

    world = CarefulWorld(code, lags=(0,))
    lives = [CarefulLife(world)]
    lives[0].go_on()
    for asked in (1, 2):
        lives.append(CarefulLife(world, lives[-1].commits))
        while len(world.asked) < asked or not lives[-1].timers:
            lives[-1].go_on()
    life = CarefulLife(world, lives[-1].commits).run()

    assert "its probe failed" in life.value
    assert world.begun == [("pay", 1)]
    assert world.asked == [("pay", 1)] * 3
    assert kinds(life) == [StepBegun, StepAttemptFailed, TimerFired, StepAttemptFailed, TimerFired, StepFailed]
