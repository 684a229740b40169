"""What a newcomer hands in by mistake: the text says what is expected, before anything is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest

import perdure
from perdure import Address, App, Engine, Process, Retry, open_store
from perdure.errors import PayloadInvalid, UnknownProcessType, UsageError
from tests.engine.conftest import Running


class Word(msgspec.Struct, tag="word"):
    text: str = ""


app = App("wrong")


@app.process
async def hello(p: Process, name: str) -> str:
    return f"Hello, {name}!"


@app.process
async def sends(p: Process) -> None:
    p.send(Word(), to=cast("Any", "order:1"))


@app.process
async def asks(p: Process) -> None:
    await p.ask(cast("Any", "order:1"), Word())


async def test_text_is_no_address(running: Running) -> None:
    async with running(app) as engine:
        with pytest.raises(UsageError, match=r"expected an address, found 'order:1'; write Address.key"):
            await engine.deliver(Word(), id="w", to=cast("Any", "order:1"))
        for handler in (sends, asks):
            with pytest.raises(UsageError, match="expected an address, found 'order:1'"):
                await engine.call(handler)


async def test_an_engine_takes_an_open_store_and_an_app() -> None:
    for store in ("sqlite:///:memory:", open_store("sqlite:///:memory:")):
        with pytest.raises(UsageError, match=r"Engine takes an open store, .*async with perdure.open_store"):
            Engine(cast("Any", store), app)
    async with open_store("sqlite:///:memory:") as opened:
        with pytest.raises(UsageError, match=r"expected a perdure.App, found <function hello"):
            Engine(opened, cast("Any", hello))


async def test_run_is_refused_where_a_loop_runs() -> None:
    with pytest.raises(UsageError, match=r"where one runs already, use perdure.Engine"):
        perdure.run(app, hello, "world", store="sqlite:///:memory:")


async def test_a_handler_is_named_by_its_function(running: Running) -> None:
    async with running(app) as engine:
        with pytest.raises(UnknownProcessType, match=r"expected a function process or a handler such as Order.place, found 'hello'"):
            await engine.call(cast("Any", "hello"), "world")


async def test_arguments_of_another_type_are_named_as_such(running: Running) -> None:
    async with running(app) as engine:
        with pytest.raises(PayloadInvalid, match=r"not the arguments of hello: Expected `str`, got `int` - at `\$\[0\]`"):
            await engine.call(hello, cast("Any", 3))


@pytest.mark.parametrize("name", ["initial", "factor", "maximum", "jitter"])
def test_a_retry_takes_seconds(name: str) -> None:
    with pytest.raises(UsageError, match="initial and maximum are seconds"):
        Retry(**{name: cast("Any", timedelta(seconds=1))})


async def test_an_address_is_an_address(running: Running) -> None:
    async with running(app) as engine:
        receipt = await engine.deliver(Word(), id="w", to=Address.key("order:1"))
        assert receipt.status == "parked"


async def test_an_engine_that_was_never_entered_says_how_it_is_opened() -> None:
    async with open_store("sqlite:///:memory:") as store:
        engine = Engine(store, app)
        for work in (engine.call(hello, "world"), engine.deliver(Word(), id="w", to=Address.key("order:1"))):
            with pytest.raises(UsageError, match=r"the engine is not open .*; use `async with perdure.Engine"):
                await work
