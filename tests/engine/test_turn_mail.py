"""Which message goes to which `receive`, and which to none."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure.clock import SECOND
from perdure.conversations.events import MessageTaken
from perdure.errors import UsageError
from perdure.messages.mail import Mail
from tests.engine.programs import Note, Stop, draw
from tests.engine.turns import START, Diary, Letter, Life, World


def taken(life: Life) -> list[tuple[str, str]]:
    return [(event.name, event.taken) for _, event in life.events if isinstance(event, MessageTaken)]


def test_the_oldest_message_goes_to_the_oldest_wait_for_its_kind() -> None:
    async def code(p: Diary) -> list[Any]:
        waits = [p.receive(Stop), p.receive(Note), p.receive(Note, Stop), p.receive(Note)]
        return [*await asyncio.gather(*waits)]

    letters = [Letter(100, Note("1")), Letter(100, Note("2")), Letter(5000, Stop()), Letter(9000, Stop()), Letter(9000, Note("3"))]
    life = Life(World(code, letters=letters)).run()

    assert life.value == [Stop(), Note("1"), Note("2"), Note("3")]
    assert taken(life) == [("receive#2", "mail-1"), ("receive#3", "mail-2"), ("receive", "mail-3"), ("receive#4", "mail-5")]
    assert [mail.ref for mail in life.mail] == ["mail-4"], "nobody asked for it"


def test_what_came_before_anybody_asked_is_kept_in_order() -> None:
    async def code(p: Diary) -> list[Any]:
        await p.step(draw)
        await p.sleep(1)
        return [await p.receive(Stop), await p.receive(Note), await p.receive(Note)]

    letters = [Letter(number, message) for number, message in enumerate([Note("1"), Stop(), Note("2"), Note("3")])]
    assert Life(World(code, letters=letters)).run().value == [Stop(), Note("1"), Note("2")]


def test_a_receive_ends_with_none_at_its_time_and_takes_nothing_after() -> None:
    async def code(p: Diary) -> list[Any]:
        return [
            await p.receive(Note, timeout=timedelta(seconds=2)),
            await p.receive(Note),
            await p.receive(Note, timeout=timedelta(days=1)),
        ]

    letters = [Letter(3 * SECOND, Note("late")), Letter(4 * SECOND, Note("in time"))]
    life = Life(World(code, letters=letters, lags=(0,))).run()

    assert life.value == [None, Note("late"), Note("in time")]
    assert life.events[0][0] == START + 2 * SECOND
    assert life.timers == {}, "the timer of the one that was answered is gone"


def test_only_messages_for_which_the_predicate_is_true_are_taken() -> None:
    async def code(p: Diary) -> list[Any]:
        def sly(note: Note) -> bool:
            note.text += "!"
            return note.text == "3!"

        both = asyncio.gather(p.receive(Note, where=sly), p.receive(Note, where=lambda note: len(note.text) == 1))
        return [*await both, await p.receive(Note, timeout=timedelta(seconds=9), where=lambda note: note.text == "none")]

    letters = [Letter(number, Note(str(number))) for number in range(5)]
    life = Life(World(code, letters=letters)).run()

    assert life.value == [Note("3"), Note("0"), None], "what a predicate does to its message is not seen"
    assert [mail.ref for mail in life.mail] == ["mail-2", "mail-3", "mail-5"]


def test_a_predicate_that_raises_is_the_handlers_failure() -> None:
    async def code(p: Diary) -> Any:
        return await p.receive(Note, where=lambda note: note.text > 3)

    with pytest.raises(TypeError):
        Life(World(code, letters=[Letter(0, Note("x"))])).run()


def test_a_message_that_cannot_be_read_is_put_aside_and_the_next_one_taken() -> None:
    class Torn(msgspec.Struct, tag="note"):
        text: int

    async def code(p: Diary) -> Any:
        return await p.receive(Note)

    life = Life(World(code, letters=[Letter(1, Torn(1)), Letter(2, Torn(2)), Letter(3, Note("whole"))])).run()

    assert life.value == Note("whole")
    assert [mail.ref for mail in life.undecodable] == ["mail-1", "mail-2"]
    assert not life.mail


def test_a_wait_that_was_given_up_takes_no_message() -> None:
    async def code(p: Diary) -> list[Any]:
        index, _ = await p.first(p.receive(Note), p.step(draw))
        task = asyncio.create_task(p.receive(Note))
        await asyncio.sleep(0)
        task.cancel()
        return [index, await p.receive(Note)]

    life = Life(World(code, letters=[Letter(60 * SECOND, Note("1"))])).run()
    assert life.value == [1, Note("1")]
    assert taken(life) == [("receive#3", "mail-1")]


def test_a_receive_asks_for_message_types() -> None:
    async def nothing(p: Diary) -> Any:
        return await p.receive()  # type: ignore[call-overload]  # what is tested

    async def no_type(p: Diary) -> Any:
        return await p.receive(str)

    for code in (nothing, no_type):
        assert isinstance(Life(World(code)).run().error, UsageError)


def test_mail_of_the_window_is_shared_with_the_next_turn() -> None:
    async def code(p: Diary) -> Any:
        return await p.receive(Note)

    life = Life(World(code, letters=[Letter(0, Stop()), Letter(0, Note("x"))])).run()
    assert [type(mail) for mail in life.mail] == [Mail]
