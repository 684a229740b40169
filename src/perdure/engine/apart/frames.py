"""What an engine and the interpreter of a version tell one another, and its bytes.

A frame is its length in four bytes, and MessagePack. What the engine writes is trusted by the child; what the child writes is
read as these types and nothing else, so that it can harm its own processes only.

Source: docs/isolation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.engine.effects import (
    AskEffect,
    AttributeEffect,
    AwakeableEffect,
    CommandEffect,
    Effect,
    LogEffect,
    SendEffect,
    StopCommandEffect,
    TagEffect,
    UnbindEffect,
    UntagEffect,
)
from perdure.engine.export import ProcessExport
from perdure.engine.flush import Finish
from perdure.engine.refusals import Failed
from perdure.engine.trying import Tried
from perdure.engine.upcasting import Leads
from perdure.flows.writes import Limits
from perdure.identity import encode_identifier
from perdure.messages.mail import Mail

_SIZE: Final = 4


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True, gc=False):
    pass


# --- from the engine to the child ----------------------------------------------------------------------------------


class Welcome(_Frame, frozen=True):
    """The first frame: which version the child is for. `runs`: the engine's clock goes by itself; `asks`: its right to begin steps may end."""

    manifest: bytes
    folder: str
    parent: int
    seed: bytes
    threads: int
    now: Micros
    runs: bool
    asks: bool


class Open(_Frame, frozen=True):
    """A turn to open, as `Resident.open` gets it."""

    tenant: str
    process: str
    process_type: str
    ref: str
    kind: str
    payload: bytes
    at: Micros
    found: bytes | None
    saved: bytes | None
    attributes: list[str] = []
    recorded: list[tuple[Micros, bytes]] = []
    timers: dict[str, Micros] | None = None
    effects_done: int = 0
    more: bool = False


