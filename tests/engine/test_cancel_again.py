"""Families that are run again after a cancellation, whose head's id is used again, and whose disk was full for a while."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

from perdure import Address, Engine, Process, Retention, Store, VirtualClock, on, testing
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.engine.control import CancelProcess
from perdure.testing import VirtualEngine
from tests.engine.families import Families, Go, Visit, standing
from tests.engine.orders import eventually, reaches
from tests.engine.test_attack_commits import STALL, Full
from tests.engine.test_cancel_children import all_asked, begun


class Again(Families):
    """With a parent whose steps can be run again."""

    def __init__(self) -> None:
        super().__init__()
        leaf = self.leaf_of

        @self.app.process
        async def steady(p: Process) -> None:
            p.spawn(leaf, "first")
            await p.step(self._note("settled"), name="settle")
            p.spawn(leaf, "second")
            await p.receive(Go)

        @self.app.process
        class Household(Process):
            @on(Visit, start=True)
            async def found(self, message: Visit) -> None:
                self.spawn(leaf, message.name)

            @on(Go)
            async def go(self, _message: Go) -> None:
                self.finish(None)

        self.steady, self.household = steady, Household


async def test_children_of_a_process_that_runs_again_are_spared_by_the_request_before() -> None:
    """Nobody has asked the first children yet when the parent is run again and starts others."""
    family = Again()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.steady)
        await engine.store.access.writer.run(CancelProcess(engine._owner.rules, "default", "steady", "", force=True))
        await engine.restart_from("settle", "steady")
        await engine.settled()
        assert len(await engine.children("steady")) == 3

        engine._owner.cancelling.look()
        await engine.settled()

        assert family.ledger.counts == {"settled": 2, "undo first": 1, "undo second": 1}
        assert (await engine.process("steady")).status == "waiting"
        assert await _started_again(engine) == 1


async def _started_again(engine: VirtualEngine) -> int:
    return len([one for one in await engine.children("steady") if one.status == "waiting"])


async def test_a_process_that_is_cancelled_runs_again_and_is_cancelled_again_takes_all_of_its_children() -> None:
    family = Again()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.steady)
        for _ in range(2):
            assert await engine.cancel("steady")
            await engine.settled()
            assert await engine.children("steady") == []
            await engine.restart_from("settle", "steady")
            await engine.settled()
        assert len(await engine.children("steady")) == 1


async def test_a_child_that_runs_again_is_on_the_list_again() -> None:
    family = Again()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.caller, "c")
        [child] = await engine.children("caller")
        await engine.pause("caller")
        await engine.deliver(Go(), id="go", to=Address.process(child.process_id))
        await engine.settled()
        assert await engine.children("caller") == []

        await engine.restart_from("receive", child.process_id)
        await engine.settled()
        assert [one.process_id for one in await engine.children("caller")] == [child.process_id]
        await engine.cancel("caller")
        await engine.settled()

        assert family.ledger.counts == {"do c": 1, "undo c": 1}


async def test_children_of_a_process_that_was_removed_are_not_those_of_the_next_one_of_its_id(store: Store, clock: VirtualClock) -> None:
    family, day = Again(), timedelta(days=1)
    async with Engine(store, family.app, retention=Retention(finished_processes=day, tombstones=day)) as engine:
        household = Address.start(family.household, id="h")
        await engine.deliver(Visit("old"), id="1", to=household, wait=True)
        await engine.deliver(Go(), id="2", to=Address.process("h"), wait=True)
        for _ in range(2):
            clock.advance(25 * 3_600 * SECOND)
            await engine.sweep()
        await engine.deliver(Visit("new"), id="3", to=household, wait=True)
        await eventually(lambda: _stands(store, ["waiting", "waiting"]))
        assert len(await engine.children("h")) == 1

        await engine.cancel("h")
        await eventually(lambda: _stands(store, ["ended cancelled: its parent h was cancelled", "waiting"]))

        assert await all_asked(store)
        assert family.ledger.counts == {"undo new": 1}


async def _stands(store: Store, leaves: list[str]) -> bool:
    return (await standing(store)).get("leaf") == leaves


async def test_children_are_asked_when_the_disk_is_no_longer_full(store: Store, clock: VirtualClock) -> None:
    family, disk = Families(), Full(store)
    async with Engine(store, family.app) as engine:
        asyncio.ensure_future(engine.call(family.caller, "c", id="caller")).add_done_callback(lambda call: call.exception())
        await reaches(engine, "caller", "waiting")
        [child] = await inspection.children(store, "caller")
        await reaches(engine, child.process_id, "waiting")
        with_request = itertools.count()
        disk.chosen = lambda tables: "cancellation" in tables and next(with_request) == 1  # the commit after that of the request

        await engine.cancel("caller")
        await eventually(lambda: _ends(store, clock, child.process_id))

        assert len(disk.refused) == 1
        assert family.ledger.counts["undo c"] == 1


async def _ends(store: Store, clock: VirtualClock, process_id: str) -> bool:
    """Let time pass until a process is over: the engine tries again a second later."""
    clock.advance(STALL)
    return (await inspection.process(store, process_id)).status == "ended"
