"""Search attributes of processes that are ended by force, run again from a step, copied, or removed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure import Address, App, Engine, Process, Retention, Store, VirtualClock, on, query
from perdure.engine.verification import verify
from perdure.identity import ProcessId, TenantId
from tests.engine.attributed import Effects, Go, Relabel, attributes, found, is_status, key, label, make_app, rows
from tests.engine.conftest import Running
from tests.engine.keeping import DAY
from tests.engine.orders import eventually

FOUND = {"changed": "old", "gone": True, "kept": 1}
CHANGE = Relabel("a", {"changed": "new", "added": 7}, take=["gone"], how="wait, raise")
CHANGED = {"added": 7, "changed": "new", "kept": 1}


async def test_a_process_that_is_ended_by_force_goes_back_to_what_its_turn_found(running: Running) -> None:
    app = App("forced")

    @app.process
    class Job(Process):
        state: str = "new"

        @on(Go, start=True, key=key)
        async def go(self, message: Go) -> None:
            self.state = "open"
            self.attributes["state"] = "open"
            await self.receive(Relabel)

        @query
        def look(self) -> str:
            return self.state

    async with running(app) as engine:
        await engine.deliver(Go("a"), id="g", to=Address.start("Job", id="j"))
        await eventually(lambda: is_status(engine, "j", "waiting"))
        assert (await engine.query(Job.look, "j"), await attributes(engine, "j")) == ("open", {"state": "open"})
        await engine.cancel("j", force=True)

        assert (await engine.query(Job.look, "j"), await attributes(engine, "j")) == ("new", {})
        assert await verify(engine.store) == []


async def test_an_open_turn_that_is_run_again_sets_its_attributes_again(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", FOUND)
        await engine.deliver(CHANGE, id="r")
        await eventually(lambda: is_status(engine, "a", "waiting"))
        await engine.restart_from("note", "a")
        await eventually(lambda: is_status(engine, "a", "waiting"))

        assert await attributes(engine, "a") == CHANGED
        await engine.deliver(Go("a"), id="g", to=Address.key(key(Go("a"))))
        await eventually(lambda: is_status(engine, "a", "idle"))
        assert await attributes(engine, "a") == FOUND
        assert await verify(engine.store) == []


async def test_a_failed_turn_that_is_run_again_sets_its_attributes_again_and_once(running: Running) -> None:
    app, steps = App("again"), Effects()
    fails = [True]

    async def last(name: str) -> None:
        if fails[0]:
            raise ValueError(name)

    @app.process
    class Job(Process):
        @on(Go, start=True, key=key)
        async def go(self, message: Go) -> None:
            self.attributes["x"] = 1
            self.tag("early")
            await self.step(steps.note, "half")
            await self.step(last, message.name)
            self.attributes["x"] = 2
            self.untag("early")
            await self.step(steps.note, "late")
            await self.receive(Relabel)
            self.attributes["y"] = 3

    async with running(app) as engine:
        with pytest.raises(ValueError, match="a"):
            await engine.deliver(Go("a"), id="g", to=Address.start("Job", id="j"), wait=True)
        assert await attributes(engine, "j") == {}
        fails[0] = False
        await engine.restart_from("last", "j")
        await eventually(lambda: is_status(engine, "j", "waiting"))
        assert await attributes(engine, "j") == {"x": 2}
    async with running(app) as engine:
        await engine.deliver(Relabel("a"), id="r", to=Address.process("j"))
        await eventually(lambda: is_status(engine, "j", "idle"))

        # Replayed once more, what was copied and committed is not committed a second time, over what came after it.
        assert await attributes(engine, "j") == {"x": 2, "y": 3}
        assert await engine.store.processes.tags_of(TenantId("default"), ProcessId("j")) == []
        assert await verify(engine.store) == []


async def test_a_copy_of_a_process_has_the_attributes_that_the_turn_found_and_those_it_sets(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", FOUND)
        await engine.deliver(CHANGE, id="r")
        await eventually(lambda: is_status(engine, "a", "waiting"))
        await engine.fork("note", "a", id="b")
        await eventually(lambda: is_status(engine, "b", "waiting"))

        assert await attributes(engine, "a") == await attributes(engine, "b") == CHANGED
        assert await found(engine, attributes={"changed": "new"}) == ["a", "b"]
        assert await verify(engine.store) == []
        await engine.deliver(Go("a"), id="g", to=Address.process("b"))
        await eventually(lambda: is_status(engine, "b", "idle"))
        assert await attributes(engine, "b") == FOUND


async def test_attributes_are_removed_with_their_process(store: Store, clock: VirtualClock) -> None:
    retention = Retention(finished_processes=timedelta(days=3))
    async with Engine(store, make_app(), retention=retention) as engine:
        await label(engine, "a", FOUND, how="end")
        await label(engine, "b", FOUND)
        assert await found(engine, attributes={"kept": 1}) == ["a", "b"]
        clock.advance(3 * DAY)

        await engine.sweep()

        assert await found(engine, attributes={"kept": 1}) == ["b"]
        assert (await rows(engine), await attributes(engine, "b")) == (len(FOUND), FOUND)
        assert await verify(store) == []
