"""What a turn does with replies, and the verbs that wait for several things at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from perdure.conversations.events import ReplyArrived
from perdure.engine.addressing import Address
from perdure.engine.effects import AskEffect
from perdure.engine.process import Process
from perdure.errors import DeadlockedTurn, NondeterministicTurn, NotAwaited, PayloadTooLarge, ReplyTooLate, UsageError
from tests.engine.askers import ask_races_a_timer, calls_in_a_gather, child
from tests.engine.programs import Note, draw, trace
from tests.engine.turns import Diary, Letter, Life, World


def answered(life: Life) -> list[str]:
    return [event.name for _, event in life.events if isinstance(event, ReplyArrived)]


def test_a_reply_is_recorded_as_an_input_and_not_asked_for_again() -> None:
    life = Life(World(calls_in_a_gather, seed=3)).run()

    assert sorted(answered(life)) == ["call child", "call child#2", "call child#3"]
    assert [effect.operation_id for effect in life.effects if isinstance(effect, AskEffect)] == [
        "call child",
        "call child#2",
        "call child#3",
    ]
    assert len({effect.message_id for effect in life.effects if isinstance(effect, AskEffect)}) == 3


def test_replies_that_nobody_waits_for_any_more_are_taken_out_of_the_mailbox() -> None:
    lates: list[str] = []
    for seed in range(6):
        life = Life(World(ask_races_a_timer, seed=seed)).run()

        assert life.over
        assert life.letters <= {f"reply to {effect.operation_id}" for effect in life.effects if isinstance(effect, AskEffect)}
        lates += life.letters - {f"reply to {name}" for name in answered(life)}
    assert lates


@pytest.mark.parametrize("change", ["other arguments", "a step"])
def test_a_reply_to_another_question_is_nondeterministic(change: str) -> None:
    async def before(p: Diary) -> Any:
        await p.call(child, 1)
        return await p.step(draw)

    async def after(p: Diary) -> Any:
        await (p.call(child, 2) if change == "other arguments" else p.step(draw, name="call child"))
        return await p.step(draw)

    world = World(before, seed=3)
    whole = Life(world).run()
    assert answered(whole)
    world.handler = after
    with pytest.raises(NondeterministicTurn, match="call child"):
        Life(world, whole.commits[:-1])


def test_a_call_that_is_not_awaited_sends_nothing_and_is_an_error() -> None:
    async def code(p: Diary) -> None:
        p.call(child, 1)  # type: ignore[unused-coroutine]  # that is the mistake

    life = Life(World(code)).run()

    assert isinstance(life.error, NotAwaited)
    assert life.effects == []


def test_gather_limited_runs_no_more_than_its_limit_and_keeps_the_order() -> None:
    async def code(p: Diary) -> list[int]:
        running = 0

        async def one(number: int) -> int:
            nonlocal running
            running += 1
            trace(p, running)
            await p.step(draw)
            running -= 1
            return number

        return await p.gather_limited(3, *(one(number) for number in range(10)))

    life = Life(World(code)).run()

    assert life.value == list(range(10))
    assert max(int(text) for text in life.process.log) == 3  # type: ignore[attr-defined]  # a Diary


def test_gather_limited_takes_a_limit_of_one_or_more() -> None:
    async def code(p: Diary) -> Any:
        return await p.gather_limited(0, p.step(draw))

    life = Life(World(code)).run()
    assert isinstance(life.error, UsageError)
    assert life.events == []


def test_of_those_ready_at_once_as_completed_keeps_the_order_given() -> None:
    async def ready(number: int) -> int:
        return number

    async def code(p: Diary) -> list[Any]:
        got: list[Any] = [value async for value in p.as_completed([p.step(draw), *(ready(number) for number in range(5))])]
        return got[:5]

    assert Life(World(code)).run().value == [0, 1, 2, 3, 4]


def test_until_raises_what_its_predicate_raises_and_is_stuck_when_nothing_can_make_it_true() -> None:
    async def broken(p: Diary) -> str:
        async def later() -> None:
            await p.step(draw)
            p.total = 1

        task = asyncio.ensure_future(later())
        try:
            await p.until(lambda: 1 // (1 - p.total) < 0)
        except ZeroDivisionError:
            await task
            return "raised"
        return "?"

    async def never(p: Diary) -> None:
        await p.until(lambda: False)

    assert Life(World(broken)).run().value == "raised"
    with pytest.raises(DeadlockedTurn):
        Life(World(never))


@pytest.mark.parametrize("way", ["twice", "after a step", "another object", "too large"])
def test_only_the_message_that_receive_has_just_returned_is_answered_once(way: str) -> None:
    async def code(p: Diary) -> None:
        note = await p.receive(Note)
        if way == "twice":
            p.reply(note, 1)
        elif way == "after a step":
            await p.step(draw)
        p.reply(Note(note.text) if way == "another object" else note, "x" * 2_000_000 if way == "too large" else 2)

    life = Life(World(code, letters=[Letter(1, Note("a"))])).run()
    assert isinstance(life.error, PayloadTooLarge if way == "too large" else ReplyTooLate)


def test_the_log_of_a_turn_is_silent_while_it_is_replayed(caplog: pytest.LogCaptureFixture) -> None:
    class Quiet(Process):
        pass

    async def code(p: Quiet) -> None:
        for number in range(3):
            p.log.info("round %d", number)
            await p.step(draw)

    caplog.set_level(logging.INFO, "perdure.process")
    world = World(code, process=Quiet)
    whole = Life(world).run()
    assert [record.getMessage() for record in caplog.records] == ["round 0", "round 1", "round 2"]
    assert vars(caplog.records[0])["process_id"] == "p1"
    caplog.clear()

    Life(world, whole.commits[:1]).run()

    assert [record.getMessage() for record in caplog.records] == ["round 2"], "what was said before the commit is not said again"


def test_an_ask_names_where_it_goes() -> None:
    async def code(p: Diary) -> Any:
        return await p.ask(Address.key("k"), Note("x"))

    [effect] = Life(World(code)).run().effects
    assert (str(effect.address), effect.kind, effect.child) == ("key k", "note", False)
