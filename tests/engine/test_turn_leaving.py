"""A turn that leaves memory: its code is let go, nothing is recorded, and what it was is what it will be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from perdure import limits
from perdure.engine.addressing import Address, TurnId
from perdure.engine.loop import TurnLeft
from perdure.engine.turn import Turn
from tests.engine.programs import NOTES, OWNERS, PROGRAMS, Note, Program, draw
from tests.engine.turns import Diary, Life, World

Code = Callable[[Diary], Coroutine[Any, Any, Any]]


def left(code: Code) -> Life:
    """Run the code until it waits, and let it leave."""
    life = Life(World(code))
    commits = list(life.commits)
    life.turn.leave()
    assert life.commits == commits
    return life


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_turn_may_leave_at_any_moment_and_goes_on_as_if_it_had_not(program: Program) -> None:
    world = World(program, seed=5, letters=NOTES, owners=OWNERS, lags=(0,))
    whole = Life(world).run()
    moments = 0
    while True:
        life = Life(world)
        for _ in range(moments):
            life.go_on()
        if life.over:
            break
        life.turn.leave()
        assert not [task for task in life.turn.loop.tasks if not task.done()]
        assert Life(world, life.commits).run().outcome == whole.outcome
        moments += 1
    assert moments


def test_finally_and_except_run_and_every_verb_in_them_raises() -> None:
    said: list[object] = []
    verbs: list[Callable[[Diary], Any]] = [
        lambda p: p.step(draw),
        lambda p: p.receive(Note),
        lambda p: p.sleep(1),
        lambda p: p.bind("k"),
        lambda p: p.tag("t"),
        lambda p: p.send(Note("n"), Address.key("k")),
        lambda p: p.finish(1),
        lambda _p: asyncio.sleep(1),
    ]

    async def one(p: Diary, verb: Callable[[Diary], Any]) -> None:
        try:
            await p.step(draw)
        except asyncio.CancelledError:
            try:
                call = verb(p)
                await call
            except Exception as error:  # noqa: BLE001  # none of them may come here
                said.append(error)
            except TurnLeft:
                said.append("left")
            raise
        finally:
            said.append(p.leaving)

    async def code(p: Diary) -> None:
        p.log.append("open")
        await asyncio.gather(*(one(p, verb) for verb in verbs))

    life = left(code)
    assert said.count("left") == said.count(True) == len(verbs)
    assert len(said) == 2 * len(verbs)
    assert len(life.cancelled) == len(verbs), "the steps that run are cancelled"
    assert not life.turn.produced.effects


async def swallows(p: Diary) -> None:
    never = asyncio.Event()
    running = asyncio.create_task(p.step(draw))
    while not never.is_set():
        try:
            await never.wait()
        except asyncio.CancelledError:
            p.log.append(str(running.done()))


async def polls(p: Diary) -> None:
    try:
        await p.step(draw)
    finally:
        while True:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                p.total += 1


@pytest.mark.parametrize("code", [swallows, polls], ids=lambda code: code.__name__)
def test_code_that_will_not_go_is_stopped(code: Code, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limits, "TURN_CALLBACKS_MAX", 1_000)
    monkeypatch.setattr(limits, "LEAVE_ROUNDS", 10)

    life = left(code)

    assert life.started
    assert not [task for task in life.turn.loop.tasks if task.get_coro().cr_frame is not None]  # type: ignore[union-attr]
    assert "catches every cancellation" in caplog.text


def test_leaving_twice_or_before_anything_ran_does_no_harm() -> None:
    life = left(swallows_nothing)
    life.turn.leave()

    ran: list[str] = []

    async def code() -> None:
        ran.append("ran")

    fresh = Turn(TurnId("acme", "p1", "m"), now=0, clock=lambda: 0, request=life.turn.request)
    fresh.begin(code())
    fresh.leave()
    assert not ran


async def swallows_nothing(p: Diary) -> None:
    await p.receive(Note, timeout=timedelta(days=1))


def test_calls_that_were_never_awaited_are_closed_without_a_warning() -> None:
    async def code(p: Diary) -> None:
        later = [p.step(draw), p.receive(Note), p.sleep(3), p.bind("k")]
        await p.sleep(1)
        await asyncio.gather(*later)

    left(code)


def test_a_generator_is_closed_when_its_reader_leaves() -> None:
    closed: list[object] = []

    async def code(p: Diary) -> None:
        async def pages() -> AsyncIterator[str]:
            try:
                while True:
                    yield await p.step(draw)
                    await p.receive(Note)
            finally:
                try:
                    await p.step(draw)
                except TurnLeft:
                    closed.append("left")
                    raise

        async for _ in pages():
            pass

    life = Life(World(code)).run()
    life.turn.leave()
    assert closed == ["left"]


def test_a_handler_that_ends_takes_its_tasks_along() -> None:
    ended: list[str] = []

    async def child(p: Diary) -> None:
        try:
            await p.receive(Note, timeout=timedelta(days=1))
        finally:
            ended.append("ended")

    async def code(p: Diary) -> str:
        p.log.append(str(asyncio.create_task(child(p)).done()))
        return await p.step(draw)

    life = Life(World(code)).run()
    assert life.over
    assert ended == ["ended"]
    assert not life.timers, "its timers are gone"


def test_asyncio_keeps_no_list_of_the_tasks_of_turns() -> None:
    """Tasks of all turns have the same few hashes: in one set they would make every new task slower than the one before."""
    life = Life(World(swallows_nothing))
    assert life.turn.loop.tasks
    assert not asyncio.all_tasks(life.turn.loop)
    life.turn.leave()
