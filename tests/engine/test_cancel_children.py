"""Cancelling a process cancels its children, and theirs: once, all of them, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from perdure import Address, Engine, Store, testing
from perdure.conversations.tables import CANCELLATIONS, CHILD, ChildRow
from perdure.core.table import Scan
from perdure.core.view import View
from perdure.engine import inspection
from perdure.engine.verification import verify
from perdure.errors import ProcessCancelled
from perdure.testing import VirtualEngine
from tests.engine.families import Families, Go, Visit, standing
from tests.engine.orders import eventually, reaches


async def begun(engine: VirtualEngine, handler: Callable[..., Coroutine[Any, Any, Any]], *args: object, tenant: str = "default") -> None:
    """Start a process under the name of its function, and let all come to where they wait; nobody waits for its reply."""
    call = asyncio.ensure_future(engine.call(handler, *args, id=handler.__name__, tenant=tenant))
    await engine.settled()
    call.cancel()


async def all_asked(store: Store) -> bool:
    return not await store.access.reader.scan(Scan(CANCELLATIONS, (), 1))


async def test_children_are_cancelled_with_their_parent_and_detached_ones_go_on() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 3)

        assert await engine.cancel("parent", reason="no need")
        await engine.settled()

        by_parent = "ended cancelled: its parent parent was cancelled: no need"
        assert await standing(engine.store) == {"leaf": [by_parent] * 3 + ["waiting"], "parent": ["ended cancelled: no need"]}
        assert family.ledger.counts == {"undo p.0": 1, "undo p.1": 1, "undo p.2": 1}
        assert await all_asked(engine.store)
        assert await engine.children("parent") == []


async def test_children_of_children_are_cancelled_and_say_why_the_first_was() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.grandparent, 2, 3)

        await engine.cancel("grandparent", reason="enough")
        await engine.settled()

        found = await standing(engine.store)
        assert (len(found["grandparent"]), len(found["leaf"])) == (1 + 3 + 9, 27)
        assert all(text.startswith("ended cancelled: its parent pd-") for text in found["leaf"])
        assert all(text.endswith(" was cancelled: enough") and text.count("parent") == 1 for text in found["leaf"])
        assert family.ledger.counts.total() == 27
        assert await all_asked(engine.store)


async def test_the_child_that_a_caller_waits_for_is_cancelled_and_the_caller_hears_of_its_own_request_only() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        call = asyncio.ensure_future(engine.call(family.caller, "c", id="caller"))
        await engine.settled()

        await engine.cancel("caller")

        with pytest.raises(ProcessCancelled, match=r"cancelled$"):
            await call
        await engine.settled()
        assert await standing(engine.store) == {
            "caller": ["ended cancelled"],
            "leaf": ["ended cancelled: its parent caller was cancelled"],
        }
        assert family.ledger.counts == {"undo c": 1, "undo c's caller": 1}


async def test_a_child_that_is_cancelled_alone_leaves_its_parent_and_its_siblings() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 2)
        first, second = await engine.children("parent")

        await engine.cancel(first.process_id)
        await engine.settled()

        assert [one.process_id for one in await engine.children("parent")] == [second.process_id]
        assert (await engine.process("parent")).status == "waiting"


async def test_what_a_process_starts_to_clean_up_is_not_cancelled() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.compensates)

        await engine.cancel("compensates", reason="undo")
        await engine.settled()
        assert family.ledger.counts == {"undo before": 1}
        assert not await engine.cancel("compensates", reason="again"), "the second request changes nothing for anybody"
        await engine.settled()
        waiting = [one for one in await engine.processes(type="leaf") if one.status == "waiting"]
        assert [one.parent for one in waiting] == [None, None]
        for one in waiting:
            await engine.deliver(Go(), id=f"go {one.process_id}", to=Address.process(one.process_id))
        await engine.settled()

        assert family.ledger.counts == {"undo before": 1, "do after": 1, "do refund": 1}
        assert (await engine.process("compensates")).note == "cancelled: undo"


async def test_force_ends_the_parent_and_asks_its_children() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 2)

        await engine.cancel("parent", reason="broken", force=True)
        await engine.settled()

        assert (await engine.process("parent")).status == "ended"
        assert family.ledger.counts == {"undo p.0": 1, "undo p.1": 1}, "they clean up"


async def test_force_after_a_request_leaves_what_cleans_up() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.compensates)
        await engine.cancel("compensates")
        await engine.settled()

        await engine.cancel("compensates", force=True)
        await engine.settled()

        found = await standing(engine.store)
        assert found["leaf"] == ["ended cancelled: its parent compensates was cancelled", "waiting", "waiting"]


async def test_a_child_that_goes_on_after_its_cancellation_is_on_the_list_until_it_ends() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.keeps)

        await engine.cancel("keeps")
        await engine.settled()

        assert (await engine.process("keeps")).status == "ended"
        [child] = await engine.children("keeps")
        assert child.status == "waiting"
        await engine.deliver(Go(), id="go", to=Address.process(child.process_id))
        await engine.settled()
        assert await engine.children("keeps") == []
        assert (await engine.process(child.process_id)).note == "cancelled: its parent keeps was cancelled"


async def test_a_paused_child_hears_of_it_when_it_is_resumed() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 1)
        [child] = await engine.children("parent")
        await engine.pause(child.process_id)

        await engine.cancel("parent")
        await engine.settled()
        assert (await engine.process(child.process_id)).status == "paused"
        assert family.ledger.counts == {}
        await engine.resume(child.process_id)
        await engine.settled()

        assert family.ledger.counts == {"undo p.0": 1}


async def test_a_child_without_an_open_turn_ends_at_once_and_its_mail_is_answered() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.hosts, ["ann"])
        [guest] = await engine.children("hosts")
        assert guest.status == "idle"

        await engine.cancel("hosts")
        await engine.settled()

        assert (await engine.process(guest.process_id)).note == "cancelled: its parent hosts was cancelled"
        assert await engine.call(family.guest.come, Visit("ann")) == 1, "the key is free for another one"


async def test_who_held_the_key_already_is_nobodys_child_and_goes_on() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await engine.call(family.guest.come, Visit("ann"))
        await begun(engine, family.hosts, ["ann"])

        await engine.cancel("hosts")
        await engine.settled()

        assert await engine.call(family.guest.come, Visit("ann")) == 3


async def test_who_was_started_from_outside_is_nobodys_child_whoever_calls_with_the_same_id() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        outside = asyncio.ensure_future(engine.call(family.leaf_of, "shared", id="shared"))
        await engine.settled()
        await begun(engine, family.shares)

        await engine.cancel("shares")
        await engine.settled()
        await engine.deliver(Go(), id="go", to=Address.process("shared"))

        assert await outside == "shared"


async def test_families_of_two_tenants_do_not_meet() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        for tenant in ("acme", "other"):
            await begun(engine, family.parent, tenant, 2, tenant=tenant)

        await engine.cancel("parent", tenant="acme")
        await engine.settled()

        assert family.ledger.counts == {"undo acme.0": 1, "undo acme.1": 1}
        assert await standing(engine.store, tenant="other") == {"leaf": ["waiting"] * 3, "parent": ["waiting"]}
        assert len(await engine.children("parent", tenant="other")) == 2


async def test_a_parent_that_ends_by_itself_leaves_its_children_on_its_list() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 2)
        await engine.deliver(Go(), id="go", to=Address.process("parent"))
        await engine.settled()

        assert (await engine.process("parent")).status == "ended"
        assert [one.status for one in await engine.children("parent")] == ["waiting", "waiting"]
        assert not await engine.cancel("parent"), "it is over, and nobody hears of it"
        await engine.settled()
        assert len(await engine.children("parent")) == 2


class List(msgspec.Struct, frozen=True):
    """List somebody as a child."""

    process_id: str

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        key = CHILD.key("default", "parent", self.process_id)
        assert view.get(key) is None
        view.insert(key, ChildRow(view.tick()))


async def test_verify_finds_on_a_list_who_is_no_child_or_over() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 1)
        await begun(engine, family.caller, "c")
        assert await verify(engine.store) == []

        for process_id in ("caller", "nobody"):
            await engine.store.commit(List(process_id))

        assert [(found.what, found.detail) for found in await verify(engine.store)] == [
            ("children", "process parent: lists caller as a child, which is waiting, a child of nobody"),
            ("children", "process parent: lists nobody as a child, which is not there"),
        ]


async def test_children_are_listed_page_by_page() -> None:
    family = Families()
    async with testing.engine(family.app) as engine:
        await begun(engine, family.parent, "p", 5)

        first = await engine.children("parent", limit=3)
        second = await engine.children("parent", limit=3, after=first.next)

        assert (len(first), len(second), second.next) == (3, 2, None)
        assert len({one.process_id for one in first + second}) == 5


async def test_a_process_that_is_cancelled_from_where_no_app_is_takes_its_children_with_it(store: Store) -> None:
    family = Families()
    async with Engine(store, family.app) as engine:
        for handler in (family.caller, family.leaf_of):
            asyncio.ensure_future(engine.call(handler, "c", id=handler.__name__)).add_done_callback(lambda call: call.exception())
            await reaches(engine, handler.__name__, "waiting")

        await inspection.cancel(store, "caller", reason="by night")
        await reaches(engine, "caller", "ended")
        await eventually(lambda: all_asked(store))

        async def leaf_has_ended() -> bool:
            return (await standing(store))["leaf"][0].startswith("ended cancelled: its parent caller was cancelled: by night")

        await eventually(leaf_has_ended)
        assert family.ledger.counts["undo c's caller"] == 1


async def test_children_that_are_not_in_memory_are_cancelled(store: Store) -> None:
    family = Families()
    async with Engine(store, family.app) as engine:
        asyncio.ensure_future(engine.call(family.grandparent, 1, 2, id="g")).add_done_callback(lambda call: call.exception())
        await eventually(lambda: _are(store, {"grandparent": ["waiting"] * 3, "leaf": ["waiting"] * 4}))
    async with Engine(store, family.app) as engine:
        assert engine._owner.residents == {}

        await engine.cancel("g")

        await eventually(lambda: _all_are_over(store))
    assert family.ledger.counts.total() == 4


async def test_it_is_not_forgotten_while_no_engine_runs(store: Store) -> None:
    family = Families()
    async with Engine(store, family.app) as engine:
        asyncio.ensure_future(engine.call(family.grandparent, 1, 2, id="g")).add_done_callback(lambda call: call.exception())
        await eventually(lambda: _are(store, {"grandparent": ["waiting"] * 3, "leaf": ["waiting"] * 4}))
    assert await inspection.cancel(store, "g")
    assert not await all_asked(store)

    async with Engine(store, family.app) as engine:
        await reaches(engine, "g", "ended")
        await eventually(lambda: all_asked(store))
        await eventually(lambda: _all_are_over(store))
    assert family.ledger.counts.total() == 4


async def _are(store: Store, expected: dict[str, list[str]]) -> bool:
    return await standing(store) == expected


async def _all_are_over(store: Store) -> bool:
    return all(row.startswith("ended") for rows in (await standing(store)).values() for row in rows)
