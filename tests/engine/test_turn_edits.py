"""Changed code under an open turn: what contradicts the record is found before anything is written, the rest goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from perdure.conversations.events import Bound, Event, MessageTaken, StepAttemptFailed, StepCompleted, TimerFired
from perdure.engine.addressing import Address
from perdure.engine.operation import Kind, Operation
from perdure.engine.replay import mismatch
from perdure.errors import NondeterministicTurn
from tests.engine.programs import Note, fetch
from tests.engine.turns import Commit, Diary, Handler, Letter, Life, World, recorded_by

SEEDS = range(4)
LATE = timedelta(milliseconds=50)
Part = Callable[[Diary], Coroutine[Any, Any, Any]]


class Approve(msgspec.Struct, tag="approve"):
    by: str


class Reject(msgspec.Struct, tag="reject"):
    by: str


async def weigh(what: str) -> int:
    return len(what)


async def measure(what: str) -> int:
    return len(what)


# --- the code as it was -----------------------------------------------------------------------------


async def opening(p: Diary) -> str:
    p.total = 1
    p.send(Note("begun"), Address.key("audit"))
    return await p.step(fetch, "a")


async def middle(p: Diary) -> list[Any]:
    got = await asyncio.gather(p.step(fetch, "b", name="b"), p.step(weigh, "c", name="c"))
    p.total += 10
    return [*got]


async def answer(p: Diary) -> Any:
    return await p.receive(Approve, timeout=LATE)


async def ending(p: Diary) -> str:
    await asyncio.sleep(0.02)
    await p.step(fetch, "d", name="last")
    return await p.step(fetch, "end", name="end")


def code(opening: Part = opening, middle: Part = middle, answer: Part = answer, ending: Part = ending) -> Handler:
    async def handler(p: Diary) -> list[Any]:
        return [await opening(p), await middle(p), await answer(p), await ending(p)]

    return handler


# --- the code as it is now --------------------------------------------------------------------------


async def renamed(p: Diary) -> str:
    p.total = 1
    p.send(Note("begun"), Address.key("audit"))
    return await p.step(fetch, "a", name="fetch a")


async def inserted_before(p: Diary) -> str:
    p.total = 1
    p.send(Note("begun"), Address.key("audit"))
    await p.step(weigh, "new")
    return await p.step(fetch, "a")


async def inserted_after(p: Diary) -> str:
    await p.step(weigh, await opening(p))
    return "weighed"


async def inserted_at_the_end(p: Diary) -> str:
    return await p.step(fetch, await ending(p), name="after the last")


async def other_arguments(p: Diary) -> str:
    p.total = 1
    p.send(Note("begun"), Address.key("audit"))
    return await p.step(fetch, "A")


async def same_name_before(p: Diary) -> str:
    p.total = 1
    p.send(Note("begun"), Address.key("audit"))
    await p.step(fetch, "new")
    return await p.step(fetch, "a")


async def extra_send(p: Diary) -> str:
    p.send(Note("beginning"), Address.key("audit"))
    return await opening(p)


async def no_send(p: Diary) -> str:
    p.total = 1
    return await p.step(fetch, "a")


async def other_field(p: Diary) -> str:
    p.total = 2
    p.send(Note("begun"), Address.key("audit"))
    return await p.step(fetch, "a")


async def removed(p: Diary) -> list[Any]:
    got = await p.step(weigh, "c", name="c")
    p.total += 10
    return [got]


async def other_function(p: Diary) -> list[Any]:
    got = await asyncio.gather(p.step(fetch, "b", name="b"), p.step(measure, "c", name="c"))
    p.total += 10
    return [*got]


async def swapped(p: Diary) -> list[Any]:
    got = await asyncio.gather(p.step(weigh, "c", name="c"), p.step(fetch, "b", name="b"))
    p.total += 10
    return [*got]


async def by_number(p: Diary) -> list[Any]:
    return [*await asyncio.gather(p.step(fetch, "b"), p.step(fetch, "c"))]


async def by_number_swapped(p: Diary) -> list[Any]:
    return [*await asyncio.gather(p.step(fetch, "c"), p.step(fetch, "b"))]


async def timed_steps(p: Diary) -> list[Any]:
    async with asyncio.timeout(10):
        return await middle(p)


async def other_kind(p: Diary) -> Any:
    return await p.receive(Reject, timeout=LATE)


async def one_more_kind(p: Diary) -> Any:
    return await p.receive(Reject, Approve, timeout=LATE)


async def no_timeout(p: Diary) -> Any:
    return await p.receive(Approve)


async def longer_timeout(p: Diary) -> Any:
    return await p.receive(Approve, timeout=3 * LATE)


async def timed_sleep(p: Diary) -> str:
    async with asyncio.timeout(10):
        return await ending(p)


async def slept(p: Diary) -> str:
    await asyncio.sleep(0.02)
    await p.sleep(0.01)
    return await p.step(fetch, "end", name="end")


async def claims(p: Diary) -> str:
    await p.bind("a")
    return "a"


async def claims_another(p: Diary) -> str:
    await p.bind("b")
    return "b"


async def ends_at_once(p: Diary) -> None:
    p.total = 7


class Edit(NamedTuple):
    """One change. It contradicts every record that holds one of the names `since`; from the first commit if that holds ''."""

    name: str
    now: Handler
    since: frozenset[str] = frozenset()
    was: Handler = code()


def returns_early() -> Handler:
    async def handler(p: Diary) -> list[Any]:
        return [await opening(p), await middle(p)]

    return handler


ANSWERED = (Letter(40_000, Reject("ann")), Letter(41_000, Approve("bob")), Letter(200_000, Approve("eve")))
EDITS = (
    Edit("nothing", code()),
    Edit("step renamed", code(renamed), frozenset({"fetch"})),
    Edit("step removed", code(middle=removed), frozenset({"b", "c"})),
    Edit("step inserted before", code(inserted_before), frozenset({"fetch"})),
    Edit("step inserted after", code(inserted_after), frozenset({"b", "c"})),
    Edit("step inserted at the end", code(ending=inserted_at_the_end)),
    Edit("arguments changed", code(other_arguments), frozenset({"fetch"})),
    Edit("function changed under the same name", code(middle=other_function), frozenset({"c"})),
    Edit("order in a gather swapped", code(middle=swapped)),
    Edit("numbered order in a gather swapped", code(middle=by_number_swapped), frozenset({"fetch#2", "fetch#3"}), code(middle=by_number)),
    Edit("receive of another kind", code(answer=other_kind), frozenset({"taken"})),
    Edit("receive of one more kind", code(answer=one_more_kind)),
    Edit("step became sleep", code(ending=slept), frozenset({"last"})),
    Edit("sleep became step", code(), frozenset({"sleep"}), code(ending=slept)),
    Edit("extra send before the open step", code(extra_send), frozenset({""})),
    Edit("send removed", code(no_send), frozenset({""})),
    Edit("durable field computed differently", code(other_field), frozenset({""})),
    Edit("handler returns earlier", returns_early(), frozenset({"receive"})),
    Edit("handler returns at once", ends_at_once, frozenset({""})),
    Edit("handler goes on", code(), frozenset(), returns_early()),
    Edit("key changed", code(answer=claims_another), frozenset({"bind"}), code(answer=claims)),
    Edit("timeout removed", code(answer=no_timeout), frozenset({"expired"})),
    Edit("timeout added", code(), frozenset(), code(answer=no_timeout)),
    Edit("timeout longer", code(answer=longer_timeout)),
    Edit("timeout around a sleep", code(ending=timed_sleep), frozenset({"asyncio.timer"})),
    Edit("timeout around steps", code(middle=timed_steps), frozenset({"asyncio.timer"})),
    Edit("duplicate step name added before", code(same_name_before), frozenset({"fetch"})),
)


def names_in(prefix: list[Commit]) -> set[str]:
    names = {""} if prefix else set()
    for _, event in recorded_by(prefix):
        names.add(event.name)
        if event.name == "receive":
            names.add("taken" if isinstance(event, MessageTaken) else "expired")
    return names


@pytest.mark.parametrize("letters", [ANSWERED, ()], ids=["answered", "expired"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name.replace(" ", "-"))
def test_an_edit_is_judged_by_what_is_recorded(edit: Edit, letters: tuple[Letter, ...]) -> None:
    for seed in SEEDS:
        whole = Life(World(edit.was, seed=seed, letters=letters)).run()
        whole.turn.leave()
        now = World(edit.now, seed=seed, letters=letters)
        for crash in range(len(whole.commits)):
            prefix = whole.commits[:crash]
            if edit.since & names_in(prefix):
                with pytest.raises(NondeterministicTurn, match="put the code back"):
                    Life(now, prefix)
            else:
                life = Life(now, prefix).run()
                assert life.over or life.turn.awaits, "it goes on, to the end or to a message that does not come"
                life.turn.leave()
                assert life.error is None
                assert not life.over or not life.timers, "no timer is left in the store"


def test_the_harmful_edits_are_met() -> None:
    """Each contradiction of the table occurs: no edit is called harmful in vain."""
    for edit in EDITS:
        met: set[str] = set()
        for letters in (ANSWERED, ()):
            for seed in SEEDS:
                life = Life(World(edit.was, seed=seed, letters=letters)).run()
                life.turn.leave()
                met |= names_in(life.commits[:-1])
        assert edit.since <= met, edit.name


@pytest.mark.parametrize(
    ("event", "kind", "says"),
    [
        (StepCompleted("m", 0, b"1", "x", "f(1)"), "step", "step 'x' was recorded for f(1), the code calls f(2)"),
        (StepCompleted("m", 0, b"1", "x", "f(2)"), "timer", "'x' was recorded as a step, the code asks for a timer"),
        (StepAttemptFailed("m", "x", 1, b"{}", 9), "receive", "'x' was recorded as a step, the code asks for a receive"),
        (MessageTaken("m", "x", "m2", "approve", b"{}"), "bind", "'x' was recorded as a receive, the code asks for a bind"),
        (MessageTaken("m", "x", "m2", "approve", b"{}"), "receive", "'x' took a 'approve', the code asks for []"),
        (Bound("m", "x", "k"), "step", "'x' was recorded as a bind, the code asks for a step"),
        (Bound("m", "x", "k"), "bind", "'x' was recorded for the key 'k', the code asks for ''"),
        (TimerFired("m", "x"), "step", "'x' was recorded with a timer, the code waits without one"),
    ],
)
def test_the_difference_is_said(event: Event, kind: Kind, says: str) -> None:
    operation = Operation("x", kind)
    operation.input = "f(2)"
    assert mismatch(event, 5, operation, ["x"]) == says
    assert mismatch(event, 5, None, ["b", "a"]) == "recorded 'x' was not reached; the code waits for ['a', 'b']"
