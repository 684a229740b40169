"""Contract 4: what the engine's own transactions are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from perdure.clock import VirtualClock
from perdure.conversations.arguments import size_of
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import (
    ErrorOccurred,
    MessageReceived,
    ProcessingFinished,
    ProcessingStarted,
    StepCompleted,
    encode_event,
)
from perdure.conversations.tables import EVENTS, PROCESS, PROCESSES, RUNNABLE, ProcessStatus
from perdure.conversations.writes import append_events, new_process, shard_of
from perdure.core.table import Read, Scan
from perdure.core.view import View
from perdure.store import Store
from tests.contracts.conversations import PlayEngine


@pytest.mark.parametrize(
    ("tenant_id", "process_id", "shards", "shard"),
    [("default", "conv-1", 64, 33), ("acme", "pé", 64, 43), ("acme", "pé", 1000, 203), ("acme", "pé", 1, 0)],
)
def test_a_shard_is_the_first_8_bytes_of_sha_256_modulo_their_number(tenant_id: str, process_id: str, shards: int, shard: int) -> None:
    assert shard_of(tenant_id, process_id, shards) == shard


def test_there_are_64_shards_unless_said_otherwise_and_processes_spread_over_them() -> None:
    shards = Counter(shard_of("default", f"process-{number}") for number in range(6_400))

    assert shards.keys() == set(range(64))
    assert max(shards.values()) < 200


def test_tenant_and_process_are_told_apart() -> None:
    assert len({shard_of(tenant, process, 2**32) for tenant, process in (("a", "bc"), ("ab", "c"), ("a.b", "c"), ("a", "b.c"))}) == 4


def test_the_size_of_a_record_is_what_it_writes_and_a_result_is_written_twice() -> None:
    events = (StepCompleted("m", 0, b"x" * 10), ProcessingFinished("m", b"x" * 10), ErrorOccurred("m", "x" * 10), ProcessingStarted("m"))

    assert [size_of(event) for event in events] == [10, 20, 10, 0]
    assert size_of(ProcessingFinished("m")) == 0


class Make(msgspec.Struct, frozen=True):
    """Make a process, then append to it in two goes."""

    process_id: str

    def reads(self) -> Iterable[Read]:
        return ()

    def decide(self, view: View) -> tuple[int, int, int]:
        key = PROCESS.key("default", self.process_id)
        row = new_process(view, "default", self.process_id, process_type="Order", status=ProcessStatus.RUNNABLE, package_hash="a" * 64)
        assert view.get(key) is None
        view.insert(key, row)
        once = append_events(view, key, row, (MessageReceived("m", 1), ProcessingStarted("m", 1)))
        view.update(key, once)
        twice = append_events(view, key, once, [ProcessingStarted("m", 2)])
        view.update(key, twice)
        return row.head, once.head, twice.head


async def test_events_are_appended_at_the_head_of_the_row_that_is_given(store: Store, clock: VirtualClock) -> None:
    [heads] = await store.commit(Make("order-1"))

    assert heads == (0, 2, 3)
    process = await store.access.reader.get(PROCESS.key("default", "order-1"))
    assert process is not None
    assert (process.head, process.shard, process.package_hash) == (3, shard_of("default", "order-1"), "a" * 64)
    assert process.created_at == process.updated_at == clock.now()
    rows = await store.access.reader.scan(Scan(EVENTS, ("default", process.stream_no), 10))
    assert [(key.parts[2], row.at, row.data) for key, row in rows] == [
        (0, clock.now(), encode_event(MessageReceived("m", 1))),
        (1, clock.now(), encode_event(ProcessingStarted("m", 1))),
        (2, clock.now(), encode_event(ProcessingStarted("m", 2))),
    ]


async def test_processes_made_in_one_batch_have_streams_of_their_own(store: Store) -> None:
    await store.commit(*(Make(f"order-{number}") for number in range(50)))

    rows = await store.access.reader.scan(Scan(PROCESSES, ("default",), 100))
    assert len({row.stream_no for _, row in rows}) == 50
    assert [(await DurableConversation.recover(f"order-{number}", store)).expected_seq for number in range(50)] == [3] * 50


async def test_runnable_processes_are_found_by_their_shard_and_conversations_by_hand_are_not(store: Store) -> None:
    for number in range(40):
        await store.commit(PlayEngine(f"order-{number}"))
        await DurableConversation(f"conv-{number}", store).receive_message("m", 1)

    found = [key.parts[1] for shard in range(64) for key, _ in await store.access.reader.scan(Scan(RUNNABLE, (shard,), 100))]

    assert sorted(map(str, found)) == sorted(f"order-{number}" for number in range(40))
    conversation = await store.access.reader.get(PROCESS.key("default", "conv-7"))
    assert conversation is not None
    assert (conversation.process_type, conversation.status, conversation.shard) == ("", "idle", shard_of("default", "conv-7"))
