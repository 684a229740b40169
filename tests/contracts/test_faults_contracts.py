"""Promises of an open store that no room can keep by itself, and counts that only people read."""

from __future__ import annotations

import pytest

from perdure.clock import VirtualClock
from perdure.conversations.tables import PROCESS, ProcessRow, ProcessStatus
from perdure.errors import ProcessEnded
from perdure.identity import RegistryKey
from perdure.operations.contract import Policy
from perdure.store import Store
from tests.contracts.operations import CHARGE, LEASE, start
from tests.contracts.registry import ACME, ORDER, P1, P2, Damage


@pytest.mark.parametrize("status", [ProcessStatus.ENDED, ProcessStatus.FAILED])
async def test_a_process_that_is_over_gets_no_address_through_the_store(store: Store, status: ProcessStatus) -> None:
    row = ProcessRow(process_type="order", status=status, stream_no=1, shard=0, created_at=0, updated_at=0)
    await store.commit(Damage({PROCESS.key(ACME, P1.process_id): row}))

    for attempt in (
        store.processes.register(ACME, ORDER, P1),
        store.processes.register_if_absent(ACME, RegistryKey("free"), P1),
        store.processes.register_correlated(ACME, "t", P1.process_id, P1),
    ):
        with pytest.raises(ProcessEnded):
            await attempt

    assert await store.processes.is_empty()
    assert await store.processes.lookup_correlated(ACME, "t") == []
    await store.processes.register(ACME, ORDER, P2)


async def test_an_operation_counts_its_attempts(store: Store, clock: VirtualClock) -> None:
    seen = []
    for _ in range(3):
        await start(store.operations, policy=Policy.IDEMPOTENT)
        found = await store.operations.find_operation(CHARGE)
        assert found is not None
        seen.append(found.attempts)
        clock.advance(LEASE)

    assert seen == [1, 2, 3]
