"""Queries: what they see, what they cannot do, and what is said when there is nothing to ask."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, on, query
from perdure.conversations.tables import PROCESS_STATE
from perdure.core.view import View
from perdure.engine import inspection
from perdure.errors import DefinitionError, NotInTurn, PayloadInvalid, ProcessNotFound, QueryNotFound, UnknownProcessType, UsageError
from tests.engine.conftest import Running
from tests.engine.orders import eventually, reaches


class Open(msgspec.Struct, tag="open"):
    name: str
    wait: bool = False


class Go(msgspec.Struct, tag="go"):
    name: str


class Break(msgspec.Struct, tag="break"):
    name: str


class Stop(msgspec.Struct, tag="stop"):
    name: str
    how: str


class Summary(msgspec.Struct):
    name: str
    state: str
    seen: int


class Held:
    """A step that waits until it is let through."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def step(self) -> None:
        self.begun.set()
        await self.gate.wait()


def key(message: Open | Go | Stop | Break) -> str:
    return f"case:{message.name}"


class Looks:
    """An app whose processes can be asked."""

    def __init__(self, held: Held | None = None) -> None:
        app = App("looks")
        step = (held or Held()).step

        @app.process
        class Case(Process):
            name: str = ""
            state: str = "new"
            seen: list[str] = []

            @on(Open, start=True, key=key)
            async def open(self, message: Open) -> str:
                self.name, self.state = message.name, "open"
                self.seen.append("a")
                await self.step(_nothing)
                if message.wait:
                    self.state = "held"
                    await self.step(step)
                    self.state = "let go"
                    await self.receive(Go, timeout=timedelta(days=1))
                    self.state = "gone"
                return self.state

            @on(Stop, key=key)
            async def stop(self, message: Stop) -> str:
                self.state = "stopping"
                await self.step(_nothing)
                if message.how == "end":
                    return self.finish("ended")
                raise ValueError(message.how)

            @on(Break, key=key, on_error="fail_process")
            async def break_off(self, message: Break) -> None:
                raise ValueError(message.name)

            @on(Go, key=key, on_error="park")
            async def go(self, message: Go) -> None:
                raise ValueError(message.name)

            @query
            def summary(self) -> Summary:
                return Summary(self.name, self.state, len(self.seen))

            @query
            def scribble(self, text: str = "x") -> list[str]:
                self.state = "scribbled"
                self.seen.append(text)
                return self.seen

            @query
            def act(self) -> None:
                self.send(Go(self.name), to=Address.key("nobody"))

            @query
            def attribute(self) -> None:
                self.attributes["name"] = self.name

            @query
            def broken(self) -> None:
                raise LookupError("nothing there")

            def plain(self) -> str:
                return self.state

        self.app, self.case = app, Case
        self.other, self.job = _others(app)


def _others(app: App) -> tuple[Any, Any]:
    @app.process
    class Other(Process):
        @on(Open, start=True)
        async def open(self, message: Open) -> None:
            await self.step(_nothing)

        @query
        def summary(self) -> str:
            return "other"

    @app.process
    async def job(p: Process) -> None:
        await p.step(_nothing)

    return Other, job


async def _nothing() -> None:
    pass


async def _id(engine: Engine, name: str) -> str:
    found = await engine.explain(name)
    assert found.process_id is not None
    return found.process_id


async def test_a_query_answers_by_id_and_by_key_with_its_arguments(running: Running) -> None:
    looks = Looks()
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")

        assert await engine.query(looks.case.summary, key="case:1") == Summary("1", "open", 1)
        assert await engine.query(looks.case.summary, await _id(engine, "1")) == Summary("1", "open", 1)
        assert await engine.query(looks.case.scribble, "q", key="case:1") == ["a", "q"]
        assert await engine.query(looks.case.scribble, await _id(engine, "1"), "q") == ["a", "q"]


async def test_a_query_shows_what_is_committed_and_nothing_more(running: Running) -> None:
    held = Held()
    looks = Looks(held)
    async with running(looks.app) as engine:
        await engine.deliver(Open("1", wait=True), id="1")
        await held.begun.wait()

        assert (await engine.query(looks.case.summary, key="case:1")).state == "held"
        held.gate.set()
        await reaches(engine, await _id(engine, "1"), "waiting")
        assert (await engine.query(looks.case.summary, key="case:1")).state == "let go"