class Post(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is in the window: the numbers of the letters, and of replies; those that are new, in full; and who may take what was passed over."""

    letters: list[int]
    replies: list[int]
    new: list[Mail]
    passed_over: bool = False
    passed: list[str] = []
    absent: list[str] = []


class Advance(_Frame, frozen=True):
    """Let a turn go on, and say what it has made: `Advanced`."""

    turn: int
    now: Micros
    opening: Open | None = None
    cancel: str | None = None
    post: Post | None = None
    rung: list[str] = []


class TakeBound(_Frame, frozen=True):
    """How committed requests for keys have ended. Answered by `Taken`."""

    turn: int
    now: Micros
    owners: list[tuple[str, str, str]]


class Ask(_Frame, frozen=True):
    """A query, and its arguments as JSON. `named`: they were given as texts, to be decoded by its annotations. Answered by `Answered`."""

    process_type: str
    query: str
    fields: bytes | None
    arguments: list[bytes]


class Begin(_Frame, frozen=True):
    """Run a step that was handed over."""

    turn: int
    step: str
    now: Micros


class Leave(_Frame, frozen=True):
    """A turn leaves memory."""

    turn: int


class Ring(_Frame, frozen=True):
    """An alarm of the child's is due."""

    alarm: int
    now: Micros


class Allowed(_Frame, frozen=True):
    """Whether an effect may begin at this moment."""

    question: int
    allowed: bool


class Entries(_Frame, frozen=True):
    """Entries of a log, or why they cannot be read."""

    question: int
    rows: list[bytes] = []
    failed: str = ""


class TryProcess(_Frame, frozen=True):
    """Try a process, as `Code` says. Answered by `ProcessTried`."""

    question: int
    exported: ProcessExport
    rewrites: bool


class ReadMessage(_Frame, frozen=True):
    """Read a message, as `Code` says. Answered by `MessageRead`."""

    question: int
    process_type: str
    kind: str
    payload: bytes
    awaited: bool


class SayLeads(_Frame, frozen=True):
    """Say where upcasters lead. Answered by `SaysLeads`."""

    question: int


class Stop(_Frame, frozen=True):
    """End, when the `finally` of the steps has run."""


# --- from the child to the engine ----------------------------------------------------------------------------------


class SaysHandler(_Frame, frozen=True):
    """A handler, as the engine has to know it."""

    kind: str
    on_error: str


class SaysType(_Frame, frozen=True):
    """A process type, as the engine has to know it."""

    name: str
    durable: bool
    initial: bytes
    handlers: list[SaysHandler]
    queries: list[str]
    limits: Limits | None = None
    priority: int = 0


class Ready(_Frame, frozen=True):
    """The package is imported."""

    perdure: str
    found: dict[str, str]
    types: list[SaysType]


class Refused(_Frame, frozen=True):
    """The package cannot be used."""

    failed: Failed


class Made(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is to be committed; mail by its numbers."""

    events: list[tuple[Micros, bytes]]
    effects: list[tuple[str, msgspec.Raw]]
    arm: dict[str, Micros]
    disarm: list[str]
    taken: list[int]
    answers: dict[str, bytes]
    replies: list[int]
    undecodable: list[tuple[int, str]]
    binds: list[tuple[str, str]]


class Moved(_Frame, frozen=True):
    """What has become of steps: those that run no more, and those to begin again. `pump`: the turn can go on."""

    turn: int
    ended: list[str] = []
    again: list[str] = []
    pump: bool = False


class Advanced(_Frame, frozen=True):
    """Where a turn stands. `gone`: mail that it has taken out of its window; `stuck`: the code does not fit its record."""

    now: Micros = 0
    effects: int = 0
    steps: int = 0
    events: int = 0
    waiting: bool = False
    takes_mail: bool = False
    outlived: bool = False
    stuck: tuple[str, str] | None = None
    fields: bytes | None = None
    finish: Finish | None = None
    attributes: list[str] | None = None
    armed: list[str] = []
    awaited: list[tuple[str, str]] = []
    receives: list[tuple[str, list[str], bool]] = []
    due: dict[str, Micros] = {}
    running: list[str] = []
    gone: list[int] = []
    made: Made | None = None
    starts: list[str] = []
    ended: list[str] = []


class Taken(_Frame, frozen=True):
    """The answers about keys were taken in."""

    running: list[str] = []
    ended: list[str] = []


class Answered(_Frame, frozen=True):
    """What a query has returned, as JSON, or what it raised, as a step records it."""

    data: bytes = b""
    error: bytes | None = None


class Unsure(_Frame, frozen=True):
    """A step of a turn was not begun, for it was not allowed any more."""

    turn: int


class SetAlarm(_Frame, frozen=True):
    """Ring when it is that late."""

    alarm: int
    when: Micros


class DropAlarm(_Frame, frozen=True):
    """Do not ring."""

    alarm: int


class MayBegin(_Frame, frozen=True):
    """Ask whether an effect of a turn may begin."""

    question: int
    turn: int


class ReadLog(_Frame, frozen=True):
    """Ask for entries of a log of a turn's process."""

    question: int
    turn: int
    name: str
    after: int
    length: int
    limit: int


class ProcessTried(_Frame, frozen=True):
    """What became of a process that was tried."""

    question: int
    tried: Tried


class MessageRead(_Frame, frozen=True):
    """Why a message cannot be read; empty when it can."""

    question: int
    unreadable: str


class SaysLeads(_Frame, frozen=True):
    """Where upcasters lead, by type."""

    question: int
    leads: dict[str, Leads]


class TryFailed(_Frame, frozen=True):
    """The code has raised where no handler may."""

    question: int
    text: str


Question = TryProcess | ReadMessage | SayLeads
Answer = ProcessTried | MessageRead | SaysLeads | TryFailed
Down = Welcome | Advance | TakeBound | Ask | Begin | Leave | Ring | Allowed | Entries | Question | Stop
Up = Ready | Refused | Advanced | Taken | Answered | Moved | Unsure | SetAlarm | DropAlarm | MayBegin | ReadLog | Answer
Reply = Advanced | Taken | Answered

_encode: Final = msgspec.msgpack.Encoder(enc_hook=encode_identifier).encode
read_down: Final = msgspec.msgpack.Decoder(Down).decode
read_up: Final = msgspec.msgpack.Decoder(Up).decode
_EFFECTS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    kind.__name__: msgspec.msgpack.Decoder(kind)
    for kind in (
        AskEffect,
        AttributeEffect,
        AwakeableEffect,
        CommandEffect,
        LogEffect,
        SendEffect,
        StopCommandEffect,
        TagEffect,
        UnbindEffect,
        UntagEffect,
    )
}


class FrameTooLarge(Exception):
    """A frame cannot be sent: what is in it is larger than anything that one is made for."""


def framed(frame: Down | Up) -> bytes:
    """Return the bytes of a frame. Raises FrameTooLarge."""
    data = _encode(frame)
    if len(data) + _SIZE > limits.APART_FRAME_MAX:
        raise FrameTooLarge(f"{type(frame).__name__}: {len(data):,} bytes, the limit is {limits.APART_FRAME_MAX:,}")
    return len(data).to_bytes(_SIZE) + data


def effects_out(effects: list[Any]) -> list[tuple[str, msgspec.Raw]]:
    """Return effects with the names of their classes."""
    return [(type(effect).__name__, msgspec.Raw(_encode(effect))) for effect in effects]


def effects_in(effects: list[tuple[str, msgspec.Raw]]) -> list[Effect]:
    """Return the effects that were written so. Raises KeyError, msgspec.ValidationError."""
    return [_EFFECTS[name].decode(data) for name, data in effects]


class Parts:
    """Bytes as they come, and the frames in them."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def put(self, data: bytes) -> None:
        """Take in what has come."""
        self._data += data

    def frames(self) -> Iterator[bytes]:
        """Yield the frames that are whole. Raises ValueError for one that is too large to be one."""
        while len(self._data) >= _SIZE:
            end = _SIZE + int.from_bytes(self._data[:_SIZE])
            if end > limits.APART_FRAME_MAX:
                raise ValueError(f"a frame of {end:,} bytes, the limit is {limits.APART_FRAME_MAX:,}")
            if len(self._data) < end:
                return
            frame = bytes(self._data[_SIZE:end])
            del self._data[:end]
            yield frame
