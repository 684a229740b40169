"""Very many effects of one quiescence: committed in several transactions, in order, each once."""

from __future__ import annotations

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, limits, on, open_store
from perdure.engine import inspection
from tests.engine.conftest import Running
from tests.engine.crashes import crash_at_each_commit
from tests.engine.orders import Ledger


class Item(msgspec.Struct, tag="item"):
    number: int
    text: str = ""


class Total(msgspec.Struct, tag="total"):
    pass


def make_app(ledger: Ledger, count: int, *, text: str = "") -> App:
    app = App("many")

    @app.process
    class Sink(Process):
        got: list[int] = []

        @on(Item, start=True, key=lambda message: "sink")
        async def take(self, message: Item) -> None:
            self.got.append(message.number)

        @on(Total, key=lambda message: "sink")
        async def total(self, message: Total) -> list[int]:
            return self.got

    @app.process
    async def burst(p: Process) -> int:
        await p.step(ledger.note, "before", name="before")
        for number in range(count):
            p.send(Item(number, text), to=Address.start(Sink, key="sink"))
        await p.step(ledger.note, "after", name="after")
        for number in range(count, 2 * count):
            p.send(Item(number, text), to=Address.start(Sink, key="sink"))
        return count

    @app.process
    async def leaf(p: Process, number: int) -> None:
        pass

    @app.process
    async def forest(p: Process) -> int:
        for number in range(count):
            p.spawn(leaf, number)
        return count

    return app


async def drive(engine: Engine) -> object:
    await engine.call(engine.app.type_named("burst").target, id="b")
    return await engine.call(engine.app.type_named("Sink").target.total, Total())


async def look(store: Store) -> object:
    events = [one.event for one in await inspection.timeline(store, "b") if one.event != "ProcessingStarted"]
    return events, (await inspection.process(store, "b")).status


async def test_a_crash_between_the_chunks_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EFFECTS_CHUNK", 3)
    ledgers: list[Ledger] = []

    def app() -> App:
        ledgers.append(Ledger())
        return make_app(ledgers[-1], 10)

    assert await crash_at_each_commit(app, drive, look) >= 10
    assert ledgers[0].effects == ["before", "after"]


async def test_all_arrive_once_and_in_order(running: Running) -> None:
    async with running(make_app(Ledger(), 1_300)) as engine:
        assert await drive(engine) == list(range(2_600))


async def test_effects_of_many_bytes_are_cut_by_their_bytes(running: Running) -> None:
    """Twelve messages of half a mebibyte do not fit into one transaction."""
    async with running(make_app(Ledger(), 12, text="x" * (limits.MESSAGE_MAX // 2))) as engine:
        assert await drive(engine) == list(range(24))


async def test_ten_thousand_spawns_are_twenty_transactions() -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store, Engine(store, make_app(Ledger(), 10_000)) as engine:
        sizes: list[int] = []
        submit = engine._owner.submit

        def counted(write: object, size: int, resolve: object, *args: object, **options: object) -> None:
            sizes.append(len(getattr(write, "effects", ())))
            submit(write, size, resolve, *args, **options)  # type: ignore[arg-type]  # passed on as it came

        engine._owner.submit = counted  # type: ignore[method-assign]  # only to look at what is committed
        assert await engine.call(engine.app.type_named("forest").target) == 10_000
        assert max(sizes) == limits.EFFECTS_CHUNK
        assert sum(sizes) == 10_000
        assert len([size for size in sizes if size]) == 10_000 // limits.EFFECTS_CHUNK
