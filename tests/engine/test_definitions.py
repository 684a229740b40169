"""What a definition gives: types that stay what they were, apps that know nothing of one another, fields that are checked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from perdure import App, Process, on
from perdure.errors import PayloadTooLarge, UnknownProcessType
from perdure.limits import FIELDS_MAX, FIELDS_WARN
from tests.engine.conftest import Running
from tests.engine.orders import only_process


class Write(msgspec.Struct, tag="write"):
    size: int


async def double(number: int) -> int:
    return 2 * number


class Stub:
    """What a unit test gives to a handler in the place of a process."""

    async def step(self, function: Callable[..., Any], *args: Any) -> Any:
        return await function(*args)


async def test_what_is_decorated_is_returned_unchanged_and_can_be_tested_alone() -> None:
    app = App("plain")

    async def twice(p: Process, number: int) -> int:
        return await p.step(double, number)

    async def write(page: Process, message: Write) -> int:
        return await page.step(double, message.size)

    marked = on(Write, start=True)(write)

    class Page(Process):
        handle = marked

    assert app.process(twice) is twice
    assert marked is write
    assert app.process(on_error="park")(Page) is Page
    stub: Any = Stub()
    assert (await twice(stub, 2), await write(stub, Write(3))) == (4, 6)


async def test_two_apps_in_one_program_do_not_know_of_one_another(running: Running) -> None:
    one, other = App("one"), App("other")

    async def hello(p: Process) -> str:
        return "hello"

    one.process(hello)

    async with running(one) as engine:
        assert await engine.call(hello, id="a") == "hello"
    async with running(other) as engine:
        with pytest.raises(UnknownProcessType, match="app 'other' has no handler"):
            await engine.call(hello, id="b")


async def test_a_field_that_is_not_there_is_an_attribute_error_and_nothing_is_kept(running: Running) -> None:
    app = App("typo")

    @app.process
    class Page(Process):
        text: str = ""

        @on(Write, start=True, on_error="fail_turn")
        async def write(self, message: Write) -> None:
            self.text = "half"
            self.txet = "typo"

    async with running(app) as engine:
        with pytest.raises(AttributeError, match="txet"):
            await engine.call(Page.write, Write(1))
        assert (await only_process(engine, "Page")).fields == {"text": ""}


async def test_fields_over_64_kib_are_warned_about_once_and_over_1_mib_refused(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    app = App("large")

    @app.process
    class Page(Process):
        text: str = ""

        @on(Write, start=True, key=lambda _message: "page", on_error="fail_turn")
        async def write(self, message: Write) -> int:
            self.text = "x" * message.size
            return message.size

    def warnings() -> int:
        return sum("durable fields of Page" in record.message for record in caplog.records if record.levelno == logging.WARNING)

    async with running(app) as engine:
        assert await engine.call(Page.write, Write(FIELDS_WARN - 100)) == FIELDS_WARN - 100
        assert warnings() == 0
        for _ in range(2):
            await engine.call(Page.write, Write(FIELDS_WARN))
        assert warnings() == 1

        with pytest.raises(PayloadTooLarge, match="durable fields of Page"):
            await engine.call(Page.write, Write(FIELDS_MAX))

        await asyncio.sleep(0)
        assert len((await only_process(engine, "Page")).fields["text"]) == FIELDS_WARN
