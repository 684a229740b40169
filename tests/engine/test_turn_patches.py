"""Changed code, and what it is changed with: patches, options of steps, chance. What contradicts the record is found by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from perdure.conversations.events import Event, Patched, StepAttemptFailed, StepBegun, StepCompleted
from perdure.engine.operation import Operation, StepOptions
from perdure.engine.replay import mismatch
from perdure.engine.retry import Retry
from perdure.engine.steps import NotDone
from perdure.errors import NondeterministicTurn, StepOutcomeUnknown, UsageError
from tests.engine.careful import CarefulLife, CarefulWorld
from tests.engine.programs import draw, fetch, trace
from tests.engine.turns import Commit, Diary, Handler, Life, World, recorded_by

SEEDS = range(6)
Part = Callable[[Diary], Coroutine[Any, Any, Any]]


async def pay(what: str) -> str:
    return f"paid {what}"


async def look(what: str) -> str | NotDone:
    return f"found {what}"


def code(*parts: Part) -> Handler:
    """A handler of some parts, between a step and a step."""

    async def handler(p: Diary) -> list[Any]:
        got = [await p.step(fetch, "begin", name="begin")]
        for part in parts:
            got.append(await part(p))
            trace(p, got[-1])
        return [*got, await p.step(fetch, "end", name="end")]

    return handler


# --- a change, with and without a patch -----------------------------------------------------------------


async def old(p: Diary) -> Any:
    return await p.step(fetch, "a", name="old")


async def new(p: Diary) -> Any:
    p.tag("new")
    p.total += 1
    await asyncio.sleep(0.001)
    return await p.step(fetch, "a", name="new")


async def patched(p: Diary) -> Any:
    return await new(p) if p.patched("x") else await old(p)


async def patched_twice(p: Diary) -> Any:
    return await new(p) if p.patched("x") and p.patched("y") else await old(p)


async def patched_twice_otherwise(p: Diary) -> Any:
    y, x = p.patched("y"), p.patched("x")
    return await new(p) if x and y else await old(p)


async def asked_before(p: Diary) -> Any:
    p.patched("x")
    return "asked"


async def nothing(p: Diary) -> Any:
    return "asked"


async def asked_after(p: Diary) -> Any:
    got = await new(p)
    return got if p.patched("x") else "?"


async def gathered(p: Diary) -> Any:
    return await asyncio.gather(old(p), p.step(draw, name="b"), old(p), p.step(draw, name="d"))


async def gathered_patched(p: Diary) -> Any:
    answers = []

    async def changed() -> Any:
        answers.append(p.patched("x"))
        return await patched(p)

    async def later() -> Any:
        got = await p.step(draw, name="b")
        answers.append(p.patched("x"))
        return got

    got = await asyncio.gather(changed(), later(), changed(), p.step(draw, name="d"))
    assert len(set(answers)) == 1
    return got


async def claims(p: Diary) -> Any:
    await p.bind("k")
    return "k"


async def in_rounds(p: Diary) -> Any:
    return [await p.step(fetch, "old", name=f"round {number}") for number in range(4)]


async def in_rounds_patched(p: Diary) -> Any:
    return [await p.step(fetch, "new" if p.patched(f"x/{number}") else "old", name=f"round {number}") for number in range(4)]


# --- options ----------------------------------------------------------------------------------------------


def paying(what: str = "a", **options: Any) -> Part:
    async def part(p: Diary) -> Any:
        try:
            return await p.step(pay, what, name="pay", **options)
        except StepOutcomeUnknown:
            return "nobody knows"

    return part


# --- chance -------------------------------------------------------------------------------------------------


async def thrown(p: Diary) -> Any:
    return [await p.step(fetch, f"{p.random().random()}", name="thrown"), await p.step(fetch, str(p.uuid()), name="named")]


async def thrown_once_more(p: Diary) -> Any:
    p.random().random()
    return await thrown(p)


async def named_once_more(p: Diary) -> Any:
    p.uuid()
    return await thrown(p)


async def looked_at_the_time(p: Diary) -> Any:
    assert p.now().tzinfo is not None
    return await thrown(p)


class Edit(NamedTuple):
    """One change. It contradicts every record that holds one of the names `since`; of what was begun, if it has no end."""

    name: str
    was: Handler
    now: Handler
    since: frozenset[str] = frozenset()


EDITS = (
    Edit("changed without a patch", code(old), code(new), frozenset({"begin"})),
    Edit("changed with a patch", code(old), code(patched)),
    Edit("changed with a patch, in a gather", code(gathered), code(gathered_patched)),
    Edit("changed with a patch for each round", code(in_rounds), code(in_rounds_patched)),
    Edit("changed with a patch, right after a key", code(claims, old), code(claims, patched)),
    Edit("patch where nobody has been", code(), code(patched)),
    Edit("patch stays", code(patched), code(patched)),
    Edit("patch taken out, the new way stays", code(patched), code(new)),
    Edit("patch taken out, the old way stays", code(patched), code(old), frozenset({"asyncio.timer", "new", "x"})),
    Edit("second patch beside the first", code(patched), code(patched_twice), frozenset({"x"})),
    Edit("patches asked for in another order", code(patched_twice), code(patched_twice_otherwise)),
    Edit("patch asked for earlier", code(nothing, patched), code(asked_before, patched)),
    Edit("patch asked for earlier by a step", code(old, patched), code(patched, patched), frozenset({"x"})),
    Edit("patch asked for later", code(patched), code(asked_after)),
    Edit("at_most_once taken away", code(paying(at_most_once=True)), code(paying()), frozenset({"begun"})),
    Edit("at_most_once added", code(paying()), code(paying(at_most_once=True))),
    Edit("arguments of what was begun", code(paying(at_most_once=True)), code(paying("b", at_most_once=True)), frozenset({"pay", "begun"})),
    Edit("probe added", code(paying(at_most_once=True)), code(paying(at_most_once=True, probe=look))),
    Edit("probe taken away", code(paying(at_most_once=True, probe=look)), code(paying(at_most_once=True))),
    Edit("timeout added", code(paying()), code(paying(timeout=9))),
    Edit("timeout taken away", code(paying(timeout=9, retry=Retry())), code(paying(retry=Retry()))),
    Edit("begun became a receive", code(paying(at_most_once=True)), code(new), frozenset({"pay", "begun"})),
    Edit("one more throw before", code(thrown), code(thrown_once_more), frozenset({"thrown"})),
    Edit("one more id before", code(thrown), code(named_once_more), frozenset({"named"})),
    Edit("one more look at the time", code(thrown), code(looked_at_the_time)),
)


def names_in(prefix: list[Commit]) -> set[str]:
    names: set[str] = set()
    for _, event in recorded_by(prefix):
        if isinstance(event, StepBegun):
            names.add("begun")
        elif isinstance(event, Event):
            names.add(event.name)  # type: ignore[union-attr]  # what a turn records has a name
            if isinstance(event, StepCompleted | StepAttemptFailed) and event.name == "pay":
                names.discard("begun")
    return names


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name.replace(" ", "-"))
def test_an_edit_is_judged_by_what_is_recorded(edit: Edit) -> None:
    met: set[str] = set()
    for seed in SEEDS:
        whole = CarefulLife(CarefulWorld(edit.was, seed=seed, lags=(0,))).run()
        for crash in range(len(whole.commits)):
            prefix = whole.commits[:crash]
            now = CarefulWorld(edit.now, seed=seed, lags=(0,))
            met |= names_in(prefix)
            if edit.since & names_in(prefix):
                with pytest.raises(NondeterministicTurn, match=r"put the code back|a name of its own"):
                    CarefulLife(now, prefix)
            else:
                life = CarefulLife(now, prefix).run()
                assert life.over
                assert life.error is None
                assert CarefulLife(now, life.commits[:-1]).run().value == life.value, "and once more"
    assert edit.since <= met


# --- patches, one by one ------------------------------------------------------------------------------------


def test_a_new_turn_takes_the_new_way_and_keeps_to_it() -> None:
    world = World(code(patched), lags=(0,))
    whole = Life(world).run()
    assert [event.name for _, event in whole.events if isinstance(event, Patched)] == ["x"]
    for crash in range(len(whole.commits)):
        assert Life(world, whole.commits[:crash]).run().outcome == whole.outcome


def test_a_turn_that_waits_right_where_the_patch_is_goes_on_the_old_way() -> None:
    was = Life(World(code(old), lags=(0,)))
    while "begin" not in names_in(was.commits):
        was.go_on()
    was.turn.leave()
    now = World(code(patched), lags=(0,))

    life = Life(now, was.commits).run()

    assert "new" not in names_in(life.commits)
    assert not any(isinstance(event, Patched) for _, event in life.events)


def test_one_name_has_one_answer_in_a_turn_wherever_it_is_asked() -> None:
    was = Life(World(code(old, nothing), lags=(0,)))
    while "begin" not in names_in(was.commits):
        was.go_on()
    was.turn.leave()

    async def asks_again(p: Diary) -> Any:
        return p.patched("x")

    life = Life(World(code(patched, asks_again), lags=(0,)), was.commits).run()

    assert life.value[2] is False, "it was asked for before where the turn had been"


def test_what_follows_a_patch_begins_when_the_patch_is_durable() -> None:
    async def handler(p: Diary) -> str:
        return await p.step(draw) if p.patched("x") else ""

    life = Life(World(handler, lags=(500,)))
    assert [[type(event) for _, event in recorded_by([commit])] for commit in life.commits] == [[Patched]]
    assert life.started == []
    assert life.run().started == ["draw"]


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", 7])
def test_the_name_of_a_patch_is_checked(name: Any) -> None:
    async def handler(p: Diary) -> bool:
        return p.patched(name)

    assert isinstance(Life(World(handler)).run().error, UsageError)


# --- texts ----------------------------------------------------------------------------------------------------


def test_the_difference_is_said_of_what_was_begun() -> None:
    begun = StepBegun("m", "x", "f(1)")
    plain, once, other = Operation("x", "step"), Operation("x", "step"), Operation("x", "receive")
    once.options = StepOptions(at_most_once=True)
    once.input = "f(2)"

    assert mismatch(begun, 5, plain, ["x"]) == (
        "step 'x' was begun to run at most once and has no end, the code asks for it without at_most_once=True"
    )
    assert mismatch(begun, 5, once, ["x"]) == "step 'x' was recorded for f(1), the code calls f(2)"
    assert mismatch(begun, 5, other, ["x"]) == "'x' was recorded as a step, the code asks for a receive"
    assert mismatch(begun, 5, None, ["y"]) == "recorded 'x' was not reached; the code waits for ['y']"
    once.input = "f(1)"
    assert mismatch(begun, 5, once, ["x"]) is None


def test_a_patch_that_is_asked_for_earlier_is_told_to_take_another_name() -> None:
    whole = Life(World(code(old, patched), lags=(0,))).run()
    now = World(code(patched, patched), lags=(0,))
    with pytest.raises(
        NondeterministicTurn, match=r"patched\('x'\) was recorded here, the code asks for it earlier; give the earlier place"
    ):
        Life(now, whole.commits[:-1])


async def several_answers(p: Diary) -> list[str]:
    async def one(key: str) -> str:
        await p.bind(key)
        return await p.step(fetch, key) if p.patched(f"change {key}") else "old"

    return [*await asyncio.gather(one("a"), one("b"), one("c"))]


async def an_answer_that_nobody_waits_for(p: Diary) -> list[str]:
    index, _ = await p.first(p.bind("a"), p.bind("b"))
    return [str(index), await p.step(fetch, "x") if p.patched("change") else "old"]


@pytest.mark.parametrize("run", [several_answers, an_answer_that_nobody_waits_for])
def test_a_patch_is_found_again_behind_the_answers_about_keys_that_came_with_the_one_before_it(run: Handler) -> None:
    whole = Life(World(run)).run()
    assert whole.error is None
    after_the_patch = range(2, len(whole.commits))
    assert after_the_patch, "it is committed"
    for crash in after_the_patch:
        again = Life(World(run), whole.commits[:crash], knows_timers=False).run()
        assert again.error is None
        assert again.outcome[0] == whole.outcome[0]
