"""Contract 4: the bytes of the seed's system, out and in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import limits
from perdure.conversations.contract import ResumeFrom, Skip
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import (
    CallerEvent,
    ErrorOccurred,
    MessageReceived,
    ProcessingFinished,
    ProcessingStarted,
    StepCompleted,
    TimerFired,
)
from perdure.conversations.lce1 import decode_lce1, encode_lce1
from perdure.errors import IllegalTransition, InvalidIdentifier, PayloadInvalid, PayloadTooLarge, PerdureError, SequenceConflict, UsageError
from perdure.store import Store
from tests.contracts.conversations import PlayEngine, finished

Reopen = Callable[[], Awaitable[Store]]
recover = DurableConversation.recover

GOLDEN: dict[str, CallerEvent] = {
    "4c434531 01 0000000000000001 6d 0000000000000001": MessageReceived("m", 1),
    "4c434531 01 0000000000000002 c3a9 ffffffffffffffff": MessageReceived("é", 2**64 - 1),
    "4c434531 02 0000000000000001 6d": ProcessingStarted("m"),
    "4c434531 03 0000000000000001 6d 00000002 0000000000000003 6f7574": StepCompleted("m", 2, b"out"),
    "4c434531 03 0000000000000001 6d ffffffff 0000000000000000": StepCompleted("m", 2**32 - 1, b""),
    "4c434531 04 0000000000000001 6d": ProcessingFinished("m"),
    "4c434531 05 0000000000000001 6d 0000000000000002 6e6f": ErrorOccurred("m", "no"),
}
TEXT = st.text(max_size=12)
EVENTS: st.SearchStrategy[CallerEvent] = st.one_of(
    st.builds(MessageReceived, TEXT, st.integers(0, 2**64 - 1)),
    st.builds(ProcessingStarted, TEXT),
    st.builds(StepCompleted, TEXT, st.integers(0, 2**32 - 1), st.binary(max_size=12)),
    st.builds(ProcessingFinished, TEXT),
    st.builds(ErrorOccurred, TEXT, TEXT),
)


def _bytes(*encoded: str) -> list[bytes]:
    return [bytes.fromhex(each) for each in encoded]


@pytest.mark.parametrize("encoded", GOLDEN)
def test_an_event_has_these_bytes_in_lce1(encoded: str) -> None:
    [data] = _bytes(encoded)

    assert encode_lce1(GOLDEN[encoded]) == data
    assert decode_lce1(data, what="it") == GOLDEN[encoded]


def test_the_sizes_are_those_of_the_layout() -> None:
    assert len(encode_lce1(MessageReceived("id", 1))) == 21 + 2
    assert len(encode_lce1(ProcessingStarted("id"))) == 13 + 2
    assert len(encode_lce1(StepCompleted("id", 0, b"out"))) == 25 + 2 + 3
    assert len(encode_lce1(ProcessingFinished("id"))) == 13 + 2
    assert len(encode_lce1(ErrorOccurred("id", "no"))) == 21 + 2 + 2


@given(EVENTS)
@settings(deadline=None)
def test_every_event_comes_back_from_lce1(event: CallerEvent) -> None:
    assert decode_lce1(encode_lce1(event), what="it") == event


@pytest.mark.parametrize(
    ("encoded", "cause"),
    [
        ("", "expected 4 bytes at 0, found 0"),
        ("4c434532 02 0000000000000001 6d", "expected to begin with LCE1, found 4c434532"),
        ("4c434531", "expected 1 bytes at 4, found 0"),
        ("4c434531 06 0000000000000001 6d", "expected a tag from 1 to 5, found 6"),
        ("4c434531 00 0000000000000001 6d", "expected a tag from 1 to 5, found 0"),
        ("4c434531 02 0000000000000002 6d", "expected 2 bytes at 13, found 1"),
        ("4c434531 02 ffffffffffffffff 6d", "expected 18,446,744,073,709,551,615 bytes at 13, found 1"),
        ("4c434531 02 0000000000000001 ff", "expected UTF-8"),
        ("4c434531 05 0000000000000001 6d 0000000000000001 c3", "expected UTF-8"),
        ("4c434531 02 0000000000000001 6d 00", "1 bytes are left over"),
        ("4c434531 01 0000000000000001 6d 00000000000001", "expected 8 bytes at 14, found 7"),
    ],
)
def test_what_is_not_lce1_is_refused_with_the_cause(encoded: str, cause: str) -> None:
    [data] = _bytes(encoded)

    with pytest.raises(PayloadInvalid, match=f"^it: {cause}"):
        decode_lce1(data, what="it")


@given(EVENTS, st.data())
@settings(deadline=None, max_examples=200)
def test_lce1_that_is_cut_off_is_refused(event: CallerEvent, data: st.DataObject) -> None:
    encoded = encode_lce1(event)

    with pytest.raises(PayloadInvalid):
        decode_lce1(encoded[: data.draw(st.integers(0, len(encoded) - 1))], what="it")


@given(EVENTS, st.data())
@settings(deadline=None, max_examples=300)
def test_a_flipped_bit_of_lce1_gives_an_event_or_a_refusal(event: CallerEvent, data: st.DataObject) -> None:
    encoded = bytearray(encode_lce1(event))
    place = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[place // 8] ^= 1 << place % 8

    _is_event_or_refused(bytes(encoded))


@given(st.binary(max_size=60) | st.builds(lambda tag, data: b"LCE1" + bytes([tag]) + data, st.integers(0, 7), st.binary(max_size=60)))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_an_event_of_lce1_or_refused(data: bytes) -> None:
    _is_event_or_refused(data)


def _is_event_or_refused(data: bytes) -> None:
    try:
        event = decode_lce1(data, what="it")
    except PayloadInvalid:
        return
    assert encode_lce1(event) == data


# --- conversations out and in --------------------------------------------------------------------------


async def _sample(store: Store, name: str = "old") -> DurableConversation:
    conversation = DurableConversation(name, store)
    await finished(conversation, "done", b"a", b"", result=b"left out")
    await conversation.receive_message("open", 7)
    await conversation.record_processing_started("open")
    await conversation.record_step_completed("open", 0, b"kept", name="left out")
    await conversation.record_error("open", "nö")
    await conversation.record_processing_started("open")
    return conversation


async def test_an_exported_conversation_is_its_events_in_order(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    assert await conversation.export_lce1() == []
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")
    await conversation.record_step_completed("m", 0, b"out")
    await conversation.record_error("m", "no")
    await conversation.record_processing_finished("m", b"left out")

    assert await conversation.export_lce1() == _bytes(
        "4c434531 01 0000000000000001 6d 0000000000000001",
        "4c434531 02 0000000000000001 6d",
        "4c434531 03 0000000000000001 6d 00000000 0000000000000003 6f7574",
        "4c434531 05 0000000000000001 6d 0000000000000002 6e6f",
        "4c434531 04 0000000000000001 6d",
    )


async def test_an_imported_conversation_decides_as_the_exported_one(store: Store, reopen: Reopen) -> None:
    old = await _sample(store)
    exported = await old.export_lce1()
    new = DurableConversation("new", store)

    assert await new.import_lce1(exported) == old.expected_seq

    recovered = await recover("new", await reopen())
    assert recovered.state == new.state == old.state
    assert await recovered.receive_message("done", 1) == Skip(result=None)
    assert await recovered.receive_message("open", 1) == ResumeFrom(step_index=1, outputs=(b"kept",))
    assert await recovered.export_lce1() == exported


async def test_an_import_that_was_interrupted_is_repeated_and_goes_on(store: Store) -> None:
    events = await (await _sample(store)).export_lce1()
    await DurableConversation("new", store).import_lce1(events[:4])

    with pytest.raises(SequenceConflict):
        await DurableConversation("new", store).import_lce1(events)
    conversation = await recover("new", store)
    assert await conversation.import_lce1(events) == len(events)
    assert await conversation.import_lce1(events) == len(events)
    assert await conversation.export_lce1() == events


async def test_a_large_import_is_written_in_several_transactions(store: Store) -> None:
    count = limits.IMPORT_CHUNK + 3
    events = [encode_lce1(MessageReceived(f"m-{number}", number)) for number in range(count)]
    events.append(encode_lce1(ProcessingStarted("m-1")))
    events += [encode_lce1(StepCompleted("m-1", index, b"x" * 900_000)) for index in range(3)]
    before = store.access.writer.commits

    assert await DurableConversation("new", store).import_lce1(events) == count + 4

    assert store.access.writer.commits - before == 3
    assert len((await recover("new", store)).state.open) == count


WRONG: dict[str, tuple[list[bytes], type[PerdureError], str]] = {
    "no lce1": ([b"LCE2"], PayloadInvalid, "event 1 of the import"),
    "a step gap": (
        [encode_lce1(ProcessingStarted("m")), encode_lce1(StepCompleted("m", 1, b""))],
        IllegalTransition,
        "event 2 of the import",
    ),
    "a step twice": (
        [encode_lce1(ProcessingStarted("m")), *[encode_lce1(StepCompleted("m", 0, b""))] * 2],
        IllegalTransition,
        "event 3 of the import",
    ),
    "finished unseen": ([encode_lce1(ProcessingFinished("n"))], IllegalTransition, "event 1 of the import: message 'n' was never received"),
    "received again": (
        [encode_lce1(ProcessingStarted("m")), encode_lce1(ProcessingFinished("m")), encode_lce1(MessageReceived("m", 1))],
        IllegalTransition,
        "event 3 of the import: message 'm' is finished",
    ),
    "an empty id": ([encode_lce1(MessageReceived("", 1))], InvalidIdentifier, "MessageId"),
    "too large": ([encode_lce1(ErrorOccurred("m", "x" * (limits.ERROR_TEXT_MAX + 1)))], PayloadTooLarge, "error"),
}


async def test_an_import_is_checked_whole_before_anything_is_written(store: Store) -> None:
    for name, (tail, error, text) in WRONG.items():
        conversation = DurableConversation(name, store)
        with pytest.raises(error, match=text):
            await conversation.import_lce1([encode_lce1(MessageReceived("m", 1)), *tail])
        assert conversation.expected_seq == 0

    rows = (await store.info()).rows
    assert (rows["process"], rows["turn"], rows["event"]) == (0, 0, 0)


async def test_an_import_into_another_conversation_is_refused(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")

    for events in (["m"], ["n", "m"], ["m", "n"]):
        with pytest.raises(IllegalTransition, match=r"event \d is not the imported one"):
            await conversation.import_lce1([encode_lce1(MessageReceived(message_id, 1)) for message_id in events])
    assert (await store.info()).rows["event"] == 2


async def test_what_lce1_cannot_say_is_not_exported(store: Store) -> None:
    await store.commit(PlayEngine("order-1", (MessageReceived("m", 1), TimerFired("m", "sleep"))))

    with pytest.raises(UsageError, match="event 1 is a TimerFired, which LCE1 cannot say"):
        await (await recover("order-1", store)).export_lce1()
