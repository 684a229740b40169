"""What events make of a message and of a conversation: one table of transitions, for writes and for replay alike.

Source: contracts.md, 4. DurableConversation, "Validated before it is written".
"""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from perdure import limits
from perdure.conversations.contract import ConversationState, OpenMessage
from perdure.conversations.events import (
    CallerEvent,
    ErrorOccurred,
    Event,
    MessageReceived,
    ProcessingFinished,
    ProcessingStarted,
    StepCompleted,
)
from perdure.conversations.tables import TurnRow, TurnState
from perdure.errors import CorruptEvent, IllegalTransition, TurnTooLong

replace = msgspec.structs.replace

FAILED: Final = "error"
SNAPSHOT_VERSION: Final = 1
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(ConversationState).decode


def next_turn(turn: TurnRow | None, event: CallerEvent) -> TurnRow:
    """Return what `event` makes of the turn of its message; None is a message that was never seen.

    Raises:
        IllegalTransition: it may not happen now.
        TurnTooLong: the message has as many steps as one may have.
    """
    match event:
        case MessageReceived():
            if turn is not None:
                raise IllegalTransition(f"message {event.message_id!r} is {turn.state} already; a message is received once")
            return TurnRow(state=TurnState.RECEIVED)
        case ProcessingStarted():
            turn = _require(turn, event, TurnState.RECEIVED, TurnState.STARTED)
            return replace(turn, state=TurnState.STARTED, attempts=event.attempt, outcome="")
        case StepCompleted():
            turn = _require(turn, event, TurnState.STARTED)
            if event.step_index != turn.steps:
                raise IllegalTransition(f"message {event.message_id!r}: expected step {turn.steps} next, found {event.step_index}")
            if turn.steps >= limits.TURN_EVENTS_MAX:
                raise TurnTooLong(f"message {event.message_id!r} has {turn.steps:,} steps, the limit; split the work over messages")
            return replace(turn, steps=turn.steps + 1)
        case ErrorOccurred():
            turn = _require(turn, event, TurnState.RECEIVED, TurnState.STARTED)
            # The start has counted the attempt that fails here, unless there was none.
            under_way = turn.state == TurnState.STARTED and turn.outcome != FAILED
            return replace(turn, attempts=turn.attempts if under_way else turn.attempts + 1, outcome=FAILED)
        case ProcessingFinished():
            turn = _require(turn, event, TurnState.STARTED)
            return replace(turn, state=TurnState.FINISHED, outcome=event.outcome, result=event.result)
        case _:
            assert_never(event)


def numbered(turn: TurnRow | None, event: CallerEvent) -> CallerEvent:
    """Return the event as it is recorded: a start has the number of its attempt."""
    if isinstance(event, ProcessingStarted) and turn is not None:
        return replace(event, attempt=turn.attempts + 1)
    return event


def _require(turn: TurnRow | None, event: CallerEvent, *states: TurnState) -> TurnRow:
    if turn is not None and turn.state in states:
        return turn
    found = "was never received" if turn is None else f"is {turn.state}"
    allowed = " or ".join(states)
    raise IllegalTransition(f"message {event.message_id!r} {found}; {type(event).__name__} needs one that is {allowed}")


class Memory:
    """A conversation in memory: what its events have come to, event by event. Memory holds open messages only.

    Args:
        stream: the conversation's name, for the texts of errors.
        next_seq: the sequence that its events begin at.
    """

    def __init__(self, stream: str, next_seq: int = 0) -> None:
        self.next_seq = next_seq
        self._stream = stream
        self._open: dict[str, _Open] = {}

    @property
    def state(self) -> ConversationState:
        """What it has come to, as a value."""
        return ConversationState(next_seq=self.next_seq, open={message_id: message.value() for message_id, message in self._open.items()})

    def steps_of(self, message_id: str) -> list[int]:
        """Return the sequences of the completed steps of an open message; none when it is not open."""
        message = self._open.get(message_id)
        return [] if message is None else message.steps

    def apply(self, seq: int, event: Event) -> None:
        """Take in the next event.

        Raises:
            CorruptEvent: it may not happen here; nothing was taken in.
        """
        assert seq == self.next_seq, f"{self._stream}: event {self.next_seq} comes before event {seq}"
        # What only the engine records changes nothing here.
        if isinstance(event, CallerEvent):
            try:
                self._apply(seq, event)
            except (IllegalTransition, TurnTooLong) as error:
                raise CorruptEvent(f"{self._stream}: event {seq} may not happen here: {error}") from error
        self.next_seq = seq + 1

    def snapshot(self) -> bytes:
        """Return the bytes of a snapshot of version `SNAPSHOT_VERSION`."""
        return _encode(self.state)

    def restore(self, data: bytes) -> None:
        """Begin where a snapshot of version `SNAPSHOT_VERSION` stands.

        Raises:
            UNREADABLE: the bytes are no snapshot; nothing was restored.
        """
        state = _decode(data)
        self._open = {message_id: _Open.of(message) for message_id, message in state.open.items()}
        self.next_seq = state.next_seq

    def _apply(self, seq: int, event: CallerEvent) -> None:
        message = self._open.get(event.message_id)
        turn = next_turn(None if message is None else message.turn, event)
        if message is None:
            assert isinstance(event, MessageReceived), "nothing else may happen to a message that is not open"
            message = self._open[event.message_id] = _Open(turn, event.received_at, seq)
        message.turn = turn
        if isinstance(event, StepCompleted):
            message.steps.append(seq)
        elif isinstance(event, ErrorOccurred):
            message.error = event.error
        elif isinstance(event, ProcessingFinished):
            del self._open[event.message_id]


class _Open:
    """An open message while its conversation is in memory. Outputs stay in the store."""

    __slots__ = ("error", "received_at", "received_seq", "steps", "turn")

    def __init__(self, turn: TurnRow, received_at: int, received_seq: int) -> None:
        self.turn = turn
        self.received_at = received_at
        self.received_seq = received_seq
        self.steps: list[int] = []
        self.error: str | None = None

    @classmethod
    def of(cls, message: OpenMessage) -> _Open:
        turn = TurnRow(
            state=TurnState.STARTED if message.started else TurnState.RECEIVED,
            steps=len(message.steps),
            attempts=message.attempts,
            outcome=FAILED if message.failed else "",
        )
        made = cls(turn, message.received_at, message.received_seq)
        made.steps = list(message.steps)
        made.error = message.error
        return made

    def value(self) -> OpenMessage:
        return OpenMessage(
            received_at=self.received_at,
            received_seq=self.received_seq,
            started=self.turn.state == TurnState.STARTED,
            failed=self.turn.outcome == FAILED,
            attempts=self.turn.attempts,
            steps=tuple(self.steps),
            error=self.error,
        )
