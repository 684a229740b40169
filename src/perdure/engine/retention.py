"""How long what is over is kept.

Source: engine.md, "States, memory, recovery"; contracts.md, 3.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.engine.process import micros
from perdure.errors import UsageError

TOMBSTONES = timedelta(days=90)
_LONGEST = timedelta(microseconds=limits.DURATION_MAX)


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long an engine keeps what is over. None keeps it for ever, which is the default of all but tombstones.

    What is open is never removed, nor are dead letters and parked messages. Everything may stay longer than is said here,
    and nothing goes earlier.

    Args:
        turns: events of finished turns, by process. The last turn of a process stays as long as the process. `messages`
            if that is given and this is not.
        messages: a message that is done, together with its sealed reply, from the end of its turn on; at least `turns`,
            because a message is found by the events of its turn.
        finished_processes: processes that have ended or failed, with their turns and fields, from their end on.
        commands: commands that are over, with params, result, history and idempotency key; dead letters stay until people decide.
        tombstones: how long the id of a removed message or process is known as used afterwards.

    Raises:
        UsageError: one of them is not over zero, over a century, or `messages` is shorter than `turns`.
    """

    turns: timedelta | None = None
    messages: timedelta | None = None
    finished_processes: timedelta | None = None
    commands: timedelta | None = None
    tombstones: timedelta = TOMBSTONES

    def __post_init__(self) -> None:
        """Check the ages."""
        for name in self.__struct_fields__:
            age = getattr(self, name)
            if age is None and name != "tombstones":
                continue
            if not isinstance(age, timedelta) or not timedelta(0) < age <= _LONGEST:
                raise UsageError(f"Retention({name}=…): expected a timedelta over zero, up to a century, found {age!r}")
        if self.turns is not None and self.messages is not None and self.messages < self.turns:
            raise UsageError(f"Retention: messages={self.messages} is shorter than turns={self.turns}; a message is found by its turn")

    @property
    def ages(self) -> Ages:
        """The same in microseconds."""
        turns = self.messages if self.turns is None else self.turns
        return Ages(_age(turns), _age(self.messages), _age(self.finished_processes), micros(self.tombstones), _age(self.commands))


class Ages(NamedTuple):
    """Retention in microseconds."""

    turns: Micros | None
    messages: Micros | None
    processes: Micros | None
    tombstones: Micros
    commands: Micros | None


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep has removed: events of turns, messages with their replies, processes, tombstones of both, and commands."""

    events: int = 0
    messages: int = 0
    processes: int = 0
    tombstones: int = 0
    commands: int = 0


def _age(age: timedelta | None) -> Micros | None:
    return None if age is None else micros(age)
