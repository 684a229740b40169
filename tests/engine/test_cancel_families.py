"""Families of which a part is started while its head is cancelled, that are very large, or whose engine crashes meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Address, Engine, Store, VirtualClock, limits, testing
from perdure.clock import SECOND
from perdure.engine.cancelling import AskChildren
from perdure.engine.control import CancelProcess
from perdure.errors import ProcessCancelled
from perdure.testing import VirtualEngine
from tests.engine.families import Families, Go, standing
from tests.engine.orders import eventually
from tests.engine.test_cancel_children import all_asked, begun


async def _is_set(event: object) -> bool:
    return event.is_set()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("verb", ["spawn", "call"])
async def test_a_child_that_is_started_before_its_parent_has_heard_never_begins(store: Store, clock: VirtualClock, verb: str) -> None:
    """The parent hears when its plain function returns; meanwhile a timer rings in it, and it starts a child."""
    family = Families()
    async with Engine(store, family.app) as engine:
        call = asyncio.ensure_future(engine.call(family.late, verb, id="late"))
        await eventually(lambda: _is_set(family.begun))
        await engine.cancel("late")

        clock.advance(60 * SECOND)
        await eventually(lambda: _stands(store, "leaf", ["ended cancelled: its parent late is cancelled"]))

        family.go_on.set()
        with pytest.raises(ProcessCancelled, match="process late"):
            await call
        assert await engine.children("late") == []
    assert family.ledger.counts == {}, "not even to clean up: it has done nothing"


async def test_a_child_that_would_wait_for_a_place_gives_it_to_nobody(store: Store, clock: VirtualClock) -> None:
    family = Families(places=1)
    async with Engine(store, family.app) as engine:
        other = asyncio.ensure_future(engine.call(family.leaf_of, "other", id="other"))
        call = asyncio.ensure_future(engine.call(family.late, "spawn", id="late"))
        await eventually(lambda: _is_set(family.begun))
        await engine.cancel("late")
        clock.advance(60 * SECOND)
        await eventually(lambda: _stands(store, "leaf", ["ended cancelled: its parent late is cancelled", "waiting"]))
        family.go_on.set()
        await asyncio.gather(call, return_exceptions=True)

        await engine.deliver(Go(), id="go", to=Address.process("other"))
        assert await other == "other"
        third = asyncio.ensure_future(engine.call(family.leaf_of, "third", id="third"))
        await eventually(lambda: _stands(store, "leaf", ["ended", "ended cancelled: its parent late is cancelled", "waiting"]))
        third.cancel()


async def _stands(store: Store, process_type: str, expected: list[str]) -> bool:
    return (await standing(store)).get(process_type) == expected


async def test_a_process_that_keeps_starting_others_is_caught_up_with() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        call = asyncio.ensure_future(engine.call(family.spreads, id="first"))
        await eventually(lambda: _generations(engine, 5))

        await engine.cancel("first")
        await engine.settled()

        found = await standing(engine.store)
        assert all(row.startswith("ended cancelled") for row in found["spreads"])
        with pytest.raises(ProcessCancelled):
            await call


async def _generations(engine: Engine, count: int) -> bool:
    return len(await engine.processes()) >= count


async def test_a_large_family_is_asked_in_pages_that_take_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Families()
    monkeypatch.setattr(limits, "CANCEL_CHUNK", 10)
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 95)
        await begun(engine, family.grandparent, 0, 3)
        rules, writer = engine._owner.rules, engine.store.access.writer
        for process_id in ("parent", "grandparent"):
            await writer.run(CancelProcess(rules, "default", process_id, ""))

        left, pages = [], 0
        more = True
        while more:
            more, notes = await writer.run(AskChildren(rules))
            engine._owner.later(engine._owner.route, notes)
            await engine.settled()
            pages += 1
            left.append((len(await engine.children("parent")), len(await engine.children("grandparent"))))

        assert left[:2] == [(85, 3), (85 - 7, 0)], "the second page begins with the family that has waited longer"
        assert (pages, left[-1]) == (10, (0, 0))
    assert family.ledger.counts.total() == 98


async def test_very_many_children_are_asked_in_bounded_transactions() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 1_000)
        engine._owner.submit(CancelProcess(engine._owner.rules, "default", "parent", ""), 0, lambda _results, _error: None)
        await engine.settled()

        pages, more = 0, True
        while more:
            more, notes = await engine.store.access.writer.run(AskChildren(engine._owner.rules))
            pages += 1
            assert len(notes) <= 2 * limits.CANCEL_CHUNK
            engine._owner.later(engine._owner.route, notes)
        await engine.settled()

        assert pages == 1_000 // limits.CANCEL_CHUNK + 1
        assert (await standing(engine.store))["leaf"] == ["ended cancelled: its parent parent was cancelled"] * 1_000 + ["waiting"]


async def test_children_that_end_at_once_are_fewer_on_a_page_the_more_mail_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Families()
    monkeypatch.setattr(limits, "CANCEL_CHUNK", 5)
    async with testing.engine(family.app) as engine:
        await begun(engine, family.hosts, ["ann", "bob", "cid", "dan"])
        for guest in await engine.children("hosts"):
            for number in range(7):
                await engine.deliver(Go(), id=f"{number} {guest.process_id}", to=Address.process(guest.process_id))
        await engine.store.access.writer.run(CancelProcess(engine._owner.rules, "default", "hosts", ""))

        for left in (3, 2, 1, 0):
            await engine.store.access.writer.run(AskChildren(engine._owner.rules))
            assert len(await engine.children("hosts")) == left


async def test_a_family_is_cancelled_to_its_last_member_whatever_commit_is_crashed() -> None:
    family = Families()

    async def scenario(engine: VirtualEngine) -> object:
        await begun(engine, family.grandparent, 1, 2)
        await begun(engine, family.caller, "c")
        await begun(engine, family.compensates)
        for process_id in ("grandparent", "caller", "compensates"):
            await engine.cancel(process_id, reason="enough")
        await engine.settled()
        assert await all_asked(engine.store)
        return await standing(engine.store)

    report = await testing.crashes(family.app, scenario, ledger=family.ledger)

    report.check()
    assert report.commits > 15
