"""Handlers as data, which a real engine runs (`programs.py`) and a simple model predicts (`model.py`).

All times and durations are milliseconds. Those of one program differ from one another by odd amounts (`cases.py`), so
that no two things that could decide a race are due at one instant.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SLOTS = 4


class Step(msgspec.Struct, frozen=True, tag=True):
    """A step that works at its n-th attempt, of which so many are allowed, `retry` apart; it gives way to the loop `rounds` times.

    `usual` ones may be repeated by a crash; `once` ones never run twice; `probed` ones neither, and it is found out how they ended.
    """

    how: Literal["usual", "once", "probed"]
    plain: bool
    works_at: int
    attempts: int
    retry: int
    rounds: int


class Sleep(msgspec.Struct, frozen=True, tag=True):
    """Let time pass; `plainly`: by asyncio's own sleep."""

    time: int
    plainly: bool


class Hear(msgspec.Struct, frozen=True, tag=True):
    """Wait for messages of a slot, one after another, each for a time. They come to the runner's key, or to a key or tag of the slot's own."""

    slot: int
    waits: tuple[int, ...]
    by: Literal["runner", "key", "tag"]
    frees: bool  # the key or tag, in the end


class Awake(msgspec.Struct, frozen=True, tag=True):
    """Give away the token of a slot, and wait for its completion for a time."""

    slot: int
    time: int


class Claim(msgspec.Struct, frozen=True, tag=True):
    """Bind a key that somebody else holds for a while."""

    slot: int


class Send(msgspec.Struct, frozen=True, tag=True):
    """Tell the collector, or everybody under a tag, at once or later."""

    text: str
    everybody: bool
    after: int | None


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Ask another process, which answers at once."""

    text: str


class Spawn(msgspec.Struct, frozen=True, tag=True):
    """Let another process run a part."""

    part: Part
    detached: bool


class Call(msgspec.Struct, frozen=True, tag=True):
    """Let another process run a part, and wait for its value."""

    part: Part


class Look(msgspec.Struct, frozen=True, tag=True):
    """What time it is, since the begin."""


class Chance(msgspec.Struct, frozen=True, tag=True):
    """A random number and an id, given to a step."""


class Patch(msgspec.Struct, frozen=True, tag=True):
    """The old way, or the new one where the new code comes first."""


class Fail(msgspec.Struct, frozen=True, tag=True):
    """Raise an error."""


class Attempt(msgspec.Struct, frozen=True, tag=True):
    """Catch the error of a part."""

    part: Part


class Branch(msgspec.Struct, frozen=True, tag=True):
    """One of two ways, by what a step has recorded."""

    step: Step
    works: Part
    fails: Part


class Sequence(msgspec.Struct, frozen=True, tag=True):
    """One after another."""

    parts: tuple[Part, ...]


class Together(msgspec.Struct, frozen=True, tag=True):
    """All at once: by `gather`, which gathers errors, too; in a TaskGroup; two at a time; or taken as they come."""

    parts: tuple[Part, ...]
    how: Literal["gather", "group", "limited", "completed"]


class First(msgspec.Struct, frozen=True, tag=True):
    """Whichever ends first; the others are cancelled."""

    parts: tuple[Part, ...]


class InTime(msgspec.Struct, frozen=True, tag=True):
    """A part, cancelled after a time."""

    part: Part
    time: int


class Until(msgspec.Struct, frozen=True, tag=True):
    """Begin all, wait until so many have ended, and cancel the others."""

    parts: tuple[Part, ...]
    enough: int


Leaf = Step | Sleep | Hear | Awake | Claim | Send | Ask | Look | Chance | Patch | Fail
Part = Leaf | Spawn | Call | Attempt | Branch | Sequence | Together | First | InTime | Until


class Program(msgspec.Struct, frozen=True):
    """What one process does, whether it fails in the end, and what it does when it is cancelled.

    After a step of clean-up it lets the error pass, returns, or sleeps for a while and lets it pass.
    """

    part: Part
    fails: bool
    cleans: Literal["raises", "returns", "sleeps"]


class Arrival(msgspec.Struct, frozen=True):
    """When a message for a slot comes; one to a tag is kept for a time if nobody is there."""

    slot: int
    at: int
    keep: int | None


class Outside(msgspec.Struct, frozen=True):
    """What happens to a program: everything that its outcome may depend on.

    Attributes:
        words: messages for what hears.
        completions: of awakeables, by slot.
        frees: when the rival frees the key of a slot; it holds no others.
        notes: when messages for another handler of the same process come.
        pause: from when to when the process is held still.
        cancel: when it is asked to stop.
        upgrade: when the engine starts again with new code.
    """

    words: tuple[Arrival, ...] = ()
    completions: dict[int, int] = {}
    frees: dict[int, int] = {}
    notes: tuple[int, ...] = ()
    pause: tuple[int, int] | None = None
    cancel: int | None = None
    upgrade: int | None = None


CLEANING = 2_003  # how long a clean-up sleeps
