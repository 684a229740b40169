"""The states of a command, and which may follow which.

Source: contracts.md, "2. CommandRegistry".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class CommandState(StrEnum):
    """Where a command is."""

    PENDING_UPLOAD = "PENDING_UPLOAD"  # its params are still to come
    PENDING = "PENDING"  # it waits for a worker, or for its time
    DISPATCHED = "DISPATCHED"  # a worker has it, or was sent it
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"  # its deadline passed
    CANCELLED = "CANCELLED"


TERMINAL: Final = frozenset({CommandState.SUCCEEDED, CommandState.FAILED, CommandState.EXPIRED, CommandState.CANCELLED})

_ENDED_EARLY: Final = frozenset({CommandState.FAILED, CommandState.EXPIRED, CommandState.CANCELLED})
_NEXT: Final = {
    CommandState.PENDING_UPLOAD: _ENDED_EARLY | {CommandState.PENDING},
    CommandState.PENDING: _ENDED_EARLY | {CommandState.DISPATCHED},
    CommandState.DISPATCHED: TERMINAL | {CommandState.PENDING},
}


def can_transition(before: CommandState, after: CommandState) -> bool:
    """Return whether a command may go from one state to another. To the same one it always may: nothing happens."""
    return before == after or after in _NEXT.get(before, frozenset())
