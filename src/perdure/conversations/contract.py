"""What callers of conversations may rely on: the decisions about a delivery, and what is open."""

from __future__ import annotations

from typing import Protocol

import msgspec

from perdure.clock import Micros
from perdure.core.access import Access


class OpenStore(Protocol):
    """An open store, as far as a conversation needs one."""

    @property
    def access(self) -> Access:
        """The writer, reads, signals, clock and randomness."""
        ...


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The message is new and is now recorded: begin."""


class ResumeFrom(msgspec.Struct, frozen=True, kw_only=True):
    """The message was received and is not finished: go on.

    Args:
        step_index: the step that comes next; the number of those completed.
        outputs: what they returned, in order, so that none of them is run again.
    """

    step_index: int
    outputs: tuple[bytes, ...]


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """The message is finished: nothing to do but to give its result once more."""

    result: bytes | None


Decision = Start | ResumeFrom | Skip
"""What a delivery of a message asks for."""


class OpenMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is received and not finished.

    Args:
        received_at: the sender's or receiver's own time, as it was given.
        received_seq: the sequence of its MessageReceived.
        started: whether its processing has started.
        failed: whether the last attempt ended with an error, and none has started since.
        attempts: how many there were: each start, and each error without a start of its own.
        steps: the sequences of its completed steps, in order.
        error: the text of the last error, or None.
    """

    received_at: Micros
    received_seq: int
    started: bool = False
    failed: bool = False
    attempts: int = 0
    steps: tuple[int, ...] = ()
    error: str | None = None


class ConversationState(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversation has come to: a pure function of its events.

    Args:
        next_seq: the sequence that the next event gets; as many events were read.
        open: the messages that are open, in the order in which they were received. Finished ones are in the store only.
    """

    next_seq: int
    open: dict[str, OpenMessage]
