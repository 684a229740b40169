"""Code that raises what is no Exception: it fails, and the engine goes on."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from perdure import Address, App, Process
from perdure.errors import StepFailed, TurnFailed
from tests.engine.conftest import Running
from tests.engine.orders import holds, reaches


class Word(msgspec.Struct, tag="word"):
    text: str = ""


class Abort(BaseException):
    """No Exception: what some test tools and cancel scopes raise."""


async def test_a_handler_that_raises_no_exception_fails_and_the_engine_goes_on(running: Running) -> None:
    app = App("aborts")

    @app.process
    async def aborts(p: Process) -> None:
        await p.step(asyncio.sleep, 0)
        raise Abort("away")

    @app.process
    async def fine(p: Process) -> int:
        return 1

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(aborts, id="a"))
        await holds(call.done)
        with pytest.raises(TurnFailed, match="Abort: away"):
            await call
        assert await engine.call(fine) == 1


@pytest.mark.parametrize("kind", [Abort, GeneratorExit])
async def test_a_step_that_raises_no_exception_has_failed(running: Running, kind: type[BaseException]) -> None:
    app = App("aborts")

    async def aborts() -> None:
        raise kind("away")

    @app.process
    async def asks(p: Process) -> str:
        try:
            await p.step(aborts)
        except StepFailed as error:
            return str(error)
        return "no"

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(asks, id="a"))
        await holds(call.done)
        assert await call == f"{kind.__name__}: away"


async def test_a_predicate_that_raises_no_exception_fails_its_turn_and_the_engine_goes_on(running: Running) -> None:
    app = App("aborts")

    def picky(_word: Word) -> bool:
        raise Abort("away")

    @app.process
    async def asks(p: Process) -> None:
        await p.receive(Word, where=picky)

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(asks, id="a"))
        await reaches(engine, "a", "waiting")
        await engine.deliver(Word(), id="w", to=Address.process("a"))
        await holds(call.done)
        with pytest.raises(TurnFailed, match="Abort: away"):
            await call
