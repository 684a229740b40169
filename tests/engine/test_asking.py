"""Calls and asks between processes: typed replies, errors, duplicates, and no wake-up lost wherever the engine crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Flow, Process, Store, VirtualClock, on
from perdure.conversations.tables import CHILD
from perdure.core.table import Index, Scan
from perdure.engine import inspection
from perdure.errors import AskedSelf, MessageConflict, ProcessEnded, ProcessNotFound, ReplyNotSingle
from perdure.messages.tables import AWAITED, MAIL
from tests.engine.conftest import Running
from tests.engine.crashes import crash_at_each_commit
from tests.engine.orders import Ledger, OrderFailed, eventually, reaches


class Question(msgspec.Struct, tag="question"):
    text: str


class Tell(msgspec.Struct, tag="tell"):
    text: str


class Answer(msgspec.Struct):
    text: str
    number: int


def make_app(ledger: Ledger) -> App:  # many small processes
    app = App("asking")

    @app.process
    class Oracle(Process):
        asked: int = 0

        @on(Question, start=True, key=lambda message: "oracle")
        async def answer(self, message: Question) -> Answer:
            self.asked += 1
            await self.step(ledger.note, message.text, name="think")
            return Answer(message.text.upper(), self.asked)

        @on(Tell)
        async def hold(self, message: Tell) -> str:
            question = await self.receive(Question)
            self.reply(question, Answer(f"{message.text} {question.text}", 0))
            await self.step(ledger.note, "held", name="held")
            return message.text

    @app.process
    async def leaf(p: Process, number: int) -> int:
        await p.step(ledger.note, f"leaf {number}", name="grow")
        if number < 0:
            raise OrderFailed("leaf", number)
        return number * 10

    @app.process
    async def tree(p: Process, numbers: list[int]) -> list[str]:
        async def one(number: int) -> str:
            try:
                return str(await p.call(leaf, number))
            except OrderFailed as error:
                return f"failed with {error.code}"

        got = await asyncio.gather(*(one(number) for number in numbers))
        first = await p.call(Oracle.answer, Question("why"))
        second = await p.ask(Address.key("oracle"), Question("how"), result=Answer)
        await p.step(ledger.note, "tree", name="tree")
        return [*got, f"{first.text}{first.number}", f"{second.text}{second.number}"]

    add_askers(app)
    return app


def add_askers(app: App) -> None:
    @app.process
    async def asks(p: Process, text: str) -> str:
        return (await p.ask(Address.key("oracle"), Question(text), result=Answer)).text

    @app.process
    async def asks_process(p: Process, id: str) -> Any:
        return await p.ask(Address.process(id), Tell("hello"))

    @app.process
    async def shares(p: Process, number: int) -> int:
        return await p.call(app.type_named("leaf").target, number, id="one leaf")

    @app.process
    async def narcissus(p: Process, way: str) -> Any:
        await p.bind(f"self:{way}")
        if way == "message":
            return await p.call(narcissus, way, id="n-message")
        if way == "start":
            return await p.ask(Address.start("Impatient", id=p.id), Tell("hello"))
        addresses = {"id": Address.process(p.id), "key": Address.key("self:key"), "tag": Address.tag("anybody")}
        return await p.ask(addresses[way], Tell("hello"))

    @app.process
    class Impatient(Process):
        @on(Tell, start=True)
        async def ask_with_patience(self, message: Tell) -> str:
            try:
                async with asyncio.timeout(1):
                    await self.ask(Address.key("oracle"), Question("anybody"))
            except TimeoutError:
                return "gave up"
            return "answered"

    @app.process
    class Parent(Process):
        @on(Question, start=True)
        async def start(self, message: Question) -> tuple[str, str]:
            return self.spawn(waits, 1), self.spawn(waits, 2, detached=True)

    @app.process(flow=Flow(concurrency=1))
    async def waits(p: Process, number: int) -> str:
        return (await p.receive(Tell)).text


async def nothing_is_left(store: Store) -> tuple[list[tuple[str, str, str]], int, int]:
    """What messages there are, and that nobody waits, no letter lies about and no child is listed."""
    messages = [(one.kind, one.status, one.reply or "") for one in await inspection.messages(store)]
    reader = store.access.reader
    child = Index(CHILD, "child", order=("tenant_id", "parent_id", "process_id"))
    waiting = await reader.scan(Scan(Index(AWAITED.table, "awaited_reply", order=AWAITED.table.key_columns), (), 10))
    return sorted(messages), len(waiting), len(await reader.scan(Scan(child, (), 10)))


async def test_calls_and_asks_return_typed_replies_whatever_commit_the_engine_crashes_after() -> None:
    ledgers: list[Ledger] = []

    def app() -> App:
        ledgers.append(Ledger())
        return make_app(ledgers[-1])

    async def drive(engine: Engine) -> object:
        return await engine.call(engine.app.type_named("tree").target, [1, -2, 3], id="t")

    commits = await crash_at_each_commit(app, drive, nothing_is_left)

    assert commits > 8
    assert sorted(set(ledgers[0].effects)) == ["how", "leaf -2", "leaf 1", "leaf 3", "tree", "why"]
    assert len(ledgers[0].effects) == 6


async def test_the_values_are_those_of_the_handlers(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        got = await engine.call(app.type_named("tree").target, [1, -2, 3], id="t")

        assert got == ["10", "failed with -2", "30", "WHY1", "HOW2"]
        assert (await nothing_is_left(engine.store))[1:] == (0, 1), "only the oracle is a child that has not ended"


async def test_a_reply_wakes_a_parent_that_was_not_in_memory(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        waiting = asyncio.ensure_future(engine.call(engine.app.type_named("asks").target, "late", id="parent"))
        await reaches(engine, "parent", "waiting")
    await asyncio.gather(waiting, return_exceptions=True)
    app = make_app(Ledger())
    async with running(app) as engine:
        assert engine._owner.residents == {}

        first = await engine.call(app.type_named("Oracle").target.answer, Question("first"), id="q")

        assert first == Answer("FIRST", 1)
        assert await engine.call(app.type_named("asks").target, "late", id="parent") == "LATE"


async def test_a_reply_that_comes_while_its_parent_comes_and_goes_is_not_lost() -> None:
    async def drive(engine: Engine) -> object:
        async with asyncio.TaskGroup() as group:
            parent = group.create_task(engine.call(engine.app.type_named("asks").target, "deep", id="parent"))
            await eventually(lambda: _begun(engine))
            await engine.call(engine.app.type_named("Oracle").target.answer, Question("first"), id="q")
        return parent.result()

    async def look(store: Store) -> object:
        return (await inspection.process(store, "parent")).status

    assert await crash_at_each_commit(lambda: make_app(Ledger()), drive, look) > 4


async def test_two_who_call_with_one_id_get_one_reply_and_other_content_is_a_conflict(running: Running) -> None:
    ledger = Ledger()
    app = make_app(ledger)
    async with running(app) as engine:
        shares = app.type_named("shares").target
        both = list(await asyncio.gather(engine.call(shares, 4, id="a"), engine.call(shares, 4, id="b")))
        third = await engine.call(app.type_named("leaf").target, 4, id="one leaf")
        with pytest.raises(MessageConflict):
            await engine.call(shares, 5, id="c")

    assert (both, third) == ([40, 40], 40)
    assert ledger.effects == ["leaf 4"]


async def test_asking_oneself_is_an_error_and_no_deadlock(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        for way in ("id", "key", "message", "start"):
            with pytest.raises(AskedSelf):
                await engine.call(app.type_named("narcissus").target, way, id=f"n-{way}")


async def test_asking_a_tag_is_refused(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        with pytest.raises(ReplyNotSingle):
            await engine.call(app.type_named("narcissus").target, "tag", id="n")


async def test_what_nobody_can_take_is_the_error_of_the_ask(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        await engine.call(app.type_named("leaf").target, 1, id="gone")
        with pytest.raises(ProcessNotFound):
            await engine.call(app.type_named("asks_process").target, "never was")
        with pytest.raises(ProcessEnded):
            await engine.call(app.type_named("asks_process").target, "gone")


async def test_a_reply_for_a_turn_that_is_over_is_dropped(running: Running, clock: VirtualClock) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        impatient = asyncio.ensure_future(engine.call(app.type_named("Impatient").target.ask_with_patience, Tell("x"), id="i"))
        await eventually(lambda: _exists(engine, "waiting"))
        clock.advance(1_000_000)
        assert await impatient == "gave up"
        [process] = [one for one in await inspection.processes(engine.store) if one.process_type == "Impatient"]

        await engine.call(app.type_named("Oracle").target.answer, Question("start"), id="q")
        await engine.deliver(Tell("again"), id="again", to=Address.process(process.process_id))
        await eventually(lambda: _done(engine, "again"))

        assert await engine.store.access.reader.scan(Scan(MAIL, ("default", process.process_id), 10)) == []
        assert (await nothing_is_left(engine.store))[1] == 0


async def _begun(engine: Engine) -> bool:
    return await _exists(engine, "waiting") or await _exists(engine, "ended")


async def _exists(engine: Engine, status: str) -> bool:
    return any(one.status == status for one in await inspection.processes(engine.store))


async def _done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "done"


async def test_a_message_that_receive_takes_can_be_answered(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        oracle = app.type_named("Oracle").target
        await engine.call(oracle.answer, Question("first"), id="q")
        await engine.deliver(Tell("held:"), id="t", to=Address.key("oracle"))

        assert await engine.call(app.type_named("asks").target, "who") == "held: who"


async def test_children_are_listed_from_their_start_to_their_end_and_detached_ones_never(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        attached, detached = await engine.call(app.type_named("Parent").target.start, Question("x"), id="p")
        parent = (await engine.explain("p")).process_id
        assert parent is not None
        [child] = await engine.children(parent)
        assert (child.process_id, child.parent) == (attached, parent)

        for child in (attached, detached):  # one at a time has a place to begin
            await engine.deliver(Tell("go"), id=f"go {child}", to=Address.process(child))
            await reaches(engine, child, "ended")

        assert await engine.children(parent) == []
