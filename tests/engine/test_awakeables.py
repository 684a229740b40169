"""Tokens for somebody outside: completed once, before or after they are waited for, over restarts."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, testing
from perdure.core.table import Index, Scan
from perdure.engine import inspection
from perdure.errors import AwakeableConflict, AwakeableFailed, AwakeableNotFound, PayloadInvalid, ProcessCancelled
from perdure.messages.tables import AWAITED_REPLY
from tests.engine.conftest import Running
from tests.engine.crashes import crash_at_each_commit
from tests.engine.orders import eventually, reaches


class Paid(msgspec.Struct):
    amount: int


class Go(msgspec.Struct, tag="go"):
    pass


class Desk:
    """Where the tokens go."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def hand_in(self, token: str) -> None:
        self.tokens.append(token)


def make_app(desk: Desk) -> App:
    app = App("payments")

    @app.process
    async def order(p: Process) -> int:
        token, payment = p.awakeable(Paid)
        await p.step(desk.hand_in, token)
        await p.receive(Go)
        return (await payment).amount

    @app.process
    async def forgetful(p: Process) -> str:
        token, _ = p.awakeable()
        await p.step(desk.hand_in, token)
        return token

    return app


async def handed_in(desk: Desk, count: int = 1) -> None:
    async def there() -> bool:
        return len(desk.tokens) >= count

    await eventually(there)


async def awaited(store: Store) -> int:
    return len(await store.access.reader.scan(Scan(Index(AWAITED_REPLY, "awaited_reply", order=AWAITED_REPLY.key_columns), (), 10)))


async def test_it_may_be_completed_before_it_is_waited_for_and_while_nobody_is_in_memory(running: Running) -> None:
    desk = Desk()
    async with running(make_app(desk)) as engine:
        order = engine.app.type_named("order").target
        call = asyncio.ensure_future(engine.call(order, id="o"))
        await handed_in(desk)
        await reaches(engine, "o", "waiting")
    await asyncio.gather(call, return_exceptions=True)
    async with running(make_app(desk)) as engine:
        await engine.complete_awakeable(desk.tokens[0], Paid(7))
    async with running(make_app(desk)) as engine:
        await engine.deliver(Go(), id="g", to=Address.process("o"))

        assert await engine.call(engine.app.type_named("order").target, id="o") == 7
        assert await awaited(engine.store) == 0
    assert len(desk.tokens) == 1


async def test_the_same_completion_again_is_nothing_and_another_one_a_conflict(running: Running) -> None:
    desk = Desk()
    async with running(make_app(desk)) as engine:
        call = asyncio.ensure_future(engine.call(engine.app.type_named("order").target, id="o"))
        await handed_in(desk)

        await engine.complete_awakeable(desk.tokens[0], Paid(7))
        await engine.complete_awakeable(desk.tokens[0], Paid(7))
        for other in (engine.complete_awakeable(desk.tokens[0], Paid(8)), engine.fail_awakeable(desk.tokens[0], "no")):
            with pytest.raises(AwakeableConflict):
                await other
        await engine.deliver(Go(), id="g", to=Address.process("o"))

        assert await call == 7
        await engine.complete_awakeable(desk.tokens[0], Paid(7))


async def test_a_failure_and_a_value_of_another_type_are_errors_of_the_wait(running: Running) -> None:
    for fails in (True, False):
        desk = Desk()
        async with running(make_app(desk)) as engine:
            name = f"o-{fails}"
            call = asyncio.ensure_future(engine.call(engine.app.type_named("order").target, id=name))
            await handed_in(desk)
            token = desk.tokens[0]
            await (engine.fail_awakeable(token, "card is stolen") if fails else engine.complete_awakeable(token, {"amount": "much"}))
            await engine.deliver(Go(), id=f"g-{fails}", to=Address.process(name))

            with pytest.raises(AwakeableFailed if fails else PayloadInvalid, match="stolen" if fails else "amount"):
                await call


