"""A message that cannot be read is a dead letter whatever its sender has put into it, on every database."""

from __future__ import annotations

import enum
from functools import partial

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, on, open_store
from perdure.engine.inspection import dead_letters
from tests.engine.orders import eventually, reaches


class Colour(enum.Enum):
    RED = "red"


class Opened(msgspec.Struct):
    id: str


class Paint(msgspec.Struct, forbid_unknown_fields=True):
    colour: Colour

    def __post_init__(self) -> None:
        raise ValueError("a\ud800b")


app = App("paints")


@app.process
class Wall(Process):
    @on(Opened, start=True, key=lambda opened: opened.id)
    async def opened(self, _opened: Opened) -> None:
        await self.receive(Paint)


async def dead(store: Store) -> bool:
    return bool(await dead_letters(store))


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (rb'{"colour":"a\u0000b"}', r"Invalid enum value 'a\x00b'"),
        (rb'{"a\u0000b":1}', r"unknown field `a\x00b`"),
        (rb'{"colour":"red"}', r"a\ud800b"),
    ],
    ids=["value", "name", "own-words"],
)
async def test_mail_that_nobody_can_read_dies_and_the_turn_waits_on(payload: bytes, shown: str, url: str) -> None:
    async with open_store(url) as store, Engine(store, app) as engine:
        await engine.deliver(Opened("w"), to=Address.start("Wall", key="w", id="w"), id="opened")
        await reaches(engine, "w", "waiting")

        await engine.deliver_encoded("Paint", payload, id="m", to=Address.key("w"))
        await eventually(partial(dead, store))
        [letter] = await dead_letters(store)
        await reaches(engine, "w", "waiting")

    assert (letter.message_id, letter.reason) == ("m", "message-undecodable")
    assert shown in letter.detail
