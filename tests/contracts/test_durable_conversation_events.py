"""Contract 4: the bytes of events, and what is no event."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.conversations.events import (
    Bound,
    ErrorOccurred,
    Event,
    MessageReceived,
    MessageTaken,
    Patched,
    ProcessingFinished,
    ProcessingStarted,
    StepAttemptFailed,
    StepBegun,
    StepCompleted,
    StepFailed,
    TimerFired,
    decode_event,
    encode_event,
)
from perdure.errors import CorruptEvent, EventTooNew

GOLDEN: dict[str, Event] = {
    "01 93 01 a16d 01": MessageReceived("m", 1),
    "01 93 02 a16d 01": ProcessingStarted("m"),
    "01 96 03 a16d 02 c403 6f7574 a6636861726765 a0": StepCompleted("m", 2, b"out", "charge"),
    "01 94 04 a16d c0 a26f6b": ProcessingFinished("m"),
    "01 94 04 a16d c400 a26f6b": ProcessingFinished("m", b""),
    "01 93 05 a16d a26e6f": ErrorOccurred("m", "no"),
    "01 95 06 a16d a163 a169 c40165": StepFailed("m", "c", "i", b"e"),
    "01 97 07 a16d a163 02 c40165 0a c2": StepAttemptFailed("m", "c", 2, b"e", 10),
    "01 97 07 a16d a163 02 c40165 0a c3": StepAttemptFailed("m", "c", 2, b"e", 10, probe=True),
    "01 93 08 a16d a5736c656570": TimerFired("m", "sleep"),
    "01 96 09 a16d a172 a174 a16b c40170": MessageTaken("m", "r", "t", "k", b"p"),
    "01 95 0a a16d a162 a16b a0": Bound("m", "b", "k"),
    "01 95 0b a16d a163 a169 02": StepBegun("m", "c", "i", 2),
    "01 93 0c a16d a170": Patched("m", "p"),
}
TEXT, DATA, NUMBER = st.text(max_size=20), st.binary(max_size=20), st.integers(0, 2**63 - 1)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(MessageReceived, TEXT, st.integers(0, 2**64 - 1)),
    st.builds(ProcessingStarted, TEXT, NUMBER),
    st.builds(StepCompleted, TEXT, NUMBER, DATA, TEXT, TEXT),
    st.builds(ProcessingFinished, TEXT, st.none() | DATA, TEXT),
    st.builds(ErrorOccurred, TEXT, TEXT),
    st.builds(StepFailed, TEXT, TEXT, TEXT, DATA),
    st.builds(StepAttemptFailed, TEXT, TEXT, NUMBER, DATA, NUMBER, st.booleans()),
    st.builds(StepBegun, TEXT, TEXT, TEXT, NUMBER),
    st.builds(Patched, TEXT, TEXT),
    st.builds(TimerFired, TEXT, TEXT),
    st.builds(MessageTaken, TEXT, TEXT, TEXT, TEXT, DATA),
    st.builds(Bound, TEXT, TEXT, TEXT, TEXT),
)


def _decode(data: bytes) -> Event:
    return decode_event(data, stream="process/default/conv-1", seq=7)


@pytest.mark.parametrize("encoded", GOLDEN)
def test_an_event_has_these_bytes(encoded: str) -> None:
    assert encode_event(GOLDEN[encoded]).hex() == encoded.replace(" ", "")
    assert _decode(bytes.fromhex(encoded)) == GOLDEN[encoded]


def test_fields_that_an_older_version_left_out_have_their_defaults() -> None:
    assert _decode(bytes.fromhex("01 92 02 a16d")) == ProcessingStarted("m", 1)
    assert _decode(bytes.fromhex("01 94 03 a16d 00 c400")) == StepCompleted("m", 0, b"", "", "")


def test_fields_that_a_later_version_added_at_the_end_are_left_out() -> None:
    assert _decode(bytes.fromhex("01 95 05 a16d a26e6f c0 07")) == ErrorOccurred("m", "no")


@given(EVENTS)
@settings(deadline=None)
def test_every_event_comes_back(event: Event) -> None:
    assert _decode(encode_event(event)) == event


def test_an_event_of_a_newer_version_is_refused_with_the_version() -> None:
    with pytest.raises(EventTooNew, match=r"process/default/conv-1: event 7 has version 9, this Perdure reads up to 1"):
        _decode(b"\x09anything")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x01",
        bytes.fromhex("01 c0"),
        bytes.fromhex("01 90"),
        bytes.fromhex("01 92 7f a16d"),
        bytes.fromhex("01 92 01 a16d"),
        bytes.fromhex("01 93 01 a16d a131"),
        bytes.fromhex("01 93 01 a1ff 01"),
        bytes.fromhex("01 93 05 a16d a2 c328"),
        bytes.fromhex("01 93 01 a16d 01 00"),
        bytes.fromhex("01 93 01 dbffffffff 6d"),
        bytes.fromhex("01 94 01 a16d 01") + b"\x91" * 100_000,
    ],
    ids=[
        "nothing",
        "version 0",
        "a version alone",
        "no array",
        "no tag",
        "an unknown tag",
        "a field missing",
        "text for a number",
        "no UTF-8",
        "no UTF-8 in an error",
        "bytes left over",
        "a length beyond the end",
        "nested without end",
    ],
)
def test_what_is_no_event_is_corrupt_and_named(data: bytes) -> None:
    with pytest.raises(CorruptEvent, match=r"process/default/conv-1: event 7 "):
        _decode(data)


@given(EVENTS, st.data())
@settings(deadline=None, max_examples=200)
def test_an_event_that_is_cut_off_is_corrupt(event: Event, data: st.DataObject) -> None:
    encoded = encode_event(event)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]

    with pytest.raises(CorruptEvent):
        _decode(cut)


@given(EVENTS, st.data())
@settings(deadline=None, max_examples=300)
def test_a_flipped_bit_gives_an_event_or_a_typed_error(event: Event, data: st.DataObject) -> None:
    encoded = bytearray(encode_event(event))
    place = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[place // 8] ^= 1 << place % 8

    _is_event_or_error(bytes(encoded))


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: b"\x01" + data))
@settings(deadline=None, max_examples=500)
def test_any_bytes_give_an_event_or_a_typed_error(data: bytes) -> None:
    _is_event_or_error(data)


def _is_event_or_error(data: bytes) -> None:
    try:
        event = _decode(data)
    except (CorruptEvent, EventTooNew):
        return
    assert isinstance(event, msgspec.Struct)
    assert _decode(encode_event(event)) == event