async def test_it_may_be_completed_after_its_handler_has_timed_out_while_the_turn_is_open() -> None:
    desk, app = Desk(), App("impatient")

    @app.process
    async def impatient(p: Process) -> str:
        token, payment = p.awakeable(Paid)
        await p.step(desk.hand_in, token)
        try:
            async with asyncio.timeout(60):
                await payment
        except TimeoutError:
            await p.receive(Go)
            return "too late"
        return "paid"

    async with testing.engine(app) as engine:
        call = asyncio.ensure_future(engine.call(impatient, id="i"))
        await engine.settled()
        await engine.advance(61)

        await engine.complete_awakeable(desk.tokens[0], Paid(7))
        with pytest.raises(AwakeableConflict):
            await engine.complete_awakeable(desk.tokens[0], Paid(8))
        await engine.deliver(Go(), id="g", to=Address.process("i"))

        assert await call == "too late"


async def test_what_no_open_turn_has_made_cannot_be_completed(running: Running) -> None:
    desk = Desk()
    async with running(make_app(desk)) as engine:
        with pytest.raises(AwakeableNotFound):
            await engine.complete_awakeable("pd-0", 1)
        token = await engine.call(engine.app.type_named("forgetful").target, id="f")
        with pytest.raises(AwakeableNotFound, match="turn is over"):
            await engine.complete_awakeable(token, 1)
        assert await awaited(engine.store) == 0


@pytest.mark.parametrize("force", [False, True])
async def test_what_a_cancelled_turn_has_made_is_gone_and_cannot_be_completed(running: Running, force: bool) -> None:
    desk = Desk()
    async with running(make_app(desk)) as engine:
        call = asyncio.ensure_future(engine.call(engine.app.type_named("order").target, id="o"))
        await handed_in(desk)
        assert await awaited(engine.store) == 1
        await engine.cancel("o", force=force)
        with pytest.raises(ProcessCancelled):
            await call

        assert await awaited(engine.store) == 0
        with pytest.raises(AwakeableNotFound, match="turn is over"):
            await engine.complete_awakeable(desk.tokens[0], Paid(7))


async def test_a_crash_at_each_commit_completes_it_once() -> None:
    desks: list[Desk] = []

    def app() -> App:
        desks.append(Desk())
        return make_app(desks[-1])

    async def drive(engine: Engine) -> object:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(engine.call(engine.app.type_named("order").target, id="o"))
            await reaches_any(engine, "o", ("waiting", "ended"))
            [token, *_] = [token for desk in desks for token in desk.tokens][::-1]
            await engine.complete_awakeable(token, Paid(7))
            await engine.deliver(Go(), id="g", to=Address.process("o"))
        return call.result()

    async def look(store: Store) -> object:
        events = [(one.event, one.name) for one in await inspection.timeline(store, "o") if one.event != "ProcessingStarted"]
        return sorted(events), await awaited(store)

    assert await crash_at_each_commit(app, drive, look) > 4


async def reaches_any(engine: Engine, process_id: str, statuses: tuple[str, ...]) -> None:
    async def stored() -> bool:
        return any(one.process_id == process_id and one.status in statuses for one in await inspection.processes(engine.store))

    await eventually(stored)


async def test_a_timeline_tells_which_answers_are_waited_for(running: Running) -> None:
    desk = Desk()
    app = make_app(desk)
    order = app.type_named("order").target

    @app.process
    async def asks(p: Process) -> int:
        answer: int = await p.call(order)
        return answer

    async with running(app) as engine:
        asked = asyncio.create_task(engine.call(asks, id="a"))
        await handed_in(desk)
        await reaches(engine, "a", "waiting")
        [child] = [one.process_id for one in await engine.children("a")]
        await reaches(engine, child, "waiting")

        assert [(one.what, one.name) for one in (await engine.timeline("a")).waits_for] == [("reply", "call order")]
        waits = (await engine.timeline(child)).waits_for
        assert [(one.what, one.name) for one in waits] == [("message", "go"), ("awakeable", "awakeable")]

        await engine.complete_awakeable(desk.tokens[0], Paid(7))
        await engine.deliver(Go(), id="g", to=Address.process(child))
        assert await asked == 7
        assert (await engine.timeline("a")).waits_for == []
