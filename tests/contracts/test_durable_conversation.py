"""Contract 4, the seed's members: what is recorded, and what a delivery asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.conversations.contract import ResumeFrom, Skip, Start
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.tables import EVENTS, PROCESS
from perdure.core.table import Scan
from perdure.errors import InvalidIdentifier, PayloadTooLarge, PayloadUnencodable, SequenceConflict, UsageError
from perdure.store import Store
from tests.contracts.conversations import finished

Reopen = Callable[[], Awaitable[Store]]
recover = DurableConversation.recover


async def _live(conversation: DurableConversation, upto: int) -> None:
    """The life of a message of two steps, as far as `upto` records."""
    records: list[Callable[[], Awaitable[Any]]] = [
        lambda: conversation.receive_message("m", 1),
        lambda: conversation.record_processing_started("m"),
        lambda: conversation.record_step_completed("m", 0, b"first"),
        lambda: conversation.record_step_completed("m", 1, b"second"),
        lambda: conversation.record_processing_finished("m", b"result"),
    ]
    for record in records[:upto]:
        await record()


async def test_a_new_conversation_is_empty_at_sequence_0_and_nothing_is_written(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)

    assert conversation.conversation_id == "conv-1"
    assert conversation.expected_seq == 0
    assert conversation.state.open == {}
    assert (await store.info()).rows["process"] == 0


async def test_an_unknown_conversation_recovers_empty(store: Store) -> None:
    conversation = await recover("never-seen", store)

    assert conversation.expected_seq == 0
    assert (await store.info()).rows["process"] == 0


async def test_each_record_appends_one_event_and_returns_its_sequence(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)

    sequences = [
        await conversation.record_message_received("m", 1),
        await conversation.record_processing_started("m"),
        await conversation.record_step_completed("m", 0, b"first", name="classify"),
        await conversation.record_error("m", "timeout"),
        await conversation.record_processing_started("m"),
        await conversation.record_step_completed("m", 1, b""),
        await conversation.record_processing_finished("m", b"done"),
    ]

    assert sequences == [0, 1, 2, 3, 4, 5, 6]
    assert conversation.expected_seq == 7
    store = await reopen()
    assert (await recover("conv-1", store)).expected_seq == 7
    assert (await store.info()).rows["event"] == 7


async def test_a_message_that_was_never_seen_is_recorded_and_starts(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)

    assert await conversation.receive_message("m", 42) == Start()
    assert conversation.expected_seq == 1
    assert conversation.state.open["m"].received_at == 42


async def test_a_received_message_resumes_and_appends_nothing(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, 4)

    assert await conversation.receive_message("m", 99) == ResumeFrom(step_index=2, outputs=(b"first", b"second"))
    assert conversation.expected_seq == 4
    assert conversation.state.open["m"].received_at == 1


async def test_a_duplicate_of_a_finished_message_gets_its_result_and_appends_nothing(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, 5)
    await conversation.receive_message("other", 1)

    assert await conversation.receive_message("m", 99) == Skip(result=b"result")
    conversation = await recover("conv-1", await reopen())
    assert await conversation.receive_message("m", 99) == Skip(result=b"result")
    assert conversation.expected_seq == 6


async def test_a_message_without_a_result_is_skipped_without_one(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await finished(conversation, "none")
    await finished(conversation, "empty", result=b"")

    assert await conversation.receive_message("none", 1) == Skip(result=None)
    assert await conversation.receive_message("empty", 1) == Skip(result=b"")


@pytest.mark.parametrize(
    ("records", "decision"),
    [
        (0, Start()),
        (1, ResumeFrom(step_index=0, outputs=())),
        (2, ResumeFrom(step_index=0, outputs=())),
        (3, ResumeFrom(step_index=1, outputs=(b"first",))),
        (4, ResumeFrom(step_index=2, outputs=(b"first", b"second"))),
        (5, Skip(result=b"result")),
    ],
    ids=["nothing", "received", "started", "one step", "all steps", "finished"],
)
@pytest.mark.parametrize("snapshot", [False, True], ids=["events", "snapshot"])
async def test_after_a_crash_a_redelivery_goes_on_behind_what_was_recorded(
    store: Store, reopen: Reopen, records: int, decision: object, snapshot: bool
) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, records)
    if snapshot:
        await conversation.snapshot()

    conversation = await recover("conv-1", await reopen())

    assert await conversation.receive_message("m", 2) == decision
    await _live_on(conversation, records)
    assert await conversation.receive_message("m", 3) == Skip(result=b"result")


async def _live_on(conversation: DurableConversation, records: int) -> None:
    if records < 2:
        await conversation.record_processing_started("m")
    if records < 3:
        await conversation.record_step_completed("m", 0, b"first")
    if records < 4:
        await conversation.record_step_completed("m", 1, b"second")
    if records < 5:
        await conversation.record_processing_finished("m", b"result")


@pytest.mark.parametrize("records", [1, 2, 3, 4])
async def test_after_an_error_a_redelivery_resumes_and_the_attempt_is_counted(store: Store, reopen: Reopen, records: int) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, records)
    await conversation.record_error("m", "no connection")

    conversation = await recover("conv-1", await reopen())

    assert await conversation.receive_message("m", 2) == ResumeFrom(
        step_index=max(0, records - 2), outputs=(b"first", b"second")[: max(0, records - 2)]
    )
    message = conversation.state.open["m"]
    assert (message.failed, message.error, message.attempts) == (True, "no connection", 1)


async def test_an_error_does_not_end_a_message(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, 3)
    await conversation.record_error("m", "no connection")
    await conversation.record_step_completed("m", 1, b"second")
    await conversation.record_processing_finished("m", b"result")

    assert await conversation.receive_message("m", 2) == Skip(result=b"result")


async def test_messages_of_one_conversation_are_open_at_the_same_time(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)
    for message_id in ("a", "b", "c"):
        await conversation.receive_message(message_id, 1)
        await conversation.record_processing_started(message_id)
    for index in range(3):
        for message_id in ("c", "a"):
            await conversation.record_step_completed(message_id, index, f"{message_id}{index}".encode())
    await conversation.record_processing_finished("a")

    conversation = await recover("conv-1", await reopen())

    assert list(conversation.state.open) == ["b", "c"]
    assert await conversation.receive_message("a", 1) == Skip(result=None)
    assert await conversation.receive_message("b", 1) == ResumeFrom(step_index=0, outputs=())
    assert await conversation.receive_message("c", 1) == ResumeFrom(step_index=3, outputs=(b"c0", b"c1", b"c2"))


async def test_memory_and_state_hold_open_messages_only(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    for number in range(50):
        await finished(conversation, f"m-{number}", b"x" * 100, result=b"y" * 100)
    await conversation.receive_message("open", 1)

    assert list(conversation.state.open) == ["open"]
    assert list(conversation._memory._open) == ["open"]
    assert await conversation.receive_message("m-7", 1) == Skip(result=b"y" * 100)


async def test_the_state_is_a_copy_without_payloads(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, 3)
    conversation.state.open.clear()

    assert list(conversation.state.open) == ["m"]
    assert b"first" not in repr((conversation, conversation.state)).encode()


async def test_every_event_has_the_time_of_the_store(store: Store, clock: VirtualClock) -> None:
    conversation = DurableConversation("conv-1", store)
    begun = clock.now()
    for record in (conversation.record_message_received("m", 1), conversation.record_processing_started("m")):
        clock.advance(SECOND)
        await record

    process = await store.access.reader.get(PROCESS.key("default", "conv-1"))
    assert process is not None
    rows = await store.access.reader.scan(Scan(EVENTS, ("default", process.stream_no), 10))
    assert [row.at - begun for _, row in rows] == [SECOND, 2 * SECOND]
    assert (process.created_at - begun, process.updated_at - begun) == (SECOND, 2 * SECOND)


async def test_tenants_do_not_see_one_anothers_conversations(store: Store) -> None:
    for tenant in ("a", "b"):
        conversation = DurableConversation("conv-1", store, tenant_id=tenant)
        await finished(conversation, "m", result=tenant.encode())

    for tenant in ("a", "b"):
        conversation = await recover("conv-1", store, tenant_id=tenant)
        assert await conversation.receive_message("m", 1) == Skip(result=tenant.encode())
    assert (await recover("conv-1", store)).expected_seq == 0


async def test_a_conversation_is_never_a_stream_of_the_same_name(store: Store) -> None:
    streams = store.streams
    conversation = DurableConversation("orders:0", store)
    await conversation.receive_message("m", 1)

    for name in ("orders:0", "process/default/orders:0", "default/orders:0"):
        assert await streams.read_from(name, 0) == []
        await streams.append(name, b"entry", 0)

    assert await conversation.receive_message("m", 1) == ResumeFrom(step_index=0, outputs=())
    assert (await recover("orders:0", store)).expected_seq == 1


async def test_conversations_share_commits(store: Store) -> None:
    writer = store.access.writer
    before = writer.commits

    await asyncio.gather(*(DurableConversation(f"conv-{number}", store).receive_message("m", 1) for number in range(100)))

    assert writer.commits - before <= 5


@pytest.mark.parametrize("text", ["", "a\0b", "line\nbreak", "\ud800", "x" * 257, 7, None])
async def test_an_id_that_breaks_the_rules_is_refused(store: Store, text: Any) -> None:
    for broken in ({"conversation_id": text}, {"conversation_id": "c", "tenant_id": text}):
        with pytest.raises(InvalidIdentifier):
            DurableConversation(**broken, store=store)
        with pytest.raises(InvalidIdentifier):
            await recover(**broken, store=store)
    message_id = "x" * 513 if text == "x" * 257 else text
    with pytest.raises(InvalidIdentifier):
        await DurableConversation("c", store).receive_message(message_id, 1)
    assert (await store.info()).rows["process"] == 0


async def test_bad_arguments_are_refused_before_anything_is_written(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await _live(conversation, 2)
    refused: list[tuple[type[Exception], Callable[[], Awaitable[Any]]]] = [
        (UsageError, lambda: conversation.receive_message("n", -1)),
        (UsageError, lambda: conversation.receive_message("n", 2**64)),
        (UsageError, lambda: conversation.receive_message("n", True)),
        (UsageError, lambda: conversation.receive_message("n", 1.5)),  # type: ignore[arg-type]
        (UsageError, lambda: conversation.record_step_completed("m", -1, b"")),
        (UsageError, lambda: conversation.record_step_completed("m", False, b"")),
        (UsageError, lambda: conversation.record_step_completed("m", 0, "text")),  # type: ignore[arg-type]
        (PayloadTooLarge, lambda: conversation.record_step_completed("m", 0, b"x" * (limits.STEP_OUTPUT_MAX + 1))),
        (InvalidIdentifier, lambda: conversation.record_step_completed("m", 0, b"", name="\n")),
        (UsageError, lambda: conversation.record_processing_finished("m", "text")),  # type: ignore[arg-type]
        (PayloadTooLarge, lambda: conversation.record_processing_finished("m", b"x" * (limits.RESULT_MAX + 1))),
        (PayloadTooLarge, lambda: conversation.record_error("m", "é" * limits.ERROR_TEXT_MAX)),
        (PayloadUnencodable, lambda: conversation.record_error("m", "\ud800")),
        (UsageError, lambda: conversation.record_error("m", ValueError("x"))),  # type: ignore[arg-type]
        (UsageError, lambda: DurableConversation("pd-1", store).receive_message("m", 1)),
    ]

    for error, call in refused:
        with pytest.raises(error):
            await call()

    assert conversation.expected_seq == 2
    assert (await store.info()).rows["event"] == 2


async def test_payloads_up_to_their_limits_come_back(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)
    output, result = bytes(range(256)) * (limits.STEP_OUTPUT_MAX // 256), b"r" * limits.RESULT_MAX
    await conversation.receive_message("m" * limits.MESSAGE_ID_MAX, 2**64 - 1)
    await conversation.record_processing_started("m" * limits.MESSAGE_ID_MAX)
    await conversation.record_step_completed("m" * limits.MESSAGE_ID_MAX, 0, output)

    conversation = await recover("conv-1", await reopen())

    assert await conversation.receive_message("m" * limits.MESSAGE_ID_MAX, 1) == ResumeFrom(step_index=1, outputs=(output,))
    await conversation.record_processing_finished("m" * limits.MESSAGE_ID_MAX, result)
    assert await conversation.receive_message("m" * limits.MESSAGE_ID_MAX, 1) == Skip(result=result)


async def test_a_new_handle_on_a_conversation_that_exists_is_refused_and_not_changed(store: Store) -> None:
    await _live(DurableConversation("conv-1", store), 3)
    conversation = DurableConversation("conv-1", store)

    with pytest.raises(SequenceConflict) as caught:
        await conversation.record_message_received("n", 1)

    assert (caught.value.expected, caught.value.found) == (0, 3)
    assert conversation.expected_seq == 0
