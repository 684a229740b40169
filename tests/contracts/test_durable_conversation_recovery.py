"""Contract 4: recovery reads what is there, all of it and no more, and names what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from perdure import limits
from perdure.conversations.contract import ResumeFrom, Skip
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import MessageReceived, ProcessingStarted, StepCompleted, encode_event
from perdure.conversations.state import SNAPSHOT_VERSION
from perdure.conversations.tables import SNAPSHOT, SnapshotRow
from perdure.errors import CorruptEvent, EventTooNew, PayloadTooLarge, PerdureError, SequenceConflict
from perdure.store import Store
from tests.contracts.conversations import ChangeSnapshot, CountingReader, Plant, PlayEngine, SeenThrough, finished

Reopen = Callable[[], Awaitable[Store]]
recover = DurableConversation.recover


async def test_recovery_writes_nothing_and_gives_the_same_twice(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await finished(conversation, "done", b"x")
    await conversation.receive_message("open", 1)
    rows = (await store.info()).rows
    transactions = store.access.writer.transactions

    first, second = await recover("conv-1", store), await recover("conv-1", store)

    assert first.state == second.state == conversation.state
    assert store.access.writer.transactions == transactions
    assert (await store.info()).rows == rows


async def test_conversations_recover_independently(store: Store, reopen: Reopen) -> None:
    for number in (3, 0, 5):
        conversation = DurableConversation(f"conv-{number}", store)
        for message in range(number):
            await conversation.record_message_received(f"m-{message}", message)

    store = await reopen()

    for number in (3, 0, 5):
        conversation = await recover(f"conv-{number}", store)
        assert conversation.expected_seq == number
        assert await conversation.record_message_received("next", 1) == number


async def test_a_short_page_is_not_the_end(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    for message in range(4):
        await finished(conversation, f"m-{message}", b"a", b"b")
    await conversation.receive_message("open", 1)

    for page in (1, 2, 3, 7, 20, 21, 255):
        reader = CountingReader(store.access.reader, page=page)
        recovered = await recover("conv-1", SeenThrough(store, reader))
        assert recovered.state == conversation.state
        assert recovered.expected_seq == 21
        assert reader.pages[-1] == 0
        assert reader.rows["event"] == 21


async def test_recovery_reads_each_event_once_and_page_by_page(store: Store) -> None:
    events = [MessageReceived(f"m-{number}", number) for number in range(limits.READ_PAGE * 2 + 7)]
    await store.commit(PlayEngine("conv-1", tuple(events)))
    reader = CountingReader(store.access.reader)

    recovered = await recover("conv-1", SeenThrough(store, reader))

    assert recovered.expected_seq == len(events)
    assert reader.pages == [limits.READ_PAGE, limits.READ_PAGE, 7, 0]
    assert reader.rows["event"] == len(events)


async def test_a_snapshot_makes_recovery_read_it_and_the_tail_only(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)
    for message in range(40):
        await finished(conversation, f"m-{message}", b"output")
    await conversation.receive_message("open", 7)
    await conversation.record_processing_started("open")
    await conversation.record_step_completed("open", 0, b"kept")
    assert await conversation.snapshot() == conversation.expected_seq == 163
    await conversation.record_step_completed("open", 1, b"tail")
    await conversation.record_error("open", "no")

    store = await reopen()
    reader = CountingReader(store.access.reader)
    recovered = await recover("conv-1", SeenThrough(store, reader))

    assert reader.rows == {"snapshot": 1, "process": 2, "event": 2}
    assert recovered.state == conversation.state
    assert await recovered.receive_message("open", 9) == ResumeFrom(step_index=2, outputs=(b"kept", b"tail"))
    assert await recovered.receive_message("m-3", 9) == Skip(result=None)


async def test_deleting_a_snapshot_changes_nothing_but_the_count(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    for message in range(10):
        await finished(conversation, f"m-{message}", b"output")
    await conversation.receive_message("open", 7)
    await conversation.snapshot()
    with_snapshot = await recover("conv-1", store)
    await store.commit(ChangeSnapshot("conv-1"))
    reader = CountingReader(store.access.reader)

    without = await recover("conv-1", SeenThrough(store, reader))

    assert without.state == with_snapshot.state
    assert reader.rows == {"snapshot": 0, "process": 1, "event": 41}


async def test_a_snapshot_does_not_grow_with_what_is_finished_or_with_outputs(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    sizes = []
    for message in range(30):
        await conversation.receive_message(f"m-{message:02}", 1)
        await conversation.record_processing_started(f"m-{message:02}")
        await conversation.record_step_completed(f"m-{message:02}", 0, b"x" * 10_000)
        await conversation.snapshot()
        row = await store.access.reader.get(SNAPSHOT.key("default", "conv-1"))
        assert row is not None
        sizes.append(len(row.data))
        await conversation.record_processing_finished(f"m-{message:02}")

    assert max(sizes) - min(sizes) <= 4
    assert max(sizes) < 200


async def test_a_stored_snapshot_never_goes_back(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("a", 1)
    behind = await recover("conv-1", store)
    await conversation.receive_message("b", 1)

    assert await conversation.snapshot() == 2
    assert await conversation.snapshot() == 2
    assert await behind.snapshot() == 2
    assert (await recover("conv-1", store)).state == conversation.state


async def test_an_empty_conversation_has_nothing_to_snapshot(store: Store) -> None:
    assert await DurableConversation("conv-1", store).snapshot() == 0
    assert (await store.info()).rows["snapshot"] == 0


async def test_a_snapshot_over_the_limit_is_refused_and_recovery_does_without(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    text = "x" * limits.ERROR_TEXT_MAX
    for message in range(limits.SNAPSHOT_MAX // limits.ERROR_TEXT_MAX + 1):
        await conversation.receive_message(f"m-{message}", 1)
        await conversation.record_error(f"m-{message}", text)

    with pytest.raises(PayloadTooLarge, match="snapshot of process/default/conv-1"):
        await conversation.snapshot()

    assert (await recover("conv-1", store)).state == conversation.state


@pytest.mark.parametrize(
    "row",
    [
        SnapshotRow(3, SNAPSHOT_VERSION + 1, b"\xc1 of a later version"),
        SnapshotRow(3, SNAPSHOT_VERSION, b""),
        SnapshotRow(3, SNAPSHOT_VERSION, b"\xc1"),
        SnapshotRow(3, SNAPSHOT_VERSION, b"\x82\xa8next_seq\x03\xa4open\x81\xa1\xff\x80"),
        SnapshotRow(99, SNAPSHOT_VERSION, b"\x82\xa8next_seqc\xa4open\x80"),
    ],
    ids=["newer", "empty", "damaged", "no text", "of rows that the log lacks"],
)
async def test_a_snapshot_that_cannot_be_used_is_left_out(store: Store, caplog: pytest.LogCaptureFixture, row: SnapshotRow) -> None:
    conversation = DurableConversation("conv-1", store)
    await finished(conversation, "m", b"x")
    await store.commit(ChangeSnapshot("conv-1", row))

    with caplog.at_level(logging.WARNING, "perdure.conversations"):
        recovered = await recover("conv-1", store)

    assert recovered.state == conversation.state
    assert ("process/default/conv-1" in caplog.text) == (row.version == SNAPSHOT_VERSION)
    assert await recovered.snapshot() == 4
    assert (await recover("conv-1", store)).state == conversation.state


# --- what is wrong is named, and stays alone -----------------------------------------------------------

DAMAGE: dict[str, tuple[Plant, type[PerdureError], str]] = {
    "no event": (Plant("bad", b"\x01\xc1"), CorruptEvent, r"event 3 cannot be decoded"),
    "nothing": (Plant("bad", b"\x00"), CorruptEvent, r"event 3 begins with 00"),
    "a newer version": (Plant("bad", b"\x07\x90"), EventTooNew, r"event 3 has version 7, this Perdure reads up to 1"),
    "the last one missing": (Plant("bad", b""), CorruptEvent, r"event 3 is missing, there should be 4"),
    "one missing before the last": (
        Plant("bad", encode_event(ProcessingStarted("m", 2)), gap=1, moved=2),
        CorruptEvent,
        r"event 3 is missing, the next is 4",
    ),
    "a step too far": (
        Plant("bad", encode_event(StepCompleted("m", 5, b""))),
        CorruptEvent,
        r"event 3 .*expected step 1 next, found 5",
    ),
    "one of a message never seen": (
        Plant("bad", encode_event(ProcessingStarted("n"))),
        CorruptEvent,
        r"event 3 .*'n' was never received",
    ),
}


@pytest.mark.parametrize("snapshot", [False, True], ids=["events", "snapshot"])
async def test_a_bad_conversation_is_quarantined_by_name_and_others_are_not_affected(store: Store, reopen: Reopen, snapshot: bool) -> None:
    for name in ("good", *DAMAGE):
        conversation = DurableConversation(name, store)
        await conversation.receive_message("m", 1)
        await conversation.record_processing_started("m")
        await conversation.record_step_completed("m", 0, b"x")
        if snapshot:
            await conversation.snapshot()
    for name, (plant, _, _) in DAMAGE.items():
        await store.commit(msgspec.structs.replace(plant, process_id=name))

    store = await reopen()

    for name, (_, error, text) in DAMAGE.items():
        with pytest.raises(error, match=f"process/default/{name}: {text}"):
            await recover(name, store)
        with pytest.raises(SequenceConflict):
            await DurableConversation(name, store).receive_message("m", 1)
    good = await recover("good", store)
    assert await good.receive_message("m", 1) == ResumeFrom(step_index=1, outputs=(b"x",))
    assert await good.record_processing_finished("m") == 3


async def test_a_first_event_that_is_missing_is_found(store: Store) -> None:
    await store.commit(PlayEngine("bad"), Plant("bad", encode_event(MessageReceived("m", 1)), gap=1, moved=2))

    with pytest.raises(CorruptEvent, match="event 0 is missing, the next is 1"):
        await recover("bad", store)


async def test_a_bad_event_on_a_later_page_is_found(store: Store) -> None:
    events = tuple(MessageReceived(f"m-{number}", number) for number in range(limits.READ_PAGE + 3))
    await store.commit(PlayEngine("bad", events), Plant("bad", b"\x01"))

    with pytest.raises(CorruptEvent, match=f"event {limits.READ_PAGE + 3} cannot be decoded"):
        await recover("bad", store)


async def test_a_conversation_that_lost_events_is_found_by_refresh_and_by_snapshot(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await finished(conversation, "m")
    await store.commit(Plant("conv-1", moved=-1))

    with pytest.raises(CorruptEvent, match="ends at 2, 3 events were read before"):
        await conversation.refresh()
    with pytest.raises(SequenceConflict):
        await conversation.snapshot()


async def test_a_turn_that_its_events_contradict_is_found(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")
    await store.commit(Plant("conv-1", encode_event(StepCompleted("m", 0, b"x"))))

    with pytest.raises(CorruptEvent, match="has 0 steps, its events say 1"):
        await (await recover("conv-1", store)).receive_message("m", 1)
