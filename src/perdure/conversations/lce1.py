"""LCE1, the bytes of the system that contract 4 comes from: one event each.

Magic `LCE1`, one byte of tag, then the fields in order: text and bytes as a length of 8 bytes and themselves, numbers
in fixed width, all big-endian. It has no place for attempts, names, results and event times.

Source: contracts.md, 4. DurableConversation, "export_lce1() and import_lce1()".
"""

from __future__ import annotations

import struct
from typing import Final, assert_never

from perdure.conversations.events import (
    CallerEvent,
    ErrorOccurred,
    MessageReceived,
    ProcessingFinished,
    ProcessingStarted,
    StepCompleted,
)
from perdure.errors import PayloadInvalid

MAGIC: Final = b"LCE1"
RECEIVED_AT_MAX: Final = 2**64 - 1
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")


def encode_lce1(event: CallerEvent) -> bytes:
    """Return the LCE1 bytes of an event."""
    message_id = _sized(event.message_id.encode())
    match event:
        case MessageReceived():
            return MAGIC + b"\x01" + message_id + _U64.pack(event.received_at)
        case ProcessingStarted():
            return MAGIC + b"\x02" + message_id
        case StepCompleted():
            return MAGIC + b"\x03" + message_id + _U32.pack(event.step_index) + _sized(event.output)
        case ProcessingFinished():
            return MAGIC + b"\x04" + message_id
        case ErrorOccurred():
            return MAGIC + b"\x05" + message_id + _sized(event.error.encode())
        case _:
            assert_never(event)


def decode_lce1(data: bytes, *, what: str) -> CallerEvent:
    """Return the event that `data` holds; `what` names it in the text of an error.

    Raises:
        PayloadInvalid: wrong magic, unknown tag, a field that is cut off or no UTF-8, or bytes left over.
    """
    reader = _Reader(data, what)
    if reader.take(len(MAGIC)) != MAGIC:
        raise PayloadInvalid(f"{what}: expected to begin with LCE1, found {data[:4].hex()}")
    [tag] = reader.take(1)
    message_id = reader.text()
    event: CallerEvent
    match tag:
        case 1:
            event = MessageReceived(message_id, reader.number(_U64))
        case 2:
            event = ProcessingStarted(message_id)
        case 3:
            event = StepCompleted(message_id, reader.number(_U32), reader.sized())
        case 4:
            event = ProcessingFinished(message_id)
        case 5:
            event = ErrorOccurred(message_id, reader.text())
        case _:
            raise PayloadInvalid(f"{what}: expected a tag from 1 to 5, found {tag}")
    reader.end()
    return event


def _sized(data: bytes) -> bytes:
    return _U64.pack(len(data)) + data


class _Reader:
    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def take(self, size: int) -> bytes:
        start, left = self._at, len(self._data) - self._at
        if size > left:
            raise PayloadInvalid(f"{self._what}: expected {size:,} bytes at {start}, found {left}")
        self._at = start + size
        return self._data[start : self._at]

    def number(self, form: struct.Struct) -> int:
        number: int = form.unpack(self.take(form.size))[0]
        return number

    def sized(self) -> bytes:
        return self.take(self.number(_U64))

    def text(self) -> str:
        data = self.sized()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise PayloadInvalid(f"{self._what}: expected UTF-8, found {error.reason} at byte {error.start} of a text") from None

    def end(self) -> None:
        if left := len(self._data) - self._at:
            raise PayloadInvalid(f"{self._what}: {left} bytes are left over")
