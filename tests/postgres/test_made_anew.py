"""Rows that are removed and made anew: who has the one before in memory does not take it for the one that is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.clock import VirtualClock
from perdure.errors import LeaseLost
from perdure.operations.store import Operations
from perdure.store import Store, open_store
from tests.contracts.operations import CHARGE, seal, start
from tests.contracts.registry import ACME, ORDER, P1, P2, P3
from tests.stores import DURABLE, store_url

Nodes = tuple[Store, Store]


@pytest.fixture(params=DURABLE)
async def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Nodes]:
    url, clock = store_url(request, request.param, tmp_path), VirtualClock()
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        yield one, other


async def test_a_key_that_was_bound_again_is_not_replaced_for_who_had_it_before(nodes: Nodes) -> None:
    one, other = (node.processes for node in nodes)
    await one.register(ACME, ORDER, P1)
    await other.remove(ACME, ORDER)
    await other.register(ACME, ORDER, P2)

    assert not await one.replace(ACME, ORDER, P1.process_id, P3)
    assert await one.lookup(ACME, ORDER) == P2


async def test_who_lost_an_operation_that_was_removed_and_begun_again_does_not_seal_it(nodes: Nodes) -> None:
    one, other = (Operations(node.access) for node in nodes)
    stale = await start(one)
    await other.remove(CHARGE, token=stale)
    fresh = await start(other)

    with pytest.raises(LeaseLost):
        await seal(one, token=stale)
    await seal(other, token=fresh)
