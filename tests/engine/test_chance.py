"""Time, random numbers and ids of a turn: its own, the same on every replay, also over a restart and in a copy."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Process, VirtualClock
from perdure.engine.addressing import TurnId
from perdure.engine.chance import Chance
from tests.engine.conftest import Running
from tests.engine.orders import reaches
from tests.engine.programs import draw
from tests.engine.turns import START, Diary, Life, World

SECOND = 1_000_000


class Go(msgspec.Struct, tag="go"):
    pass


def test_each_part_of_the_name_of_a_turn_makes_other_numbers_and_ids() -> None:
    turns = [TurnId("a", "p", "m"), TurnId("b", "p", "m"), TurnId("a", "q", "m"), TurnId("a", "p", "n"), TurnId("a", "pm", "")]
    made = [Chance(turn) for turn in turns]

    assert len({chance.random.random() for chance in made}) == len(turns)
    ids = [chance.uuid() for chance in made for _ in range(3)]
    assert len(set(ids)) == 3 * len(turns)
    assert {id.version for id in ids} == {5}
    assert Chance(turns[0]).uuid() == ids[0]


def test_the_numbers_of_a_turn_are_these() -> None:
    """Turns that are open while Perdure changes have to see them again."""
    chance = Chance(TurnId("acme", "p1", "m"))
    assert chance.random.random() == 0.6652272601151746
    assert str(chance.uuid()) == "3f668d25-5c57-56e0-b3b3-7b03fa7af039"


def test_one_generator_goes_on_and_ids_are_never_given_twice() -> None:
    async def code(p: Diary) -> list[Any]:
        numbers = [p.random().random() for _ in range(5)]
        await p.step(draw)
        return [*numbers, p.random().random(), *(str(p.uuid()) for _ in range(5))]

    assert len(set(Life(World(code)).run().value)) == 11


def test_the_time_is_that_of_what_happened_last() -> None:
    async def code(p: Diary) -> list[timedelta]:
        begun = p.now()
        assert begun.tzinfo is UTC
        await asyncio.sleep(10)
        return [begun - datetime(1970, 1, 1, tzinfo=UTC), p.now() - begun]

    assert Life(World(code, lags=(0,))).run().value == [timedelta(microseconds=START), timedelta(seconds=10)]


async def test_a_restart_changes_neither_time_nor_chance(running: Running, clock: VirtualClock) -> None:
    seen: list[list[str]] = []

    def app() -> App:
        made = App("chance")

        @made.process
        async def job(p: Process) -> list[str]:
            got = [str(p.now()), str(p.random().random()), str(p.uuid())]
            await p.sleep(1)
            got += [str(p.now()), str(p.random().random()), str(p.uuid())]
            seen.append(got)
            await p.receive(Go)
            return [*got, str(p.random().random()), str(p.patched("x"))]

        return made

    first = app()
    async with running(first) as engine:
        call = asyncio.ensure_future(engine.call(first.type_named("job").target, id="j"))
        await reaches(engine, "j", "waiting")
        clock.advance(3 * SECOND)
        await asyncio.sleep(0)
        await reaches(engine, "j", "waiting")
    await asyncio.gather(call, return_exceptions=True)
    clock.advance(100 * SECOND)
    again = app()
    async with running(again) as engine:
        await engine.deliver(Go(), id="go", to=Address.process("j"))
        result = await engine.call(again.type_named("job").target, id="j")
    assert seen[0] == seen[-1] == result[:6]
    assert result[-1] == "True"


async def test_a_copy_repeats_what_it_copied_and_then_has_chance_of_its_own(running: Running) -> None:
    app = App("copies")
    broken = [True]
    seen: list[list[str]] = []

    async def fails() -> str:
        if broken:
            raise ValueError("not yet")
        return "done"

    @app.process
    async def job(p: Process) -> list[str]:
        way = "new" if p.patched("x") else "old"
        got = [str(p.random().random()), str(p.uuid())]
        await p.step(draw, name="first")
        seen.append([way, *got])
        return [await p.step(fails), str(p.random().random()), str(p.uuid())]

    async with running(app) as engine:
        with pytest.raises(ValueError, match="not yet"):
            await engine.call(job, id="j")
        broken.clear()
        await engine.fork("fails", "j", id="k")
        await reaches(engine, "k", "ended")
        again = await engine.restart_from("fails", "j")
        await reaches(engine, "j", "ended")
        replies = [(await engine.explain(id)).reply for id in ("k", again)]
    assert seen[0][0] == "new"
    assert seen[0] == seen[1] == seen[2]
    assert replies[0] != replies[1]


def test_a_turn_is_named_by_the_id_of_its_message_and_its_source() -> None:
    assert str(TurnId("t", "p", "m")) == "process p (t), message m"
    assert str(TurnId("t", "p", "bank\nm")) == "process p (t), message m of bank"
