"""Contract 1: all addresses of a process, and the record that both indexes follow from.

`r` and `n` number the behaviours of the seed's system and the holes in its tests, `defect` its defects.
Source: the lists of both in the research on routing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from perdure import limits
from perdure.core.table import Index, Scan
from perdure.errors import StoreCorrupt
from perdure.identity import RegistryKey
from perdure.routing.audit import check_counter
from perdure.routing.contract import Difference, ProcessRegistry
from perdure.routing.registry import Registry
from perdure.routing.tables import (
    CORRELATION,
    CORRELATIONS,
    KEY,
    KEYS,
    KEYS_COUNTER,
    REGISTRY_EVENTS,
    CorrelationRow,
    KeyRow,
)
from perdure.store import Store
from tests.contracts.registry import ACME, GLOBEX, NEW, ORDER, P1, P2, P3, Damage, process

Reopen = Callable[[], Awaitable[Store]]
Rows = dict[Any, Any]


@pytest.fixture
def registry(store: Store) -> ProcessRegistry:
    return Registry(store.access)


async def rows_of(store: Store) -> Rows:
    """Both indexes of the tenant, to the last bit."""
    indexes: list[Index[Any]] = [KEYS, CORRELATIONS]
    return {key: row for index in indexes for key, row in await store.access.reader.scan(Scan(index, (ACME,), 100_000))}


async def history(registry: ProcessRegistry, seed: int, steps: int) -> None:
    rng = random.Random(seed)
    for _ in range(steps):
        key, tag = RegistryKey(f"k{rng.randrange(6)}"), f"t{rng.randrange(3)}"
        identity = process(f"p{rng.randrange(5)}", package_hash=rng.choice((None, NEW)))
        match rng.randrange(8):
            case 0:
                await registry.register(ACME, key, identity)
            case 1:
                await registry.register_if_absent(ACME, key, identity)
            case 2:
                await registry.replace(ACME, key, process(f"p{rng.randrange(5)}").process_id, identity)
            case 3:
                await registry.remove(ACME, key)
            case 4 | 5:
                await registry.register_correlated(ACME, tag, identity.process_id, identity)
            case 6:
                await registry.remove_correlated(ACME, tag, identity.process_id)
            case _:
                await registry.release(ACME, identity.process_id)


# --- all addresses of a process -------------------------------------------------------------------------


async def test_n14_the_keys_and_tags_of_a_process_are_those_that_lead_to_it(registry: ProcessRegistry, reopen: Reopen) -> None:
    for text in ("b", "a", "B", "é", "a/b"):
        await registry.register(ACME, RegistryKey(text), P1)
        await registry.register_correlated(ACME, text, P1.process_id, P1)
    await registry.register(ACME, ORDER, P2)
    await registry.register_correlated(ACME, "a", P2.process_id, P2)

    registry = Registry((await reopen()).access)

    assert await registry.keys_of(ACME, P1.process_id) == ["B", "a", "a/b", "b", "é"]
    assert await registry.tags_of(ACME, P1.process_id) == ["B", "a", "a/b", "b", "é"]
    assert all(type(key) is RegistryKey for key in await registry.keys_of(ACME, P1.process_id))
    assert await registry.keys_of(GLOBEX, P1.process_id) == []


async def test_a_key_that_changes_hands_leaves_its_old_owner(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)

    await registry.register(ACME, ORDER, P2)

    assert await registry.keys_of(ACME, P1.process_id) == []
    assert await registry.keys_of(ACME, P2.process_id) == [ORDER]


async def test_n14_and_defect_01_release_drops_everything_that_leads_to_a_process(registry: ProcessRegistry, reopen: Reopen) -> None:
    for text in ("a", "b", "c"):
        await registry.register(ACME, RegistryKey(text), P1)
        await registry.register_correlated(ACME, text, P1.process_id, P1)
        await registry.register_correlated(ACME, text, P2.process_id, P2)
    await registry.register(ACME, ORDER, P2)
    await registry.register(GLOBEX, ORDER, process("p1", tenant_id=GLOBEX))

    assert await registry.release(ACME, P1.process_id) == 6

    registry = Registry((await reopen()).access)
    assert await registry.release(ACME, P1.process_id) == 0
    assert await registry.keys_of(ACME, P1.process_id) == []
    assert await registry.tags_of(ACME, P1.process_id) == []
    assert await registry.lookup_correlated(ACME, "a") == [P2]
    assert await registry.contains(GLOBEX, ORDER)
    assert await registry.len() == 2


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_release_drops_more_than_one_transaction_takes(registry: ProcessRegistry, more: int) -> None:
    count = limits.EFFECTS_CHUNK + more
    await asyncio.gather(*(registry.register(ACME, RegistryKey(f"k{number}"), P1) for number in range(count - 1)))
    await registry.register_correlated(ACME, "t", P1.process_id, P1)

    assert await registry.release(ACME, P1.process_id) == count
    assert await registry.is_empty()
    assert await registry.verify(ACME) == []


# --- the record ---------------------------------------------------------------------------------------------


async def test_every_change_is_recorded_and_nothing_else(store: Store, registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    await registry.register(ACME, ORDER, P1)
    await registry.register_if_absent(ACME, ORDER, P2)
    await registry.replace(ACME, ORDER, P1.process_id, P3)
    await registry.remove_if(ACME, ORDER, P1.process_id)
    await registry.remove(ACME, ORDER)
    await registry.remove(ACME, ORDER)
    await registry.register_correlated(ACME, "t", P1.process_id, P1)
    await registry.register_correlated(ACME, "t", P1.process_id, P1)
    await registry.release(ACME, P1.process_id)

    events = [event for _, event in await store.access.reader.scan(Scan(REGISTRY_EVENTS, (ACME,), 100))]

    assert [(event.what, event.name, event.process_id) for event in events] == [
        ("bind", ORDER, "p1"),
        ("bind", ORDER, "p3"),
        ("unbind", ORDER, "p3"),
        ("tag", "t", "p1"),
        ("untag", "t", "p1"),
    ]
    assert {event.actor for event in events} == {"caller"}
    assert events[1].package_hash == P3.package_hash


@pytest.mark.parametrize("seed", range(4))
async def test_n15_and_defect_03_a_lost_index_is_rebuilt_bit_by_bit(
    store: Store, registry: ProcessRegistry, seed: int, reopen: Reopen
) -> None:
    await history(registry, seed, 50)
    before, count = await rows_of(store), await registry.len()
    await store.commit(Damage(dict.fromkeys(before)))
    assert await rows_of(store) == {}

    assert await registry.rebuild(ACME) == len(before)

    store = await reopen()
    assert await rows_of(store) == before
    assert await Registry(store.access).len() == count
    assert await Registry(store.access).verify(ACME) == []


@pytest.mark.parametrize("seed", range(4, 8))
async def test_n15_a_garbled_index_is_rebuilt_bit_by_bit(store: Store, registry: ProcessRegistry, seed: int) -> None:
    await history(registry, seed, 50)
    before = await rows_of(store)
    rng = random.Random(seed)
    garbled: Rows = {KEY.key(ACME, "never"): KeyRow(process_id="p8", process_type="order", tick=1)}
    garbled[CORRELATION.key(ACME, "t0", "p8")] = CorrelationRow(process_type="order", package_hash=None, tick=5)
    for key, row in before.items():
        garbled[key] = rng.choice([None, row, msgspec.structs.replace(row, tick=7), msgspec.structs.replace(row, process_type="x")])
    changed = sum(row != before.get(key) for key, row in garbled.items())
    await store.commit(Damage(garbled))

    differences = await registry.verify(ACME)
    mended = await registry.rebuild(ACME)

    assert len([difference for difference in differences if difference.what != "counter"]) == mended == changed
    assert await rows_of(store) == before
    assert await registry.verify(ACME) == []


async def test_verify_says_what_differs_and_how(store: Store, registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    await registry.register_correlated(ACME, "t", P1.process_id, P1)
    stranger = CorrelationRow(process_type="order", package_hash=None, tick=9)
    lost: Rows = {KEY.key(ACME, ORDER): None, CORRELATION.key(ACME, "t", "p1"): None, CORRELATION.key(ACME, "t", "p9"): stranger}
    await store.commit(Damage(lost))

    key, member, unknown, counter = await registry.verify(ACME)

    assert (key.what, key.name, key.process_id, key.found) == ("key", ORDER, "", "nothing")
    assert key.recorded.startswith("process 'p1' of type 'order', package None, since ")
    assert (member.what, member.name, member.process_id, member.found) == ("tag", "t", "p1", "nothing")
    assert (unknown.process_id, unknown.recorded) == ("p9", "nothing")
    assert unknown.found == "process 'p9' of type 'order', package None, since 9"
    assert counter == Difference(what="counter", name=KEYS_COUNTER, recorded="0 bound keys", found="1")


async def test_verify_changes_nothing_and_sees_one_tenant(store: Store, registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    await store.commit(Damage({KEY.key(ACME, ORDER): None}))

    assert [difference.what for difference in await registry.verify(GLOBEX)] == ["counter"]
    assert await registry.rebuild(GLOBEX) == 0
    assert await registry.verify(ACME) == await registry.verify(ACME) != []
    assert await registry.lookup(ACME, ORDER) is None


async def test_rebuild_leaves_what_is_parked(store: Store, registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    [bound] = (await rows_of(store)).values()
    wrong = {
        KEY.key(ACME, ORDER): KeyRow(parked=3),
        KEY.key(ACME, "empty"): KeyRow(process_id="p9", process_type="order", tick=1, parked=2),
        KEY.key(ACME, "waiting"): KeyRow(parked=4),
    }
    await store.commit(Damage(wrong))

    assert await registry.rebuild(ACME) == 2

    assert await rows_of(store) == {
        KEY.key(ACME, ORDER): msgspec.structs.replace(bound, parked=3),
        KEY.key(ACME, "empty"): KeyRow(parked=2),
        KEY.key(ACME, "waiting"): KeyRow(parked=4),
    }


async def test_rebuild_takes_more_than_one_transaction(store: Store, registry: ProcessRegistry) -> None:
    count = 2 * limits.EFFECTS_CHUNK + 1
    await asyncio.gather(*(registry.register(ACME, RegistryKey(f"k{number}"), P1) for number in range(count)))
    before = await rows_of(store)
    await store.commit(Damage(dict.fromkeys(before)))

    assert await registry.rebuild(ACME) == count
    assert await rows_of(store) == before


@pytest.mark.parametrize("seed", range(3))
async def test_what_others_do_meanwhile_is_no_difference_and_is_not_undone(store: Store, registry: ProcessRegistry, seed: int) -> None:
    await history(registry, seed, 40)
    await store.commit(Damage(dict.fromkeys(list(await rows_of(store))[::2])))

    await asyncio.gather(*(history(registry, seed * 10 + other, 40) for other in range(4)), registry.rebuild(ACME))
    quiet = [difference for difference in await registry.verify(ACME) if difference.what != "counter"]
    others = [asyncio.create_task(history(registry, other, 60)) for other in range(5)]
    during = await registry.verify(ACME)
    await asyncio.gather(*others)

    assert quiet == []
    assert [difference for difference in during if difference.what != "counter"] == []


# --- damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{"process_type": "x\x07"}, {"process_id": "\x07"}])
async def test_n17_a_damaged_row_is_a_typed_error_that_says_what_to_do(
    store: Store, registry: ProcessRegistry, bad: dict[str, Any]
) -> None:
    await registry.register(ACME, ORDER, P1)
    [(key, row)] = (await rows_of(store)).items()
    await store.commit(Damage({key: msgspec.structs.replace(row, **bad)}))

    with pytest.raises(StoreCorrupt, match="rebuild"):
        await registry.lookup(ACME, ORDER)
    with pytest.raises(StoreCorrupt):
        await registry.register_if_absent(ACME, ORDER, P2)

    await registry.rebuild(ACME)
    assert await registry.lookup(ACME, ORDER) == P1


async def test_n17_and_defect_10_a_counter_that_has_drifted_is_found(store: Store, registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    await store.commit(Damage({}, {KEYS_COUNTER: 2}))

    assert await registry.verify(ACME) == [Difference(what="counter", name=KEYS_COUNTER, recorded="1 bound keys", found="3")]


class Busy:
    """Reads of a store with traffic: a key is bound after each look at the counter."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bound = 0

    async def counter(self, name: str) -> int:
        value = await self._store.access.reader.counter(name)
        self._bound += 1
        await Registry(self._store.access).register(ACME, RegistryKey(f"k{self._bound}"), P1)
        return value

    async def scan(self, scan: Scan[Any]) -> list[Any]:
        return await self._store.access.reader.scan(scan)


async def test_a_counter_that_moves_with_the_traffic_is_not_taken_for_drifted(store: Store) -> None:
    assert await check_counter(Busy(store)) is None  # type: ignore[arg-type]  # no more of a reader is needed
