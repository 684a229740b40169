"""Commands of processes over crashes, restarts of turns, and nodes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, limits, on
from perdure.clock import SECOND
from perdure.commands.contract import Failed, Lease, Succeeded
from perdure.commands.registry import Commands
from perdure.engine import inspection
from perdure.errors import CommandFailed, LeaseLost, StoreBusy
from tests.contracts.commands import CANCELLED, EXPIRED, PENDING, SUCCEEDED, check, waits_until
from tests.engine.conftest import Running
from tests.engine.crashes import crash_at_each_commit
from tests.engine.nodes import two_nodes
from tests.engine.orders import eventually, reaches
from tests.engine.working import Go, Picked, Shop, comes_to, commands_of, take, whole, work

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Race(msgspec.Struct, tag="race"):
    pass


class Ask(msgspec.Struct, tag="ask"):
    name: str


def make_desk() -> tuple[App, Any]:
    """A process that lives on after its turns."""
    app = App("desk")

    @app.process(on_error="fail_process")
    class Desk(Process):
        done: list[Any] = []

        @on(Race, start=True, key=lambda _message: "desk")
        async def race(self, message: Race) -> Any:
            del message
            _, value = await self.first(self.command("site", "slow"), self.command("site", "fast"))
            self.done.append(value)
            return value

        @on(Ask, start=True, key=lambda _message: "desk")
        async def adds(self, message: Ask) -> Any:
            before = await self.command("site", "before", result=int)
            return before + await self.command("site", message.name, result=int)

    return app, Desk


async def test_the_end_of_a_command_that_lost_is_no_mail_for_the_next_turn(running: Running) -> None:
    app, desk = make_desk()
    async with running(app) as engine:
        for turn in range(3):
            call = asyncio.create_task(engine.call(desk.race, Race(), id=f"r{turn}"))
            await work(engine, Succeeded(result=b"%d" % turn), names=["fast"])
            assert await call == turn
            await whole(engine)

        states = [(one.command, one.state) for one in await commands_of(engine.store)]
        assert sorted(states) == [("fast", SUCCEEDED)] * 3 + [("slow", CANCELLED)] * 3


async def failed(engine: Engine, desk: Any) -> tuple[str, list[str]]:
    """Let a turn fail for its second command; return its process and the ids of both."""
    call = asyncio.create_task(engine.call(desk.adds, Ask("x"), id="a"))
    before = await work(engine, Succeeded(result=b"5"), names=["before"])
    second = await work(engine, Failed(code="oops"), names=["x"])
    with pytest.raises(CommandFailed, match="oops"):
        await call
    [process] = await inspection.processes(engine.store)
    return process.process_id, [before.command_id, second.command_id]


async def test_a_turn_run_again_gives_nobody_the_same_work_twice(running: Running) -> None:
    """What it had asked for by the step it is run again from is not asked for again; what it asks for later is new."""
    app, desk = make_desk()
    async with running(app) as engine:
        process_id, ids = await failed(engine, desk)

        again = await engine.restart_from("command before", process_id)

        taken = await work(engine, Succeeded(result=b"2"))
        assert (taken.command, taken.command_id in ids) == ("x", False)
        await reaches(engine, process_id, "idle")
        assert (await engine.explain(again)).reply == "7"
        assert [one.command for one in await commands_of(engine.store)] == ["before", "x", "x"]
        await whole(engine)


async def test_a_turn_run_again_from_the_end_of_a_command_gets_this_end_again(running: Running) -> None:
    app, desk = make_desk()
    async with running(app) as engine:
        process_id, ids = await failed(engine, desk)

        again = await engine.restart_from("command x", process_id)

        async def over() -> bool:
            return (await engine.explain(again)).status == "done"

        await eventually(over)
        assert (await engine.explain(again)).reply == "CommandFailed: oops"
        assert [one.command_id for one in await commands_of(engine.store)] == ids
        await whole(engine)


async def test_a_turn_run_again_while_its_command_is_under_way_waits_for_this_one(running: Running) -> None:
    app, desk = make_desk()
    async with running(app) as engine:
        call = asyncio.create_task(engine.call(desk.adds, Ask("x"), id="a"))
        await work(engine, Succeeded(result=b"5"), names=["before"])
        taken = await take(engine, names=["x"])
        [process] = await inspection.processes(engine.store)
        await reaches(engine, process.process_id, "waiting")

        again = await engine.restart_from("command before", process.process_id)
        await asyncio.gather(call, return_exceptions=True)
        new = await work(engine, Succeeded(result=b"2"))

        await reaches(engine, process.process_id, "idle")
        assert (await engine.explain(again)).reply == "7"
        assert new.command_id != taken.command_id
        assert await engine.store.commands.complete(taken.command_id, taken.token, Succeeded(result=b"9"))
        await whole(engine)


@pytest.mark.parametrize(
    ("headers", "carried"),
    [
        ({"traceparent": TRACE, "tracestate": "a=b"}, TRACE),
        ({"traceparent": "nonsense"}, ""),
        ({"traceparent": "01" + TRACE[2:] + "-" + "x" * limits.TRACEPARENT_MAX}, ""),
        ({"other": TRACE}, ""),
        (None, ""),
    ],
    ids=["one", "nonsense", "too-long", "other", "none"],
)
async def test_section_5_9_a_command_of_a_process_carries_the_trace_of_its_message(
    running: Running, headers: dict[str, str] | None, carried: str
) -> None:
    """Also when the turn goes on in another engine."""
    app, _ = make_desk()
    async with running(app) as engine:
        await engine.deliver(Ask("x"), id="a", headers=headers)
        before = await take(engine, names=["before"])
    async with running(app) as engine:
        await engine.store.commands.complete(before.command_id, before.token, Succeeded(result=b"5"))
        taken = await work(engine, Succeeded(result=b"2"), names=["x"])
        await engine.deliver(Ask("y"), id="b")
        after = await work(engine, names=["before"])

    assert (before.traceparent, taken.traceparent, after.traceparent) == (carried, carried, "")


def clock_of(engine: Engine) -> VirtualClock:
    assert isinstance(engine.clock, VirtualClock)
    return engine.clock


@pytest.mark.parametrize("name", ["pick", "later", "races"])
async def test_a_crash_after_each_commit_makes_no_command_twice(name: str) -> None:
    shops: list[Shop] = []
    held: dict[tuple[Store, str], Lease] = {}

    def make() -> App:
        shops.append(Shop())
        return shops[-1].app

    async def works(store: Store) -> None:
        """The worker lives on, and says again what may not have been heard; of a lease that it has not heard of, it gets another."""
        commands = store.commands
        for target in ("arm", None):
            leases = await commands.lease("site", target=target, names=["pick", "one", "fast"], max_leases=5, lease_for=SECOND)
            held.update({(store, one.command_id): one for one in leases})
        for one in [one for (of, _), one in held.items() if of is store]:
            result = b'{"shelf":"A","count":1}' if one.command == "pick" else b"7"
            with suppress(LeaseLost):
                await commands.complete(one.command_id, one.token, Succeeded(result=result))

    async def drive(engine: Engine) -> Any:
        call = asyncio.ensure_future(engine.call(getattr(shops[-1], name), *([3] if name == "pick" else []), id="p"))
        try:
            while not call.done():
                await works(engine.store)
                clock_of(engine).advance(SECOND // 20)
                if name == "later" and [one for one in await inspection.processes(engine.store) if one.status == "waiting"]:
                    await engine.deliver(Go(), id="g", to=Address.process("p"))
                await asyncio.sleep(0)
        finally:
            call.cancel()
        value = await call
        return value if name != "later" else value[0]

    async def look(store: Store) -> Any:
        await check(store)
        return sorted((one.command_id, one.command, one.state) for one in await commands_of(store))

    assert await crash_at_each_commit(make, drive, look) >= 3


async def test_a_command_completed_on_the_node_that_does_not_own_its_process_resumes_it(
    postgres_url: str, unhurried: None, clock: VirtualClock
) -> None:
    del unhurried
    shop = Shop()
    async with two_nodes(postgres_url, shop.app, clock) as nodes:
        for owner, other in ((nodes.a, nodes.b), (nodes.b, nodes.a)):
            process_id = nodes.id_on(owner)
            call = asyncio.create_task(owner.call(shop.pick, 3, id=process_id))
            await nodes.comes_to(process_id, "waiting")

            await work(other, Succeeded(result=b'{"shelf":"A","count":2}'), target="arm")

            assert await call == Picked("A", 2)


async def test_a_deadline_on_a_node_that_does_not_own_the_process_resumes_it(
    postgres_url: str, unhurried: None, clock: VirtualClock
) -> None:
    del unhurried
    shop = Shop()
    async with two_nodes(postgres_url, shop.app, clock) as nodes:
        ids = [nodes.id_on(engine) for engine in (nodes.a, nodes.b)]
        calls = [
            asyncio.create_task(engine.call(shop.tries, "deadline", id=one)) for engine, one in zip((nodes.a, nodes.b), ids, strict=True)
        ]
        for one in ids:
            await nodes.comes_to(one, "waiting")

        clock.advance(9 * SECOND)

        assert [(await call)[0] for call in calls] == ["CommandExpired"] * 2


@pytest.mark.parametrize("error", [StoreBusy("locked"), ZeroDivisionError()], ids=["store", "any"])
@pytest.mark.parametrize("method", ["next_due", "expire_due"])
async def test_section_5_5_an_error_in_a_pass_is_followed_by_another_pass(
    running: Running, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, error: Exception
) -> None:
    """Whatever is due for commands is done by one task of the engine, which goes on."""
    due, done, failed = clock.now() + 10 * SECOND, getattr(Commands, method), list[Exception]()

    async def fails_once(*args: Any) -> Any:
        if clock.now() >= due and not failed:
            failed.append(error)
            raise error
        return await done(*args)

    monkeypatch.setattr(Commands, method, fails_once)
    async with running(App("none")) as engine:
        late = [(await engine.store.commands.create_command("site", "pick", deadline=at)).command_id for at in (due, due + SECOND)]
        await waits_until(clock, due)
        clock.advance(10 * SECOND)
        await waits_until(clock, clock.now() + limits.STALL_US)
        assert [one.state for one in await commands_of(engine.store)] == [PENDING] * 2
        clock.advance(limits.STALL_US)
        for each in late:
            await comes_to(engine, each, EXPIRED)
        await check(engine.store)

    assert failed == [error]
    [told] = [one for one in caplog.records if "the next look is soon" in one.getMessage()]
    assert (told.levelname, told.exc_info is not None) == (("WARNING", False) if isinstance(error, StoreBusy) else ("ERROR", True))


async def test_a_command_of_a_process_that_nobody_has_in_memory_is_cancelled_with_it(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.pick, 3, id="p"))
        await reaches(engine, "p", "waiting")
    await asyncio.gather(call, return_exceptions=True)
    async with running(shop.app) as engine:
        await engine.cancel("p")
        [command] = await commands_of(engine.store)
        await comes_to(engine, command.command_id, CANCELLED)
        await whole(engine)
