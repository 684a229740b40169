"""Names, time, `first` and what a turn sends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from perdure.clock import SECOND
from perdure.conversations.events import TimerFired
from perdure.engine.addressing import Address
from perdure.engine.retry import Retry
from perdure.errors import InvalidIdentifier, StepOutputInvalid, UsageError
from tests.engine.askers import child as leaf
from tests.engine.inputs import fired
from tests.engine.programs import Broken, Note, draw, fetch
from tests.engine.test_turn_retries import Calls
from tests.engine.turns import START, Diary, Life, World

Code = Callable[[Diary], Coroutine[Any, Any, Any]]
FOREVER = 2**63


# --- names -----------------------------------------------------------------------------------------


def test_names_are_numbered_in_the_order_of_the_calls_not_of_the_awaits() -> None:
    async def code(p: Diary) -> list[str]:
        one, two, three = p.step(fetch, "1"), p.step(fetch, "2", name="own"), p.step(fetch, "3")
        return [await three, await two, await one, await p.step(fetch, "4", name="own")]

    life = Life(World(code)).run()
    assert life.started == ["fetch#2", "own", "fetch", "own#2"]
    assert [text[0] for text in life.value] == ["3", "2", "1", "4"]


@pytest.mark.parametrize(
    "names", [["x", "x#2", "x", "x", "x#2"], ["x#2", "x", "x", "x#2#2", "x#2"], ["x#3", "x", "x", "x", "x#3"]], ids=str
)
def test_a_name_that_looks_like_a_number_is_never_given_twice(names: list[str]) -> None:
    async def code(p: Diary) -> list[str]:
        return [*await asyncio.gather(*(p.step(fetch, str(number), name=name) for number, name in enumerate(names)))]

    for seed in range(5):
        life = Life(World(code, seed=seed)).run()
        assert len(set(life.started)) == len(names)
        assert [text[0] for text in life.value] == ["0", "1", "2", "3", "4"]


def test_names_of_asyncios_timers_do_not_meet_those_of_steps() -> None:
    async def code(p: Diary) -> list[str]:
        async with asyncio.timeout(100):
            await asyncio.sleep(0.1)
            return [await p.step(fetch, "a", name="asyncio.timer"), await p.step(fetch, "b", name="sleep")]

    assert [text[0] for text in Life(World(code)).run().value] == ["a", "b"]


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "\udcff"])
def test_a_step_name_is_checked(name: str) -> None:
    async def code(p: Diary) -> str:
        return await p.step(draw, name=name)

    assert type(Life(World(code)).run().error) is InvalidIdentifier


def test_a_step_takes_a_function_not_its_result() -> None:
    async def code(p: Diary) -> Any:
        return await p.step(draw.__name__)  # type: ignore[call-overload]  # what is tested

    assert "write `self.step(function, argument)`" in str(Life(World(code)).run().error)


# --- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration", [-1, math.nan, math.inf, 1e13, "1", True, timedelta(seconds=-1), timedelta.max], ids=str)
def test_a_duration_that_cannot_be_meant_is_refused(duration: Any) -> None:
    async def code(p: Diary) -> None:
        await p.sleep(duration)

    assert type(Life(World(code)).run().error) is UsageError


@pytest.mark.parametrize("seconds", [1e13, 1e300, math.inf])
def test_asyncios_timers_may_be_as_far_as_never(seconds: float) -> None:
    async def code(p: Diary) -> str:
        asyncio.get_running_loop().call_at(seconds, print)
        async with asyncio.timeout(seconds):
            index, _ = await p.first(asyncio.sleep(seconds), p.step(draw))
            return f"{index}"

    life = Life(World(code))
    assert all(due < FOREVER for due in life.timers.values())
    assert len(life.timers) == 3
    assert life.run().value == "1"
    assert not life.timers


def test_the_turns_time_never_goes_back_when_the_clock_does() -> None:
    async def code(p: Diary) -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        await asyncio.sleep(10)
        times.append(loop.time())
        await p.step(draw)
        return [*times, loop.time()]

    world = World(code, lags=(0,))
    life = Life(world)
    life.go_on()
    life.now = START - 100 * SECOND  # the timer was due, and then the clock was set back
    life.turn.feed(fired("asyncio.timer"))
    life._pump()

    start = START / SECOND
    assert life.run().value[:2] == [start, start + 10]
    assert life.value[2] >= start + 10
    assert Life(world, life.commits[:-1]).run().value == life.value


def test_a_timer_that_rings_twice_counts_once() -> None:
    """It is found due again while an answer about a key holds up what happens."""
    calls = Calls(Broken("a"))

    async def code(p: Diary) -> list[Any]:
        step = asyncio.create_task(p.step(calls.call, retry=Retry(initial=10, jitter=0)))
        await asyncio.sleep(10)
        await p.bind("k")
        return [await step]

    life = Life(World(code, lags=(50,)))
    while not (life.commits and life.commits[-1].binds):
        life.go_on()
    for _ in range(2):
        life.turn.feed(fired("call"))
    assert life.run().value == ["done"]
    assert [attempt for attempt, _ in calls.seen] == [1, 2]
    assert [type(event) for _, event in life.events].count(TimerFired) == 2


def test_what_happens_while_a_key_is_asked_for_waits_for_the_answer() -> None:
    """The answer is recorded with the commit that asked: what comes before it is durable comes after it in the record."""

    async def code(p: Diary) -> list[str]:
        async def keyed() -> None:
            await asyncio.sleep(0.001)
            await p.bind("k")
            p.log.append("key")

        async def stepped() -> None:
            await p.step(draw)
            p.log.append("step")

        await asyncio.gather(keyed(), stepped())
        await p.step(draw)
        return p.log

    orders = set()
    for seed in range(8):
        world = World(code, seed=seed, lags=(9_000,))
        life = Life(world).run()
        orders.add(tuple(life.value))
        for crash in range(len(life.commits)):
            assert Life(world, life.commits[:crash]).run().value == life.value
    assert ("key", "step") in orders


# --- first -----------------------------------------------------------------------------------------


def test_of_two_that_end_at_once_the_one_named_first_wins() -> None:
    async def at_once(value: str) -> str:
        await asyncio.sleep(0)
        return value

    async def code(p: Diary) -> list[tuple[int, str]]:
        return [await p.first(at_once("a"), at_once("b")), await p.first(p.step(draw), at_once("c"), at_once("d"))]

    assert Life(World(code)).run().value == [(0, "a"), (1, "c")]


def test_losers_are_cancelled_in_the_same_quiescence() -> None:
    async def code(p: Diary) -> int:
        index, _ = await p.first(p.step(draw), p.sleep(0.0001), p.receive(Note, timeout=timedelta(days=9)))
        await p.sleep(500)
        return index

    life = Life(World(code, lags=(0,))).run()
    assert life.value == 1
    assert life.cancelled == ["draw"]
    assert [set(commit.timers) for commit in life.commits] == [{"sleep", "receive"}, {"sleep#2"}, set()]


def test_what_the_winner_raised_is_raised() -> None:
    async def breaks() -> None:
        raise Broken("b")

    async def gives_up() -> None:
        raise asyncio.CancelledError

    async def code(p: Diary) -> list[str]:
        said = []
        for call in (breaks, gives_up):
            try:
                await p.first(p.step(draw), call())
            except (Broken, asyncio.CancelledError) as error:
                said.append(type(error).__name__)
        return said

    assert Life(World(code)).run().value == ["Broken", "CancelledError"]


def test_first_needs_something_to_wait_for() -> None:
    async def code(p: Diary) -> None:
        await p.first()

    assert type(Life(World(code)).run().error) is UsageError


# --- effects ---------------------------------------------------------------------------------------


def test_messages_are_checked_at_once_and_named_by_their_place_in_the_turn() -> None:
    async def code(p: Diary) -> list[Any]:
        p.send(Note("1"), to=Address.key("k"))
        child = p.spawn(leaf, 1)
        p.tag("t")
        refused = []
        for wrong in ("text", Note("\udcff")):
            try:
                p.send(wrong, to=Address.key("k"))
            except UsageError as error:
                refused.append(error.code)
        p.send(Note("1"), to=Address.key("k"))
        return [child, refused, await p.step(draw)]

    life = Life(World(code)).run()
    sent = [effect.message_id for effect in life.effects if hasattr(effect, "message_id")]
    assert life.value[0] == sent[1]
    assert life.value[1] == ["definition", "payload-unencodable"]
    assert len(set(sent)) == 3
    assert all(id.startswith("pd-") and len(id) == 35 for id in sent)


def test_a_step_that_fails_for_its_output_is_told_from_one_that_raises() -> None:
    async def code(p: Diary) -> str:
        try:
            return str(await p.step(object, retry=Retry(max_attempts=3)))
        except StepOutputInvalid as error:
            return error.code

    assert Life(World(code)).run().value == "step-output-invalid"
