"""Contract 1: the pure decisions, as transactions of other rooms use them, and what becomes of them under races and faults.

`n` numbers holes in the tests of the seed's system, `defect` its defects.
Source: the lists of both in the research on routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import limits
from perdure.core.table import Key, Scan
from perdure.core.view import View
from perdure.errors import RejectedError
from perdure.identity import RegistryKey
from perdure.routing.audit import Reconcile, follow, held_in
from perdure.routing.registry import Registry
from perdure.routing.tables import CORRELATION, KEY, REGISTRY_EVENT, REGISTRY_EVENTS, Change, KeyRow, RegistryEventRow
from perdure.routing.writes import add_tag, bind_key, find_owner, park_under, release, remove_tag, take_parked, unbind_key
from perdure.store import Store
from tests.contracts.registry import ACME, NEW, ORDER, P1, P2, Do, process


async def do(store: Store, decide_it: Callable[[View], Any], *, refuse: bool = False) -> Any:
    return (await store.commit(Do(decide_it, refuse)))[0]


async def row_of(store: Store) -> KeyRow | None:
    return await store.access.reader.get(KEY.key(ACME, ORDER))


def bind(view: View) -> str:
    return bind_key(view, ACME, ORDER, P1)


def unbind(view: View) -> bool:
    return unbind_key(view, ACME, ORDER, P1.process_id)


def park(view: View) -> None:
    park_under(view, ACME, ORDER)


# --- binding ----------------------------------------------------------------------------------------------


async def test_binding_never_steals(store: Store) -> None:
    assert await do(store, bind) == "p1"
    assert await do(store, bind) == "p1"
    assert await do(store, lambda view: bind_key(view, ACME, ORDER, P2)) == "p1"
    assert await do(store, lambda view: find_owner(view, ACME, ORDER)) == "p1"
    assert not await do(store, lambda view: unbind_key(view, ACME, ORDER, "p2"))
    assert await do(store, unbind)
    assert not await do(store, unbind)
    assert await do(store, lambda view: find_owner(view, ACME, ORDER)) is None


async def test_a_refused_transaction_leaves_no_address(store: Store) -> None:
    """R17, defect 4: an address is committed with what it belongs to, or not at all."""

    def all_of_it(view: View) -> None:
        bind(view)
        add_tag(view, ACME, "t", P1)

    with pytest.raises(RejectedError):
        await do(store, all_of_it, refuse=True)

    registry = Registry(store.access)
    assert await registry.lookup(ACME, ORDER) is None
    assert await registry.lookup_correlated(ACME, "t") == []
    assert await store.access.reader.count(REGISTRY_EVENT) == 0
    assert await registry.len() == 0


async def test_r16_and_defect_04_all_addresses_of_a_process_are_there_at_once(store: Store) -> None:
    def all_of_it(view: View) -> None:
        bind(view)
        add_tag(view, ACME, "t", P1)
        add_tag(view, ACME, "u", P1)

    await do(store, all_of_it)

    registry = Registry(store.access)
    assert await registry.lookup(ACME, ORDER) == P1
    assert await registry.tags_of(ACME, P1.process_id) == ["t", "u"]
    events = await store.access.reader.scan(Scan(REGISTRY_EVENTS, (ACME,), 10))
    assert [(event.what, event.actor) for _, event in events] == [("bind", "engine"), ("tag", "engine"), ("tag", "engine")]


async def test_a_tag_is_new_once_and_gone_once(store: Store) -> None:
    assert await do(store, lambda view: add_tag(view, ACME, "t", P1))
    assert not await do(store, lambda view: add_tag(view, ACME, "t", P1))
    assert not await do(store, lambda view: add_tag(view, ACME, "t", process("p1", package_hash=NEW)))
    assert await do(store, lambda view: remove_tag(view, ACME, "t", "p1"))
    assert not await do(store, lambda view: remove_tag(view, ACME, "t", "p1"))


# --- parking: absence is a row ------------------------------------------------------------------------------


async def test_a_key_with_parked_messages_is_not_registered(store: Store) -> None:
    registry = Registry(store.access)

    await do(store, park)

    assert await registry.lookup(ACME, ORDER) is None
    assert not await registry.contains(ACME, ORDER)
    assert await registry.is_empty()
    await registry.remove(ACME, ORDER)
    assert not await registry.remove_if(ACME, ORDER, P1.process_id)
    assert not await registry.replace(ACME, ORDER, P1.process_id, P2)
    assert await row_of(store) == KeyRow(parked=1)
    assert await registry.verify(ACME) == []


async def test_binding_keeps_the_count_until_the_messages_are_handed_over(store: Store) -> None:
    await do(store, park)
    await do(store, park)
    await do(store, bind)

    bound = await row_of(store)
    assert bound is not None
    assert (bound.process_id, bound.parked) == ("p1", 2)
    assert await Registry(store.access).len() == 1

    await do(store, lambda view: take_parked(view, ACME, ORDER, 2))

    assert await row_of(store) == msgspec.structs.replace(bound, parked=0)


async def test_a_removed_key_keeps_the_guard_of_what_is_parked(store: Store) -> None:
    await do(store, park)
    registry = Registry(store.access)
    await registry.register(ACME, ORDER, P1)

    await registry.remove(ACME, ORDER)

    assert await row_of(store) == KeyRow(parked=1)
    assert await registry.is_empty()
    await registry.register(ACME, ORDER, P2)
    await registry.release(ACME, P2.process_id)
    assert await row_of(store) == KeyRow(parked=1)


async def test_a_key_that_says_nothing_leaves_no_row(store: Store) -> None:
    await do(store, park)
    await do(store, lambda view: take_parked(view, ACME, ORDER, 1))
    assert await row_of(store) is None

    await do(store, bind)
    await do(store, unbind)
    assert await row_of(store) is None


async def test_parking_under_a_bound_key_and_taking_too_many_are_bugs(store: Store) -> None:
    await do(store, bind)
    with pytest.raises(AssertionError, match="bound"):
        await do(store, park)
    await do(store, unbind)
    await do(store, park)
    for decide in (lambda view: take_parked(view, ACME, ORDER, 0), lambda view: take_parked(view, ACME, ORDER, 2)):
        with pytest.raises(AssertionError, match="of 1 parked"):
            await do(store, decide)

    assert await row_of(store) == KeyRow(parked=1)


# --- releasing -----------------------------------------------------------------------------------------------


async def _give(store: Store, keys: int, tags: int) -> None:
    def all_of_it(view: View) -> None:
        for number in range(keys):
            bind_key(view, ACME, f"k{number}", P1)
        for number in range(tags):
            add_tag(view, ACME, f"t{number}", P1)

    await do(store, all_of_it)


@pytest.mark.parametrize("at_most", [1, 3, 4, 5, 7, 8, 100])
async def test_a_release_drops_keys_then_tags_up_to_its_bound(store: Store, at_most: int) -> None:
    await _give(store, 4, 3)

    dropped = await do(store, lambda view: release(view, ACME, "p1", at_most=at_most))

    registry = Registry(store.access)
    assert dropped == min(at_most, 7)
    assert len(await registry.keys_of(ACME, P1.process_id)) == max(0, 4 - at_most)
    assert len(await registry.tags_of(ACME, P1.process_id)) == min(3, max(0, 7 - at_most))
    assert await registry.len() == max(0, 4 - at_most)


async def test_a_release_without_bound_drops_all_in_one_transaction(store: Store) -> None:
    many = 2 * limits.READ_PAGE + 1
    registry = Registry(store.access)
    await asyncio.gather(*(registry.register(ACME, RegistryKey(f"k{number}"), P1) for number in range(many)))
    await asyncio.gather(*(registry.register_correlated(ACME, f"t{number}", P1.process_id, P1) for number in range(many)))

    assert await do(store, lambda view: release(view, ACME, "p1")) == 2 * many
    assert await registry.verify(ACME) == []
    assert await registry.is_empty()


async def test_a_release_sees_what_its_own_transaction_has_bound(store: Store) -> None:
    await _give(store, 1, 1)

    def bind_and_end(view: View) -> int:
        bind(view)
        remove_tag(view, ACME, "t0", "p1")
        return release(view, ACME, "p1", guard=KEY.key(ACME, "guard"))

    assert await do(store, bind_and_end) == 2
    assert await Registry(store.access).is_empty()


# --- the record -----------------------------------------------------------------------------------------------------

events = st.lists(
    st.builds(
        RegistryEventRow,
        what=st.sampled_from(list(Change)),
        name=st.sampled_from("ab"),
        process_id=st.sampled_from(["p1", "p2"]),
        process_type=st.just("order"),
        package_hash=st.sampled_from([None, NEW]),
        actor=st.just("engine"),
    )
)


@given(events, st.integers(0, 50))
@settings(deadline=None)
def test_following_the_record_in_two_parts_is_following_it_at_once(rows: list[RegistryEventRow], cut: int) -> None:
    record = [(REGISTRY_EVENT.key(ACME, tick), row) for tick, row in enumerate(rows, 1)]
    whole: dict[Key[Any], Any] = {}
    parts: dict[Key[Any], Any] = {}

    end = follow(whole, record)
    follow(parts, record[:cut])
    follow(parts, record[cut:])

    assert parts == whole
    assert end == len(rows)


@pytest.mark.parametrize("mend", [False, True])
async def test_what_was_recorded_since_the_last_look_is_looked_at_in_the_transaction(store: Store, mend: bool) -> None:
    await do(store, bind)
    [(first, _)] = await store.access.reader.scan(Scan(REGISTRY_EVENTS, (ACME,), 10))
    seen = first.parts[1]
    assert isinstance(seen, int)
    await do(store, lambda view: add_tag(view, ACME, "t", P1))
    await do(store, lambda view: bind_key(view, ACME, "other", P1))
    bound = await row_of(store)
    assert bound is not None
    await do(store, unbind)
    stale: dict[Key[Any], Any] = {KEY.key(ACME, ORDER): held_in(KEY.key(ACME, ORDER), bound), CORRELATION.key(ACME, "t", "p1"): None}

    assert await store.commit(Reconcile(tenant_id=ACME, addresses=stale, seen=seen, mend=mend)) == ([],)

    registry = Registry(store.access)
    assert not await registry.contains(ACME, ORDER)
    assert await registry.tags_of(ACME, P1.process_id) == ["t"]
    assert await registry.verify(ACME) == []
