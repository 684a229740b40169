"""A request to stop that is committed just before the commit by which a turn begins to wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from perdure import App, Engine, Process, Store, on
from perdure.engine import inspection
from perdure.engine.control import CancelProcess
from perdure.engine.recovery import Recovery
from perdure.engine.resident import Resident
from perdure.errors import ProcessCancelled
from tests.engine.orders import crash, eventually, reaches


class Go(msgspec.Struct, tag="go"):
    pass


class Never(msgspec.Struct, tag="never"):
    pass


class Late:
    """One process with two steps that wait to be let go on: before it waits, and when it cleans up."""

    def __init__(self, *, takes_mail: bool) -> None:
        self.app = App("late")
        self.begun = {name: asyncio.Event() for name in ("work", "cleaning")}
        self.go_on = {name: asyncio.Event() for name in ("work", "cleaning")}

        async def step(name: str) -> None:
            self.begun[name].set()
            await self.go_on[name].wait()

        async def waits(p: Process) -> None:
            if takes_mail:
                await p.receive(Never, timeout=timedelta(days=9))
            else:
                await p.sleep(timedelta(days=9).total_seconds())

        @self.app.process
        async def late(p: Process) -> None:
            try:
                await p.step(step, "work")
                await waits(p)
            except asyncio.CancelledError:
                await p.step(step, "cleaning")
                await waits(p)
                raise

        self.handler = late


@pytest.mark.parametrize("takes_mail", [False, True])
async def test_a_process_that_begins_to_wait_as_it_is_ended_by_force_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, takes_mail: bool
) -> None:
    late = Late(takes_mail=takes_mail)
    async with Engine(store, late.app) as engine:
        call = asyncio.create_task(engine.call(late.handler, id="l"))
        await late.begun["work"].wait()
        await engine.cancel("l")
        await late.begun["cleaning"].wait()
        monkeypatch.setattr(Recovery, "look", _finds_nothing)  # it comes when the process waits already
        await inspection.cancel(store, "l", force=True)
        late.go_on["cleaning"].set()
        with pytest.raises(ProcessCancelled):
            await call
        await reaches(engine, "l", "ended")


async def test_a_process_that_began_to_wait_as_it_was_cancelled_is_found_after_a_crash(store: Store) -> None:
    late = Late(takes_mail=False)
    late.go_on["cleaning"].set()
    engine = Engine(store, late.app)
    await engine.__aenter__()
    call = asyncio.create_task(engine.call(late.handler, id="l"))
    await late.begun["work"].wait()
    await store.access.writer.run(CancelProcess(engine._owner.rules, "default", "l", "now"))
    commits = store.access.writer.commits

    async def committed() -> bool:
        return store.access.writer.commits > commits

    late.go_on["work"].set()
    await eventually(committed)
    await crash(engine)
    call.cancel()

    assert (await inspection.process(store, "l")).status == "runnable"
    async with Engine(store, late.app):
        await late.begun["cleaning"].wait()


async def _finds_nothing(_recovery: Recovery) -> None:
    pass


async def test_what_another_asks_of_a_process_that_has_just_become_idle_is_found_by_the_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look comes between the commit that ends a turn and its owner's hearing of that."""
    app, kept, look = App("idle"), list[Resident](), Recovery.look
    monkeypatch.setattr(Recovery, "look", _finds_nothing)  # there is the one look only

    @app.process
    class Box(Process):
        @on(Go, start=True, key=lambda _message: "box")
        async def go(self, _message: Go) -> None:
            pass

    async with Engine(store, app) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(engine._owner, "settled", kept.append)
            await engine.call(Box.go, Go())
            [found] = await inspection.processes(store)
            await inspection.cancel(store, found.process_id)
            await look(engine._owner.recovery)
        for resident in kept:
            engine._owner.settled(resident)

        await reaches(engine, found.process_id, "ended")


async def test_a_request_that_was_made_while_no_engine_ran_is_heard_before_a_step_begins_again(store: Store) -> None:
    late = Late(takes_mail=False)
    engine = Engine(store, late.app)
    await engine.__aenter__()
    call = asyncio.ensure_future(engine.call(late.handler, id="l"))
    await late.begun["work"].wait()
    await crash(engine)
    call.cancel()
    late.begun["work"].clear()
    await inspection.cancel(store, "l")
    late.go_on["cleaning"].set()
    async with Engine(store, late.app):
        await late.begun["cleaning"].wait()
        assert not late.begun["work"].is_set(), "nobody waits for it any more"
