"""Contract 1: two open stores on one file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.clock import VirtualClock
from perdure.identity import RegistryKey
from perdure.routing.registry import Registry
from perdure.store import open_store
from tests.contracts.registry import ACME, ORDER, P1, P2, P3, process

Nodes = tuple[Registry, Registry]
ROUNDS = 20


@pytest.fixture
async def nodes(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        yield Registry(one.access), Registry(other.access)


async def test_defect_05_of_two_nodes_that_want_one_key_one_wins_and_both_learn_who(nodes: Nodes) -> None:
    for number in range(ROUNDS):
        key = RegistryKey(f"k{number}")

        owners = await asyncio.gather(
            *(node.register_if_absent(ACME, key, process(f"p{place}-{n}")) for place, node in enumerate(nodes) for n in range(5))
        )

        assert len({owner.process_id for owner in owners}) == 1
    assert [await node.len() for node in nodes] == [ROUNDS, ROUNDS]


async def test_n12_two_nodes_that_register_keys_of_their_own_all_succeed(nodes: Nodes) -> None:
    await asyncio.gather(*(node.register(ACME, RegistryKey(f"{place}:{n}"), P1) for n in range(ROUNDS) for place, node in enumerate(nodes)))

    for node in nodes:
        assert await node.len() == 2 * ROUNDS
        assert len(await node.keys_of(ACME, P1.process_id)) == 2 * ROUNDS
        assert await node.verify(ACME) == []


async def test_what_one_node_changes_the_other_sees(nodes: Nodes) -> None:
    one, other = nodes
    await one.register(ACME, ORDER, P1)
    await other.register_correlated(ACME, "t", P2.process_id, P2)
    await one.register_correlated(ACME, "t", P1.process_id, P1)

    assert await other.replace(ACME, ORDER, P1.process_id, P3)
    assert not await one.remove_if(ACME, ORDER, P1.process_id)
    assert await one.lookup(ACME, ORDER) == P3
    assert await one.lookup_correlated(ACME, "t") == await other.lookup_correlated(ACME, "t") == [P2, P1]
    assert await other.release(ACME, P1.process_id) == 1
    assert await one.lookup_correlated(ACME, "t") == [P2]


async def test_len_is_exact_after_a_node_is_gone(clock: VirtualClock, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    async with open_store(url, clock=clock) as one:
        async with open_store(url, clock=clock) as other:
            await Registry(other.access).register(ACME, ORDER, P1)
        await Registry(one.access).remove(ACME, ORDER)
        await Registry(one.access).register(ACME, RegistryKey("x"), P1)

        assert await Registry(one.access).len() == 1
        assert await Registry(one.access).verify(ACME) == []
