"""What a handler assigns to a durable field has to be what the field is declared as: nobody could read it afterwards."""

from __future__ import annotations

import msgspec
import pytest

from perdure import App, Process, on, query
from perdure.errors import PayloadInvalid
from tests.engine.conftest import Running


class Put(msgspec.Struct, tag="put"):
    value: int | str
    wait: bool = False


async def nothing() -> None:
    return None


def app_of() -> App:
    app = App("fields")

    @app.process
    class Shelf(Process):
        value: str = "empty"

        @on(Put, start=True, key=lambda _: "shelf", on_error="fail_turn")
        async def put(self, message: Put) -> str:
            self.value = message.value  # type: ignore[assignment]  # what a program without a type checker does
            if message.wait:
                await self.step(nothing)
                self.value = "put right"
            return self.value

        @query
        def what(self) -> str:
            return self.value

    return app


@pytest.mark.parametrize("wait", [False, True])
async def test_a_field_that_does_not_fit_its_declaration_fails_the_turn_and_the_process_goes_on(running: Running, wait: bool) -> None:
    app = app_of()
    shelf = app.type_named("Shelf").target
    async with running(app) as engine:
        assert await engine.call(shelf.put, Put("book"), id="1") == "book"

        with pytest.raises(PayloadInvalid, match=r"durable fields of Shelf: .*`str`, got `int` - at `\$.value`"):
            await engine.call(shelf.put, Put(3, wait), id="2")

        assert await engine.query(shelf.what, key="shelf") == "book"
        assert await engine.call(shelf.put, Put("lamp"), id="3") == "lamp"
