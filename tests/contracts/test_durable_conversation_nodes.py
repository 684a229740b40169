"""Contract 4: two open stores on one file."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.clock import VirtualClock
from perdure.conversations.contract import ResumeFrom, Skip, Start
from perdure.conversations.conversation import DurableConversation
from perdure.errors import SequenceConflict, ValueConflict
from perdure.store import Store, open_store
from tests.contracts.conversations import finished

Nodes = tuple[Store, Store]
recover = DurableConversation.recover


@pytest.fixture
async def nodes(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        yield one, other


async def test_an_owner_that_was_paused_finds_out_before_its_next_effect(nodes: Nodes) -> None:
    paused = DurableConversation("conv-1", nodes[0])
    await paused.receive_message("m", 1)
    await paused.record_processing_started("m")
    second = await recover("conv-1", nodes[1])
    assert await second.receive_message("m", 2) == ResumeFrom(step_index=0, outputs=())
    await second.record_step_completed("m", 0, b"paid")

    with pytest.raises(SequenceConflict):
        await paused.receive_message("m", 3)
    with pytest.raises(SequenceConflict):
        await paused.record_step_completed("m", 0, b"paid again")

    await paused.refresh()
    assert await paused.receive_message("m", 4) == ResumeFrom(step_index=1, outputs=(b"paid",))
    await second.record_processing_finished("m", b"done")
    assert await paused.receive_message("m", 5) == Skip(result=b"done")


async def test_of_two_nodes_that_receive_one_message_exactly_one_starts(nodes: Nodes) -> None:
    for number in range(20):
        handles = [DurableConversation(f"conv-{number}", node) for node in nodes]
        outcomes = await asyncio.gather(*(handle.receive_message("m", 1) for handle in handles), return_exceptions=True)
        assert Counter(type(outcome) for outcome in outcomes) == {Start: 1, SequenceConflict: 1}


async def test_nodes_that_race_for_one_conversation_lose_nothing_and_double_nothing(nodes: Nodes) -> None:
    await finished(DurableConversation("conv-1", nodes[0]), "first")

    async def work(store: Store, name: str) -> int:
        conversation, conflicts = await recover("conv-1", store), 0
        for number in range(20):
            while True:
                try:
                    await conversation.record_message_received(f"{name}-{number}", number)
                    break
                except SequenceConflict:
                    conflicts += 1
                    await conversation.refresh()
        return conflicts

    await asyncio.gather(*(work(node, f"{number}-{worker}") for number, node in enumerate(nodes) for worker in range(2)))

    both = [await recover("conv-1", node) for node in nodes]
    assert both[0].state == both[1].state
    assert both[0].expected_seq == 3 + 80
    assert len(both[0].state.open) == 80


async def test_nodes_that_race_for_one_value_and_one_stream_lose_nothing(nodes: Nodes) -> None:
    async def work(store: Store) -> None:
        done = 0
        while done < 20:
            value = await store.streams.read_value("counter")
            try:
                await store.streams.cas("counter", value, (value or 0) + 1)
            except ValueConflict:
                continue
            done += 1
        seq = 0
        while done < 40:
            try:
                seq = await store.streams.append("log", b"x", seq) + 1
                done += 1
            except SequenceConflict as conflict:
                seq = conflict.found

    await asyncio.gather(*(work(node) for node in nodes for _ in range(2)))

    assert [await node.streams.read_value("counter") for node in nodes] == [80, 80]
    assert [entry.seq for entry in await nodes[1].streams.read_from("log", 0)] == list(range(80))
