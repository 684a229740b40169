"""Contract 1: one process under a key.

`r` and `n` number the behaviours of the seed's system and the holes in its tests, `defect` its defects.
Source: the lists of both in the research on routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.core.view import View
from perdure.errors import IdentityMismatch, ProcessEnded
from perdure.identity import ProcessId, ProcessIdentity, RegistryKey, TenantId
from perdure.routing.contract import ProcessRegistry
from perdure.routing.registry import Registry
from perdure.store import Store
from tests.contracts.registry import ACME, GLOBEX, NEW, OLD, ORDER, P1, P2, P3, process

Reopen = Callable[[], Awaitable[Store]]
MANY = 200


@pytest.fixture
def registry(store: Store) -> ProcessRegistry:
    return Registry(store.access)


async def test_r01_a_registered_process_is_found(registry: ProcessRegistry, reopen: Reopen) -> None:
    await registry.register(ACME, ORDER, P3)

    assert await registry.lookup(ACME, ORDER) == P3
    assert await Registry((await reopen()).access).lookup(ACME, ORDER) == P3


async def test_r02_an_unknown_key_is_bound_to_nobody(registry: ProcessRegistry) -> None:
    assert await registry.lookup(ACME, ORDER) is None


async def test_r03_a_removed_key_is_bound_to_nobody(registry: ProcessRegistry, reopen: Reopen) -> None:
    await registry.register(ACME, ORDER, P1)

    await registry.remove(ACME, ORDER)

    assert await registry.lookup(ACME, ORDER) is None
    assert await Registry((await reopen()).access).lookup(ACME, ORDER) is None


async def test_r04_the_last_one_who_registers_has_the_key_and_it_counts_once(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)

    await registry.register(ACME, ORDER, P2)

    assert await registry.lookup(ACME, ORDER) == P2
    assert await registry.len() == 1
    assert await registry.keys_of(ACME, P1.process_id) == []


async def test_r05_contains_says_what_lookup_would(registry: ProcessRegistry) -> None:
    assert not await registry.contains(ACME, ORDER)

    await registry.register(ACME, ORDER, P1)

    assert await registry.contains(ACME, ORDER)


async def test_r06_two_registries_of_one_store_are_one(store: Store) -> None:
    await Registry(store.access).register(ACME, ORDER, P1)

    assert await Registry(store.access).lookup(ACME, ORDER) == P1


async def test_r08_no_call_sees_across_tenants(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    await registry.register(GLOBEX, ORDER, process("p9", tenant_id=GLOBEX))

    assert await registry.lookup(ACME, ORDER) == P1
    await registry.remove(ACME, ORDER)
    assert await registry.lookup(GLOBEX, ORDER) == process("p9", tenant_id=GLOBEX)


async def test_r09_the_stream_of_a_found_process_is_that_of_the_registered_one(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)

    found = await registry.lookup(ACME, ORDER)

    assert found is not None
    assert found.stream_id == P1.stream_id == "process/acme/p1"


async def test_n09_a_tenant_that_never_registered_anything_is_like_any_other(registry: ProcessRegistry) -> None:
    nobody = TenantId("nobody")

    assert await registry.lookup(nobody, ORDER) is None
    assert await registry.lookup_correlated(nobody, "t") == []
    await registry.remove(nobody, ORDER)
    await registry.remove_correlated(nobody, "t", P1.process_id)
    assert not await registry.remove_if(nobody, ORDER, P1.process_id)
    assert await registry.release(nobody, P1.process_id) == 0
    assert await registry.rebuild(nobody) == 0
    assert await registry.verify(nobody) == []


@pytest.mark.parametrize("method", ["register", "register_if_absent"])
async def test_n03_an_identity_of_another_tenant_is_refused(registry: ProcessRegistry, method: str) -> None:
    with pytest.raises(IdentityMismatch, match="globex"):
        await getattr(registry, method)(ACME, ORDER, process("p9", tenant_id=GLOBEX))

    assert await registry.lookup(ACME, ORDER) is None
    assert await registry.is_empty()


async def test_n03_a_replacement_of_another_tenant_is_refused(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)

    with pytest.raises(IdentityMismatch):
        await registry.replace(ACME, ORDER, P1.process_id, process("p9", tenant_id=GLOBEX))

    assert await registry.lookup(ACME, ORDER) == P1


# --- counting -----------------------------------------------------------------------------------------


async def test_len_counts_the_bound_keys_of_all_tenants(registry: ProcessRegistry, reopen: Reopen) -> None:
    assert await registry.is_empty()

    await registry.register(ACME, ORDER, P1)
    await registry.register(ACME, RegistryKey("order:18"), P1)
    await registry.register(GLOBEX, ORDER, process("p9", tenant_id=GLOBEX))

    assert await registry.len() == 3
    registry = Registry((await reopen()).access)
    assert await registry.len() == 3
    await registry.remove(ACME, ORDER)
    await registry.remove(ACME, ORDER)
    assert await registry.len() == 2
    assert not await registry.is_empty()


async def test_tags_do_not_count(registry: ProcessRegistry) -> None:
    await registry.register_correlated(ACME, "t", P1.process_id, P1)

    assert await registry.len() == 0
    assert await registry.is_empty()


# --- beyond the seed ------------------------------------------------------------------------------------


async def test_the_first_one_who_registers_if_absent_keeps_the_key(registry: ProcessRegistry) -> None:
    assert await registry.register_if_absent(ACME, ORDER, P3) == P3

    assert await registry.register_if_absent(ACME, ORDER, P1) == P3
    assert await registry.register_if_absent(ACME, ORDER, P3) == P3
    assert await registry.lookup(ACME, ORDER) == P3
    assert await registry.len() == 1


async def test_a_key_is_replaced_only_for_the_expected_owner(registry: ProcessRegistry) -> None:
    assert not await registry.replace(ACME, ORDER, P1.process_id, P2)
    await registry.register(ACME, ORDER, P1)

    assert not await registry.replace(ACME, ORDER, P2.process_id, P3)
    assert await registry.lookup(ACME, ORDER) == P1
    assert await registry.replace(ACME, ORDER, P1.process_id, P2)
    assert await registry.lookup(ACME, ORDER) == P2


async def test_a_key_is_removed_only_for_the_expected_owner(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)

    assert not await registry.remove_if(ACME, ORDER, P2.process_id)
    assert await registry.lookup(ACME, ORDER) == P1
    assert await registry.remove_if(ACME, ORDER, P1.process_id)
    assert not await registry.remove_if(ACME, ORDER, P1.process_id)
    assert await registry.lookup(ACME, ORDER) is None
    assert await registry.len() == 0


async def test_n12_and_defect_10_of_many_who_register_keys_of_their_own_all_succeed(registry: ProcessRegistry) -> None:
    keys = [RegistryKey(f"order:{number}") for number in range(MANY)]

    await asyncio.gather(*(registry.register(ACME, key, process(f"p-{key}")) for key in keys))

    assert await registry.len() == MANY
    assert [await registry.lookup(ACME, key) for key in keys] == [process(f"p-{key}") for key in keys]


async def test_n13_and_r20_of_many_who_want_one_key_one_wins_and_all_learn_who(registry: ProcessRegistry) -> None:
    asking = [process(f"p{number}") for number in range(MANY)]

    owners = await asyncio.gather(*(registry.register_if_absent(ACME, ORDER, identity) for identity in asking))

    assert len({owner.process_id for owner in owners}) == 1
    assert await registry.lookup(ACME, ORDER) == owners[0]
    assert sum(owner == identity for owner, identity in zip(owners, asking, strict=True)) == 1
    assert await registry.len() == 1


async def test_of_many_who_replace_one_owner_one_succeeds(registry: ProcessRegistry) -> None:
    await registry.register(ACME, ORDER, P1)
    asking = [process(f"q{number}") for number in range(MANY)]

    done = await asyncio.gather(*(registry.replace(ACME, ORDER, P1.process_id, identity) for identity in asking))

    assert sum(done) == 1
    assert await registry.lookup(ACME, ORDER) == asking[done.index(True)]


async def test_r22_and_r24_a_process_that_has_ended_does_not_block_its_key(registry: ProcessRegistry) -> None:
    await registry.register_if_absent(ACME, ORDER, P1)
    await registry.release(ACME, P1.process_id)

    assert await registry.register_if_absent(ACME, ORDER, P2) == P2
    assert await registry.lookup(ACME, ORDER) == P2


async def test_r23_a_running_process_keeps_its_key(registry: ProcessRegistry, reopen: Reopen) -> None:
    await registry.register_if_absent(ACME, ORDER, P1)

    registry = Registry((await reopen()).access)

    assert await registry.register_if_absent(ACME, ORDER, P2) == P1


async def test_n16_and_defect_09_a_moved_process_is_found_with_its_new_package_by_key_and_by_tag(registry: ProcessRegistry) -> None:
    old, moved = process("p1", package_hash=OLD), process("p1", package_hash=NEW)
    await registry.register(ACME, ORDER, old)
    await registry.register_correlated(ACME, "t", old.process_id, old)
    await registry.register_correlated(ACME, "t", P2.process_id, P2)

    for key in await registry.keys_of(ACME, moved.process_id):
        await registry.register(ACME, key, moved)
    for tag in await registry.tags_of(ACME, moved.process_id):
        await registry.register_correlated(ACME, tag, moved.process_id, moved)

    assert await registry.lookup(ACME, ORDER) == moved
    assert await registry.lookup_correlated(ACME, "t") == [moved, P2]
    assert await registry.len() == 1
    assert await registry.verify(ACME) == []


# --- processes that have ended -----------------------------------------------------------------------------


def _only_the_living(_view: View, identity: ProcessIdentity) -> None:
    if identity.process_id == "p2":
        raise ProcessEnded("process 'p2' is ended; nothing more reaches it")


async def test_defect_01_a_process_that_has_ended_gets_no_address(store: Store) -> None:
    registry = Registry(store.access, admit=_only_the_living)
    await registry.register(ACME, ORDER, P1)

    with pytest.raises(ProcessEnded):
        await registry.register(ACME, ORDER, P2)
    with pytest.raises(ProcessEnded):
        await registry.register_if_absent(ACME, RegistryKey("free"), P2)
    with pytest.raises(ProcessEnded):
        await registry.replace(ACME, ORDER, ProcessId("p1"), P2)
    with pytest.raises(ProcessEnded):
        await registry.register_correlated(ACME, "t", P2.process_id, P2)

    assert await registry.lookup(ACME, ORDER) == P1
    assert await registry.register_if_absent(ACME, ORDER, P2) == P1
    assert await registry.lookup_correlated(ACME, "t") == []
    assert await registry.len() == 1
