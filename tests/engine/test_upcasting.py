"""Upcasters: what an older version of the code wrote is read by the code of now, wherever it is read whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, VirtualClock, on, open_store
from perdure.codec import JSON
from perdure.engine import inspection
from perdure.engine.upcasting import Upcasting
from perdure.errors import DefinitionError, PayloadInvalid, SchemaIncompatible
from perdure.schemas import plan, schema_of
from perdure.testing import replay
from tests.engine.orders import reaches


class Go(msgspec.Struct, tag="go"):
    pass


class First(msgspec.Struct, tag="place"):
    order: str
    total: int = 0


class Second(msgspec.Struct, tag="place"):
    order_id: str
    total: int = 0


class Place(msgspec.Struct, tag="place"):
    order_id: str
    cents: int
    note: str = ""


class Elsewhere:
    class Place(msgspec.Struct, tag="place"):  # as it was called in its time
        order: str
        total: int = 0


class Lenient(msgspec.Struct, omit_defaults=True, tag="place"):
    number: int
    total: int = 0


def to_second(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "order_id": old["order"]}


def to_place(old: dict[str, Any]) -> dict[str, Any]:
    return {"type": "place", "order_id": old["order_id"], "cents": 100 * old["total"]}


def chained() -> Upcasting:
    made = Upcasting()
    made.declare(First, Second, to_second)
    made.declare(Second, Place, to_place)
    return made


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (First("1", 2), Place("1", 200)),
        (Second("1", 2), Place("1", 200)),
        (Place("1", 2), Place("1", 2)),
        ({"type": "place", "order_id": "1", "cents": 3}, Place("1", 3)),  # a caller that leaves a default out
        ({"type": "place", "order": "1"}, None),
    ],
)
def test_a_value_is_read_by_the_fields_that_it_has(given: object, read: Place | None) -> None:
    before = Upcasting()
    decode = before.decoder(Place)
    for old, new, function in ((First, Second, to_second), (Second, Place, to_place)):
        before.declare(old, new, function)

    if read is None:
        with pytest.raises(PayloadInvalid, match="total"):  # the function gets the data as it is
            decode(JSON.encode(given))
    else:
        assert decode(JSON.encode(given)) == read


def test_of_two_types_with_the_same_fields_the_one_that_can_be_read_counts() -> None:
    @dataclasses.dataclass
    class Old:
        count: str

    @dataclasses.dataclass
    class New:
        count: int

    made = Upcasting()
    made.declare(Old, New, lambda old: {"count": int(old["count"])})

    assert made.decoder(New)(b'{"count":"12"}') == New(12)
    assert made.decoder(New)(b'{"count":12}') == New(12)
    with pytest.raises(PayloadInvalid, match=r"at `\$\.count`"):
        made.decoder(New)(b'{"count":null}')


def test_a_type_that_leaves_defaults_out_is_known_without_them() -> None:
    made = Upcasting()
    made.declare(Lenient, Place, lambda old: {"type": "place", "order_id": str(old["number"]), "cents": old.get("total", 0)})

    assert made.decoder(Place)(JSON.encode(Lenient(7))) == Place("7", 0)


def test_what_an_upcaster_raises_names_it_and_the_value_is_unreadable() -> None:
    made = Upcasting()
    made.declare(First, Place, lambda old: old["nothing"])

    with pytest.raises(PayloadInvalid, match=r"not a Place: upcaster .*lambda.* of First: KeyError\('nothing'\)"):
        made.decoder(Place)(JSON.encode(First("1")))


def test_upcasters_that_cannot_work_are_refused() -> None:
    made = chained()

    with pytest.raises(DefinitionError, match="declared twice"):
        made.declare(First, Second, to_second)
    with pytest.raises(DefinitionError, match="lead from First to Place already"):
        made.declare(Place, First, to_second)
    with pytest.raises(DefinitionError, match="named fields"):
        made.declare(int, Place, to_second)


@pytest.mark.parametrize("old", [First, Second, Elsewhere.Place])
def test_plans_know_an_older_type_under_the_name_that_it_had(old: type) -> None:
    known = chained().known()
    writer, documents = schema_of(old)
    reader, more = schema_of(Place)
    registry = {**documents, **more, **known.documents}

    with pytest.raises(SchemaIncompatible):
        plan(writer, reader, registry)

    tree = plan(writer, reader, registry, upcasters=known.upcasters).apply(msgspec.to_builtins(old("1", 2)))
    assert msgspec.convert(tree, Place) == Place("1", 200)


class Charge(msgspec.Struct):
    amount: int


class NewCharge(msgspec.Struct):
    cents: int


class Counted(msgspec.Struct):
    n: int = 0


async def charge(amount: int) -> Charge:
    return Charge(amount)


def old_app() -> App:
    app = App("shop")

    @app.process
    class Order(Process):
        n: int = 0

        @on(First, start=True, key=lambda message: message.order)
        async def place(self, message: First) -> str:
            self.n = message.total
            charged = await self.step(charge, message.total)
            await self.receive(Go, First)
            return f"{message.order}, {charged.amount}"

    return app


def new_app() -> App:
    async def charge(amount: int) -> NewCharge:
        return NewCharge(amount)

    charge.__qualname__ = "charge"  # it stands at the top of its module
    app = App("shop")

    @app.process
    class Order(Process):
        number: str = "none"

        @on(Place, start=True, key=lambda message: message.order_id)
        async def place(self, message: Place) -> str:
            self.number = str(message.cents // 100)
            charged = await self.step(charge, message.cents // 100)
            answer = await self.receive(Go, Place)
            return f"{message.order_id}, {charged.cents}, {getattr(answer, 'cents', 0)}"

    app.upcast(Counted, Order)(lambda old: {"number": str(old["n"])})
    app.upcast(Charge, NewCharge)(lambda old: {"cents": 100 * old["amount"]})
    app.upcast(First, Second)(to_second)
    app.upcast(Second, Place)(to_place)
    return app


async def test_an_open_turn_goes_on_with_other_messages_fields_and_outputs() -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        async with Engine(store, old_app()) as engine:
            process_id = (await engine.deliver(First("1", 2), id="s")).process_id or ""
            await reaches(engine, process_id, "waiting")
            exported = await engine.export_process(process_id)
        async with Engine(store, new_app()) as engine:
            await engine.deliver(First("1", 5), id="f", to=Address.process(process_id))
            await reaches(engine, process_id, "idle")
            [turn] = (await engine.export_process(process_id)).turns
            found = await inspection.process(store, process_id)

    replay(exported, new_app()).check()
    assert turn.reply == b'"1, 200, 500"'
    assert found.fields == {"number": "2"}