async def test_a_query_never_shows_what_a_turn_has_in_memory_before_it_is_committed(running: Running) -> None:
    looks = Looks()
    seen: list[str] = []
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")
        process_id = await _id(engine, "1")
        asked: Any = engine.call(looks.case.stop, Stop("1", "end"), id="s")
        task = asyncio.ensure_future(asked)
        while not task.done():
            before = (await inspection.process(engine.store, process_id)).fields["state"]
            seen.append((await engine.query(looks.case.summary, process_id)).state)
            after = (await inspection.process(engine.store, process_id)).fields["state"]
            assert seen[-1] in (before, after)
            await asyncio.sleep(0)
    assert seen, "it was looked at while the turn ran"


async def test_a_query_changes_nothing(running: Running) -> None:
    looks = Looks()
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")
        before = await inspection.process(engine.store, await _id(engine, "1"))

        for _ in range(2):
            assert await engine.query(looks.case.scribble, key="case:1") == ["a", "x"]

        assert await inspection.process(engine.store, before.process_id) == before
        assert await engine.query(looks.case.summary, key="case:1") == Summary("1", "open", 1)


async def test_no_verb_works_inside_a_query(running: Running) -> None:
    looks = Looks()
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")

        for method in (looks.case.act, looks.case.attribute):
            with pytest.raises(NotInTurn, match="no turn is open"):
                await engine.query(method, key="case:1")
        with pytest.raises(LookupError, match="nothing there"):
            await engine.query(looks.case.broken, key="case:1")


async def test_a_query_answers_for_processes_that_are_asleep_paused_failed_or_ended(running: Running) -> None:
    held = Held()
    held.gate.set()
    looks = Looks(held)
    async with running(looks.app) as engine:
        await engine.deliver(Open("waits", wait=True), id="waits")
        for name in ("ended", "parked", "failed"):
            await engine.call(looks.case.open, Open(name), id=name)
        failed = await _id(engine, "failed")  # its key is free once it has failed
        with pytest.raises(ValueError, match="failed"):
            await engine.call(looks.case.break_off, Break("failed"), id="b")
        await engine.call(looks.case.stop, Stop("ended", "end"), id="s")
        with pytest.raises(ValueError, match="parked"):
            await engine.call(looks.case.go, Go("parked"), id="g")
        await reaches(engine, await _id(engine, "waits"), "waiting")
    again = Looks(held)
    async with running(again.app) as engine:
        assert engine._owner.residents == {}
        states = {}
        for name in ("waits", "ended", "parked"):
            found = await inspection.process(engine.store, await _id(engine, name))
            states[found.status] = (await engine.query(again.case.summary, found.process_id)).state
        assert (await inspection.process(engine.store, failed)).status == "failed"
        states["failed"] = (await engine.query(again.case.summary, failed)).state
    assert states == {"waiting": "let go", "ended": "stopping", "paused": "open", "failed": "open"}


async def test_a_failed_turn_is_not_to_be_seen_afterwards(running: Running) -> None:
    looks = Looks()
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")
        with pytest.raises(ValueError, match="fail"):
            await engine.call(looks.case.stop, Stop("1", "fail"), id="s")

        assert (await engine.query(looks.case.summary, key="case:1")).state == "open"


