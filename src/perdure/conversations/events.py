"""The events of a conversation, and their bytes.

An event is one version byte and then MessagePack: an array of the tag and the fields, in order. Fields are only ever
added at the end, with a default; anything else is a new version byte, which older readers refuse by name.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.clock import Micros
from perdure.errors import CorruptEvent, EventTooNew
from perdure.identity import encode_identifier

EVENT_VERSION: Final = 1


class _Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    message_id: str


class MessageReceived(_Event, frozen=True, tag=1):
    """A message came to this conversation. `received_at` is the caller's own time, never interpreted."""

    received_at: Micros


class ProcessingStarted(_Event, frozen=True, tag=2):
    """A handler began; `attempt` counts from 1 and grows when a crash made it begin again."""

    attempt: int = 1


class StepCompleted(_Event, frozen=True, tag=3):
    """A step's output is recorded; it is not run again. `name` is its id in the turn, `input` what it was called with."""

    step_index: int
    output: bytes
    name: str = ""
    input: str = ""


class ProcessingFinished(_Event, frozen=True, tag=4):
    """The handler is done; nothing of this message follows. `outcome` is `ok` or `error`."""

    result: bytes | None = None
    outcome: str = "ok"


class ErrorOccurred(_Event, frozen=True, tag=5):
    """An attempt failed; a redelivery resumes."""

    error: str


class StepFailed(_Event, frozen=True, tag=6):
    """A step ended with an error, which the handler got."""

    name: str
    input: str
    error: bytes


class StepAttemptFailed(_Event, frozen=True, tag=7):
    """An attempt of a step failed; attempt `attempt + 1` is due at `due`. Of a question to its probe, if `probe`."""

    name: str
    attempt: int
    error: bytes
    due: Micros
    probe: bool = False


class TimerFired(_Event, frozen=True, tag=8):
    """A timer that the handler waited for was due."""

    name: str


class MessageTaken(_Event, frozen=True, tag=9):
    """A `receive` took the message `taken` (its reference) out of the mailbox."""

    name: str
    taken: str
    kind: str
    payload: bytes


class Bound(_Event, frozen=True, tag=10):
    """The handler asked for a key: it has it when `owner` is empty, else `owner` keeps it."""

    name: str
    key: str
    owner: str = ""


class StepBegun(_Event, frozen=True, tag=11):
    """Attempt `attempt` of a step that runs at most once may have begun: its end is unknown until it is recorded."""

    name: str
    input: str
    attempt: int = 1


class Patched(_Event, frozen=True, tag=12):
    """The handler asked for the patch `name` where the turn had not been before: it has it, on every replay."""

    name: str


class CancelRequested(_Event, frozen=True, tag=20):
    """Somebody asked the process to stop: what the handler waited for was dropped, and its code cancelled."""

    reason: str
    name: str = "cancel"


class Restarted(_Event, frozen=True, tag=21):
    """What stands before this in the turn was copied from another one, of the process `origin` for the message `origin_message`."""

    origin: str
    origin_message: str
    name: str = "restart"


class ProcessMoved(_Event, frozen=True, tag=22):
    """From here on the process runs on the package `target`, and no more on `origin`; empty is code of no package.

    Whatever the turn then is, its code is not told: it is replayed from its beginning by the other version.
    """

    origin: str
    target: str
    actor: str


class ReplyArrived(_Event, frozen=True, tag=16):
    """What the handler asked somebody for has come: a sealed reply, or the completion of an awakeable."""

    name: str
    input: str
    outcome: str
    response: bytes


Event = (
    MessageReceived
    | ProcessingStarted
    | StepCompleted
    | ProcessingFinished
    | ErrorOccurred
    | StepFailed
    | StepAttemptFailed
    | TimerFired
    | MessageTaken
    | Bound
    | StepBegun
    | Patched
    | CancelRequested
    | Restarted
    | ProcessMoved
    | ReplyArrived
)

CallerEvent = MessageReceived | ProcessingStarted | StepCompleted | ProcessingFinished | ErrorOccurred
"""What a caller of a DurableConversation records; the engine records these and the others."""

NO_INPUT: Final = (MessageReceived, ProcessingStarted, ErrorOccurred, ProcessingFinished, ProcessMoved)
"""What is recorded beside the inputs of a turn: its code is not told of it."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding MessagePack can raise on bytes that nobody has written."""

_VERSION_BYTE: Final = bytes([EVENT_VERSION])
_encode: Final = msgspec.msgpack.Encoder(enc_hook=encode_identifier).encode
_decode: Final = msgspec.msgpack.Decoder(Event).decode


def encode_event(event: Event) -> bytes:
    """Return the stored bytes of an event."""
    return _VERSION_BYTE + _encode(event)


def decode_event(data: bytes, *, stream: str, seq: int) -> Event:
    """Return the event that `data` holds; `stream` and `seq` are for the text of an error.

    Raises:
        EventTooNew: a newer Perdure wrote it; the text names the version.
        CorruptEvent: the bytes are no event; the text names the sequence and the cause.
    """
    if data[:1] != _VERSION_BYTE:
        if data and data[0] > EVENT_VERSION:
            raise EventTooNew(f"{stream}: event {seq} has version {data[0]}, this Perdure reads up to {EVENT_VERSION}; update it")
        raise CorruptEvent(f"{stream}: event {seq} begins with {data[:1].hex() or 'nothing'}, expected version {EVENT_VERSION}")
    try:
        event: Event = _decode(memoryview(data)[1:])
    except UNREADABLE as error:
        raise CorruptEvent(f"{stream}: event {seq} cannot be decoded: {error}") from error
    return event
