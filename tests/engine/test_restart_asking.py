"""Restarts and copies of turns that ask others: nothing is asked twice, and nothing that was asked is waited for in vain."""

from __future__ import annotations

import asyncio

import msgspec

from perdure import Address, App, Engine, Log, Process, on
from perdure.engine import inspection
from tests.engine.conftest import Running
from tests.engine.orders import Ledger, eventually, reaches


class Begin(msgspec.Struct, tag="begin"):
    pass


class Go(msgspec.Struct, tag="go"):
    pass


def make_app(ledger: Ledger, tokens: list[str]) -> App:
    app = App("again")

    @app.process
    async def child(p: Process, name: str, wait: bool) -> str:
        await p.step(ledger.note, name, name="work")
        if wait:
            await p.receive(Go)
        return name

    async def hand_in(token: str) -> None:
        tokens.append(token)

    @app.process
    class Asking(Process):
        notes: Log[str] = msgspec.field(default_factory=Log)

        @on(Begin, start=True)
        async def begin(self, message: Begin) -> list[str]:
            self.notes.append("one")
            token, completed = self.awakeable(str)
            await self.step(hand_in, token)
            slow = asyncio.create_task(self.call(child, "slow", True))
            got = [await self.call(child, "quick", False)]
            await self.step(ledger.note, "between", name="between")
            self.notes.append("two")
            await self.step(ledger.note, "last", name="last")
            return [*got, await slow, await completed, *await self.notes.page()]

    return app


async def _waits(engine: Engine, ledger: Ledger, count: int) -> bool:
    """Whether so many effects happened and nobody does anything any more."""
    statuses = {one.status for one in await inspection.processes(engine.store)}
    return len(ledger.effects) == count and "runnable" not in statuses


async def begun(engine: Engine, ledger: Ledger) -> tuple[str, str]:
    """Start it and let it come to its waits; return its id and that of the slow child."""
    await engine.deliver(Begin(), id="b", to=Address.start("Asking", id="asks"))
    await eventually(lambda: _waits(engine, ledger, 4))
    [slow] = [one.process_id for one in await inspection.processes(engine.store) if one.status == "waiting" and one.process_id != "asks"]
    return "asks", slow


async def test_a_restarted_turn_waits_for_those_whom_it_has_asked_before(running: Running) -> None:
    ledger, tokens = Ledger(), list[str]()
    async with running(make_app(ledger, tokens)) as engine:
        asks, slow = await begun(engine, ledger)

        again = await engine.restart_from("last", asks)
        await eventually(lambda: _waits(engine, ledger, 5))
        await engine.deliver(Go(), id="g", to=Address.process(slow))
        await engine.complete_awakeable(tokens[0], "token")
        await reaches(engine, asks, "idle")

        assert (await engine.explain(again)).reply == '["quick","slow","token","one","two"]'
    assert sorted(ledger.effects) == ["between", "last", "last", "quick", "slow"]
    assert len(tokens) == 1


async def test_a_copy_gets_the_replies_as_well_and_has_a_log_of_its_own(running: Running) -> None:
    ledger, tokens = Ledger(), list[str]()
    async with running(make_app(ledger, tokens)) as engine:
        asks, slow = await begun(engine, ledger)
        await engine.complete_awakeable(tokens[0], "token")

        copy = await engine.fork("last", asks)
        await eventually(lambda: _waits(engine, ledger, 5))
        await engine.deliver(Go(), id="g", to=Address.process(slow))
        for process_id in (asks, copy):
            await reaches(engine, process_id, "idle")

        replies = {(await engine.explain("b")).reply, (await engine.explain(copy)).reply}
        assert replies == {'["quick","slow","token","one","two"]'}
    assert len(tokens) == 1


class Say(msgspec.Struct, tag="say"):
    text: str
    wait: bool = False


async def test_a_copy_has_what_earlier_turns_have_logged(running: Running) -> None:
    ledger, app = Ledger(), App("logs")

    @app.process
    class Talk(Process):
        said: Log[str] = msgspec.field(default_factory=Log)

        @on(Say, start=True, key=lambda _message: "talk")
        async def say(self, message: Say) -> list[str]:
            self.said.append(message.text)
            await self.step(ledger.note, message.text, name="noted")
            if message.wait:
                await self.receive(Go)
            return await self.said.page()

    async with running(app) as engine:
        await engine.deliver(Say("one"), id="one", to=Address.start("Talk", key="talk", id="first"), wait=True)
        [first] = [one.process_id for one in await inspection.processes(engine.store)]
        waiting = asyncio.ensure_future(engine.deliver(Say("two", wait=True), id="two", wait=True))
        await reaches(engine, first, "waiting")

        copy = await engine.fork("noted", first)

        await reaches(engine, copy, "waiting")
        for number, process_id in enumerate((first, copy)):
            await engine.deliver(Go(), id=f"g{number}", to=Address.process(process_id))
        assert await waiting == ["one", "two"]
        await reaches(engine, copy, "idle")
        assert (await engine.explain(copy)).reply == '["one","two"]'
