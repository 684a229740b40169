"""Events made of callers' arguments, checked at the door: bad input is refused before anything is written."""

from __future__ import annotations

from collections.abc import Iterable

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import (
    CallerEvent,
    ErrorOccurred,
    MessageReceived,
    ProcessingFinished,
    ProcessingStarted,
    StepCompleted,
)
from perdure.conversations.lce1 import RECEIVED_AT_MAX
from perdure.conversations.state import next_turn, numbered
from perdure.conversations.tables import TurnRow
from perdure.errors import IllegalTransition, PayloadTooLarge, PayloadUnencodable, UsageError
from perdure.identity import MessageId, checked_text


def message_received(message_id: str, received_at: Micros) -> MessageReceived:
    """Return the event; raise InvalidIdentifier or UsageError."""
    _check_number("received_at", received_at, RECEIVED_AT_MAX)
    return MessageReceived(_plain(message_id), received_at)


def processing_started(message_id: str) -> ProcessingStarted:
    """Return the event; raise InvalidIdentifier."""
    return ProcessingStarted(_plain(message_id))


def step_completed(message_id: str, step_index: int, output: bytes, name: str | None) -> StepCompleted:
    """Return the event; raise InvalidIdentifier, UsageError or PayloadTooLarge."""
    _check_number("step_index", step_index, limits.TURN_EVENTS_MAX)
    _check_bytes("output", output, limits.STEP_OUTPUT_MAX)
    step = "" if name is None else checked_text(name, what="name", limit=limits.STEP_NAME_MAX)
    return StepCompleted(_plain(message_id), step_index, output, step)


def processing_finished(message_id: str, result: bytes | None) -> ProcessingFinished:
    """Return the event; raise InvalidIdentifier, UsageError or PayloadTooLarge."""
    if result is not None:
        _check_bytes("result", result, limits.RESULT_MAX)
    return ProcessingFinished(_plain(message_id), result)


def error_occurred(message_id: str, error: str) -> ErrorOccurred:
    """Return the event; raise InvalidIdentifier, UsageError, PayloadTooLarge or PayloadUnencodable."""
    if not isinstance(error, str):
        raise UsageError(f"error: expected text, found {type(error).__name__}; pass str(error)")
    try:
        size = len(error.encode())
    except UnicodeEncodeError:
        raise PayloadUnencodable("error: expected UTF-8 text, found a lone surrogate") from None
    if size > limits.ERROR_TEXT_MAX:
        raise PayloadTooLarge("error", size=size, limit=limits.ERROR_TEXT_MAX)
    return ErrorOccurred(_plain(message_id), error)


def rehearse(events: Iterable[CallerEvent]) -> None:
    """Raise what recording these events in an empty conversation would, before anything is written."""
    turns: dict[str, TurnRow] = {}
    for number, event in enumerate(events):
        message_id = _plain(event.message_id)
        if isinstance(event, StepCompleted):
            _check_bytes("output", event.output, limits.STEP_OUTPUT_MAX)
        elif isinstance(event, ErrorOccurred):
            error_occurred(message_id, event.error)
        turn = turns.get(message_id)
        try:
            turns[message_id] = next_turn(turn, numbered(turn, event))
        except IllegalTransition as error:
            raise IllegalTransition(f"event {number} of the import: {error}") from error


def size_of(event: CallerEvent) -> int:
    """Return the bytes of payload that recording the event writes."""
    match event:
        case StepCompleted():
            return len(event.output)
        case ProcessingFinished():
            return 2 * len(event.result or b"")  # in the event and in the turn's row
        case ErrorOccurred():
            return len(event.error)
        case _:
            return 0


def chunks(events: Iterable[CallerEvent]) -> Iterable[tuple[CallerEvent, ...]]:
    """Yield the events in pieces that fit into one transaction each."""
    chunk: list[CallerEvent] = []
    size = 0
    for event in events:
        if chunk and (len(chunk) == limits.IMPORT_CHUNK or size + size_of(event) > limits.TRANSACTION_BYTES_MAX // 2):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(event)
        size += size_of(event)
    if chunk:
        yield tuple(chunk)


def _plain(message_id: str) -> str:
    return str(MessageId(message_id))


def _check_number(what: str, number: int, limit: int) -> None:
    # A bool is an int to Python, and another thing in the stored bytes.
    if type(number) is not int or not 0 <= number <= limit:
        raise UsageError(f"{what}: expected a number from 0 to {limit}, found {number!r}")


def _check_bytes(what: str, data: bytes, limit: int) -> None:
    if type(data) is not bytes:
        raise UsageError(f"{what}: expected bytes, found {type(data).__name__}; encode it first")
    if len(data) > limit:
        raise PayloadTooLarge(what, size=len(data), limit=limit)
