"""Contract 3: two open stores on one file."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.clock import VirtualClock
from perdure.errors import LeaseLost
from perdure.operations.contract import Attached, Replay, SealedResponse, Started
from perdure.operations.store import Operations
from perdure.operations.tables import SCHEMA
from perdure.store import open_store
from tests.contracts.operations import (
    ANSWER,
    CHARGE,
    LEASE,
    OTHER_ANSWER,
    PAYMENT,
    PAYMENT_SCHEMAS,
    RECEIPT,
    begin,
    named,
    seal,
    start,
)

Nodes = tuple[Operations, Operations]
SEALED = SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")


@pytest.fixture
async def nodes(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        yield Operations(one.access), Operations(other.access)


async def test_of_two_nodes_that_begin_one_id_exactly_one_is_started(nodes: Nodes) -> None:
    for n in range(20):
        verdicts = await asyncio.gather(*(begin(node, named(str(n))) for node in nodes for _ in range(5)))

        assert Counter(type(verdict) for verdict in verdicts) == {Started: 1, Attached: 9}


async def test_whoever_waits_on_one_node_gets_what_is_sealed_on_the_other(nodes: Nodes) -> None:
    one, other = nodes
    token = await start(one)
    waiting = [asyncio.create_task(node.wait_sealed(CHARGE, LEASE)) for node in nodes]
    await other.lookup(CHARGE)

    await seal(one, token=token)

    assert await asyncio.gather(*waiting) == [SEALED, SEALED]


async def test_a_holder_that_was_paused_past_its_lease_is_refused_and_all_see_the_second_answer(nodes: Nodes, clock: VirtualClock) -> None:
    paused, second = nodes
    stale = await start(paused)
    waiting = [asyncio.create_task(node.wait_sealed(CHARGE, 10 * LEASE)) for node in nodes]

    clock.advance(LEASE)
    fresh = await start(second)
    with pytest.raises(LeaseLost):
        await paused.mark_started(CHARGE, stale)
    with pytest.raises(LeaseLost):
        await seal(paused, response=OTHER_ANSWER, token=stale)
    await seal(second, token=fresh)

    assert await asyncio.gather(*waiting) == [SEALED, SEALED]
    assert [await begin(node) for node in nodes] == [Replay(SEALED), Replay(SEALED)]


async def test_two_nodes_that_seal_answers_of_one_type_store_its_schemas_once(nodes: Nodes) -> None:
    seals = (seal(node, named(str(n)), root_type=PAYMENT, registry=PAYMENT_SCHEMAS) for n, node in enumerate(nodes * 5))
    await asyncio.gather(*seals)

    assert await nodes[0]._access.reader.count(SCHEMA) == len(PAYMENT_SCHEMAS)