async def test_what_cannot_be_asked_is_said(running: Running) -> None:
    looks, elsewhere = Looks(), Looks()
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")
        await engine.call(looks.job, id="job")
        process_id = await _id(engine, "1")

        with pytest.raises(ProcessNotFound, match="no process 'nobody'"):
            await engine.query(looks.case.summary, "nobody")
        with pytest.raises(ProcessNotFound, match="no process holds the key 'case:2'"):
            await engine.query(looks.case.summary, key="case:2")
        with pytest.raises(ProcessNotFound, match="in tenant acme"):
            await engine.query(looks.case.summary, process_id, tenant="acme")
        with pytest.raises(QueryNotFound, match=r"is of type 'Case', which has no query .*Other.summary; it has: act, "):
            await engine.query(looks.other.summary, process_id)
        with pytest.raises(QueryNotFound, match=r"'job', which has no query .*Case.summary; it has: none"):
            await engine.query(looks.case.summary, "job")
        with pytest.raises(QueryNotFound):
            await engine.query(elsewhere.case.summary, process_id)
        with pytest.raises(UsageError, match=r"Case.plain is no query; mark the method with @perdure.query"):
            await engine.query(looks.case.plain, process_id)
        with pytest.raises(UsageError, match="too many positional arguments; found the arguments"):
            await engine.query(looks.case.summary, process_id, 1)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="takes the method and the id of a process"):
            await engine.query(looks.case.summary)  # type: ignore[call-overload]


async def test_an_app_without_the_type_says_so(running: Running) -> None:
    looks = Looks()
    async with running(looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")
        process_id = await _id(engine, "1")
    async with running(App("empty")) as engine:
        with pytest.raises(UnknownProcessType, match="'empty' has no process type 'Case'"):
            await engine.query(looks.case.summary, process_id)


async def test_fields_that_the_code_cannot_read_are_named(store: Store) -> None:
    looks = Looks()
    async with Engine(store, looks.app) as engine:
        await engine.call(looks.case.open, Open("1"), id="1")
        process_id = await _id(engine, "1")

        class Spoil(msgspec.Struct, frozen=True):
            def reads(self) -> list[Any]:
                return []

            def decide(self, view: View) -> None:
                found = PROCESS_STATE.key("default", process_id)
                row = view.get(found)
                assert row is not None
                view.update(found, msgspec.structs.replace(row, saved=b'{"state":7}'))

        await store.commit(Spoil())
        with pytest.raises(PayloadInvalid, match=r"process .*: its durable fields cannot be read as those of Case: .*\$.state"):
            await engine.query(looks.case.summary, process_id)


async def test_a_process_that_was_started_from_where_no_app_is_has_its_first_fields(store: Store, clock: VirtualClock) -> None:
    from perdure.engine.delivery import Deliver
    from perdure.engine.notes import NO_APP, Envelope

    looks = Looks()
    envelope = Envelope(
        tenant_id="default",
        source="",
        message_id="m",
        digest=b"",
        kind="open",
        payload=b'{"name":"1"}',
        address=Address.start("Case", id="c"),
        process_id="c",
    )
    await store.commit(Deliver(NO_APP, envelope))
    engine = Engine(store, looks.app)

    assert await engine.query(looks.case.summary, "c") == Summary("", "new", 0)


def test_a_query_is_a_plain_method() -> None:
    with pytest.raises(DefinitionError, match="a query is a plain method that returns its answer"):

        @query
        async def slow(self: Process) -> None:
            pass

    with pytest.raises(DefinitionError, match="expected a method of a process class"):
        query(7)  # type: ignore[type-var]


def test_a_query_may_not_be_named_like_a_verb() -> None:
    class Wrong(Process):
        @on(Open, start=True)
        async def open(self, message: Open) -> None:
            pass

        @query
        def send(self) -> None:  # type: ignore[override]
            pass

    with pytest.raises(DefinitionError, match=r"Wrong\.send: a query may not be named like a verb"):
        App("wrong").process(Wrong)


async def test_a_query_of_a_parent_class_is_one_of_the_child(running: Running) -> None:
    app = App("family")

    class Parent(Process):
        count: int = 0

        @query
        def double(self) -> int:
            return 2 * self.count

    @app.process
    class Child(Parent):
        @on(Open, start=True, key=key)
        async def open(self, message: Open) -> None:
            self.count = 3

    async with running(app) as engine:
        await engine.call(Child.open, Open("1"), id="1")

        assert await engine.query(Child.double, key="case:1") == 6
        await eventually(lambda: _is_idle(engine, "1"))


async def _is_idle(engine: Engine, message_id: str) -> bool:
    return (await inspection.process(engine.store, await _id(engine, message_id))).status == "idle"
