"""Turns that fail: what is sealed, what becomes of the process, and what people can do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from perdure import Address, App, Engine, Process, VirtualClock, on, open_store
from perdure.engine import inspection
from perdure.errors import (
    DeadLetterNotFound,
    DefinitionError,
    IllegalTransition,
    KeyTaken,
    MessageNotFound,
    NotAwaited,
    PayloadInvalid,
    ProcessEnded,
    StepOutputInvalid,
    StoreFull,
)
from tests.engine.conftest import Running
from tests.engine.orders import Boom, Comment, Ledger, OrderFailed, Place, eventually, make_app, only_process, reaches


class Job(msgspec.Struct, tag="job"):
    name: str
    bad: bool = False


async def test_a_failed_turn_seals_its_error_and_goes_back_to_the_fields_it_found(running: Running) -> None:
    ledger = Ledger()
    app = make_app(ledger)
    boom = app.type_named("Order").target.boom
    async with running(app) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        for _ in range(2):
            with pytest.raises(OrderFailed) as failed:
                await engine.call(boom, Boom("1", "loud"), id="b")
            assert (failed.value.order_id, failed.value.code, failed.value.args) == ("1", 7, ("1", 7))
        process = await only_process(engine)
        assert (process.status, process.fields["status"]) == ("idle", "charged")
        assert await engine.deliver(Comment("1", "still here"), id="c", wait=True) == 1
    assert ledger.effects.count("boom 1") == 1


async def test_a_failed_function_is_failed_and_its_id_answers_with_the_error(running: Running) -> None:
    app = App("fails")

    @app.process
    async def broken(p: Process) -> None:
        raise OrderFailed("x", 1)

    async with running(app) as engine:
        for _ in range(2):
            with pytest.raises(OrderFailed):
                await engine.call(broken, id="b")
        assert (await inspection.process(engine.store, "b")).status == "failed"
        with pytest.raises(ProcessEnded, match="failed"):
            await engine.deliver(Job("x"), id="m", to=Address.process("b"))


def parking_app(ledger: Ledger, *, broken: bool) -> App:
    app = App("parks")

    @app.process(on_error="park")
    class Worker(Process):
        done: list[str] = []

        @on(Job, start=True, key=lambda message: "worker")
        async def job(self, message: Job) -> str:
            if message.bad and broken:
                raise OrderFailed(message.name, 3)
            self.done.append(message.name)
            return message.name

    return app


async def test_a_parked_process_waits_for_a_person_and_redrive_goes_first(running: Running) -> None:
    ledger = Ledger()
    async with running(parking_app(ledger, broken=True)) as engine:
        await engine.deliver(Job("a"), id="a", wait=True)
        with pytest.raises(OrderFailed):
            await engine.deliver(Job("b", bad=True), id="b", wait=True)
        await engine.deliver(Job("c"), id="c")
        process = await only_process(engine, "Worker")
        assert (process.status, process.fields["done"]) == ("paused", ["a"])
        assert "OrderFailed" in process.note
        [letter] = await inspection.dead_letters(engine.store)
        assert (letter.message_id, letter.reason) == ("b", "handler-failed")
    async with running(parking_app(ledger, broken=False)) as engine:
        assert (await only_process(engine, "Worker")).status == "paused"
        assert await engine.redrive("b") == "b~2"
        await eventually(lambda: _done(engine, "c"))
        assert (await only_process(engine, "Worker")).fields["done"] == ["a", "b", "c"]
        with pytest.raises(OrderFailed):  # the sealed reply stands
            await engine.deliver(Job("b", bad=True), id="b", wait=True)
        with pytest.raises(IllegalTransition, match="b~2"):
            await engine.redrive("b")


async def test_a_parked_process_can_go_on_without_the_message(running: Running) -> None:
    async with running(parking_app(Ledger(), broken=True)) as engine:
        with pytest.raises(OrderFailed):
            await engine.deliver(Job("b", bad=True), id="b0", to=Address.start("Worker", key="worker"), wait=True)
        await engine.deliver(Job("c"), id="c")
        process = await only_process(engine, "Worker")
        await engine.skip(process.process_id)
        await eventually(lambda: _done(engine, "c"))
        with pytest.raises(IllegalTransition, match="idle, not paused"):
            await engine.skip(process.process_id)


async def _done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "done"


async def test_what_is_not_dead_is_not_redriven(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        with pytest.raises(MessageNotFound):
            await engine.redrive("nothing")
        await engine.deliver(Comment("1", "x"), id="c")
        with pytest.raises(DeadLetterNotFound, match="is parked, not dead"):
            await engine.redrive("c")


async def test_an_expired_message_is_redriven_to_its_address(running: Running, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "x"), id="c", expires_after=timedelta(seconds=1))
        clock.advance(1_000_001)
        await eventually(lambda: _dead(engine, "c"))
        await engine.deliver(Place("1"), id="p", wait=True)
        assert await engine.redrive("c") == "c~2"
        await eventually(lambda: _done(engine, "c~2"))
        assert (await only_process(engine)).fields["comments"] == ["x"]
        assert "redriven as c~2" in (await engine.explain("c")).text


async def _dead(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "dead"


async def test_a_dead_letter_redriven_from_a_command_line_is_taken_up_by_the_engine(running: Running, clock: VirtualClock) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        await engine.deliver(Comment("1", "x"), id="c", expires_after=timedelta(seconds=1))
        clock.advance(1_000_001)
        await eventually(lambda: _dead(engine, "c"))
        await engine.deliver(Place("1"), id="p", wait=True)
        store = engine.store
    assert await inspection.redrive(store, "c") == "c~2"
    assert (await only_process(engine)).status == "runnable"
    async with running(app) as engine:
        await eventually(lambda: _done(engine, "c~2"))
        assert (await only_process(engine)).fields["comments"] == ["x"]


async def test_a_step_output_that_cannot_be_recorded_fails_the_turn_once(running: Running) -> None:
    runs: list[int] = []
    app = App("outputs")

    def opaque():  # type: ignore[no-untyped-def]
        runs.append(1)
        return object()

    @app.process
    async def job(p: Process) -> str:
        try:
            await p.step(opaque)
        except StepOutputInvalid as error:
            return str(error)
        return "?"

    async with running(app) as engine:
        assert "cannot be recorded" in await engine.call(job, id="j")
    assert runs == [1]


async def test_a_forgotten_await_is_a_clear_error(running: Running) -> None:
    app = App("forgets")

    async def work() -> None: ...

    @app.process
    async def job(p: Process) -> None:
        p.step(work)  # type: ignore[unused-coroutine]  # mypy finds it, too

    async with running(app) as engine:
        with pytest.raises(NotAwaited, match="work was called but never awaited"):
            await engine.call(job, id="j")


async def test_a_message_that_does_not_decode_fails_its_turn_with_the_path(running: Running) -> None:
    app = make_app(Ledger())
    async with running(app) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)

        class comment(msgspec.Struct):  # noqa: N801  # the kind of another sender's message
            order_id: str

        with pytest.raises(PayloadInvalid, match=r"text"):
            await engine.deliver(comment("1"), id="c", to=Address.key("order:1"), wait=True)


async def test_a_key_that_is_taken_is_an_error_in_the_turn_and_names_the_owner(running: Running) -> None:
    app = App("binds")

    @app.process
    async def claim(p: Process, key: str) -> str:
        try:
            await p.bind(key)
        except KeyTaken as error:
            return error.owner
        await p.receive(Job)
        return "mine"

    async with running(app) as engine:
        first = asyncio.ensure_future(engine.call(claim, "k", id="one"))
        await reaches(engine, "one", "waiting")
        assert await engine.call(claim, "k", id="two") == "one"
        await engine.deliver(Job("x"), id="j", to=Address.key("k"))
        assert await first == "mine"
        second = asyncio.ensure_future(engine.call(claim, "k", id="three"))
        await reaches(engine, "three", "waiting")
        await engine.deliver(Job("y"), id="j2", to=Address.key("k"))
        assert await second == "mine"


async def test_definitions_that_cannot_work_are_refused_with_the_fix() -> None:
    app = App("definitions")

    def plain(p: Process) -> None: ...

    with pytest.raises(DefinitionError, match="async def"):
        app.process(plain)

    class NoDefault(Process):
        count: int

        @on(Job, start=True)
        async def job(self, message: Job) -> None: ...

    with pytest.raises(DefinitionError, match="needs a default"):
        app.process(NoDefault)

    class Shadow(Process):
        step: int = 1  # type: ignore[assignment]

        @on(Job, start=True)
        async def job(self, message: Job) -> None: ...

    with pytest.raises(DefinitionError, match="named like a verb"):
        app.process(Shadow)

    class Asked(Process):
        @on(Job, start=True)
        async def ask(self, message: Job) -> None: ...  # type: ignore[override]

    with pytest.raises(DefinitionError, match=r"Asked\.ask: .*rename it"):
        app.process(Asked)

    class Mixed:
        def send(self) -> None: ...

    class Sender(Mixed, Process):  # type: ignore[misc]
        @on(Job, start=True)
        async def job(self, message: Job) -> None: ...

    with pytest.raises(DefinitionError, match=r"Sender\.send: "):
        app.process(Sender)

    class Opaque(Process):
        lock: asyncio.Lock | None = None

        @on(Job, start=True)
        async def job(self, message: Job) -> None: ...

    with pytest.raises(DefinitionError, match="cannot be stored"):
        app.process(Opaque)

    class Silent(Process):
        count: int = 0

    with pytest.raises(DefinitionError, match=r"@perdure\.on"):
        app.process(Silent)


async def test_a_full_disk_stalls_a_turn_and_repeats_nothing(tmp_path: Path) -> None:
    ledger = Ledger()
    clock = VirtualClock()
    app = App("full")

    @app.process
    async def fill(p: Process) -> str:
        first = await p.step(ledger.note, "x" * 200_000, name="first")
        second = await p.step(ledger.note, "y" * 200_000, name="second")
        return first[:1] + second[:1]

    async with open_store(f"sqlite:///{tmp_path / 'full.db'}", clock=clock) as store, Engine(store, app) as engine:
        pages = store._database._file.writing  # type: ignore[attr-defined]
        limit = pages.pragma("page_count") + 4
        pages.pragma("max_page_count", limit)
        reply = asyncio.ensure_future(engine.call(fill, id="f"))
        await eventually(lambda: _happened(ledger, 1))
        await eventually(lambda: _stalled(engine))
        clock.advance(1_000_000)
        await eventually(lambda: _stalled(engine))
        assert len(ledger.effects) == 1
        with pytest.raises(StoreFull):
            await engine.deliver(Job("z" * 200_000), id="j", to=Address.key("k"))
        pages.pragma("max_page_count", 1_000_000)
        clock.advance(1_000_000)
        assert await reply == "XY"
    assert len(ledger.effects) == 2


async def _happened(ledger: Ledger, count: int) -> bool:
    return len(ledger.effects) >= count


async def _stalled(engine: Engine) -> bool:
    return any(resident._refused and not resident._submitted for resident in engine._owner.residents.values())


async def test_a_plain_step_that_raises_stopiteration_is_a_failed_step_and_no_hang(running: Running) -> None:
    app = App("stops")

    def nothing_left() -> int:
        return next(iter([]))

    @app.process
    async def job(p: Process) -> str:
        try:
            await p.step(nothing_left)
        except RuntimeError as error:
            return str(error)
        return "?"

    async with running(app) as engine:
        assert "StopIteration" in await engine.call(job, id="j")
