"""What a turn waits for, what happens to it, and what it makes."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from perdure.clock import SECOND, Micros
from perdure.conversations.events import Event, StepFailed
from perdure.engine.effects import StopCommandEffect
from perdure.engine.functions import StepFunction
from perdure.engine.outcomes import encode_error
from perdure.engine.retry import Retry
from perdure.errors import StepOutcomeUnknown
from perdure.messages.mail import Mail

if TYPE_CHECKING:
    from perdure.engine.turn import Turn

Kind = Literal["step", "timer", "receive", "bind", "reply"]


class StepOptions:
    """What a step is asked for beyond a plain one, and how far that has come.

    `begun` is the number of the last attempt whose start is recorded; `unknown` says that how that one ended is not
    known, so that what runs next is the probe; `probes` is how often that has failed.

    Args: as those of `Process.step`; `timeout` in microseconds.
    """

    __slots__ = ("abandon", "at_most_once", "begun", "probe", "probes", "timeout", "unknown")

    def __init__(
        self,
        *,
        at_most_once: bool = False,
        probe: Callable[..., Any] | None = None,
        timeout: Micros | None = None,
        abandon: bool = False,
    ) -> None:
        self.at_most_once = at_most_once
        self.probe = probe
        self.timeout = timeout
        self.abandon = abandon
        self.begun = 0
        self.unknown = False
        self.probes = 0


class Operation(msgspec.Struct, eq=False):
    """Something durable that the code waits for."""

    id: str
    kind: Kind
    future: asyncio.Future[Any] | None = None
    call: Coroutine[Any, Any, Any] | None = None
    function: Callable[..., Any] | None = None  # of a step; of a timer, what it rings
    arguments: tuple[Any, ...] = ()
    input: str = ""
    known: StepFunction | None = None
    retry: Retry | None = None
    options: StepOptions | None = None
    thread: Future[Any] | None = None  # where a plain function runs
    attempt: int = 1
    context: contextvars.Context | None = None
    due: Micros | None = None
    kinds: dict[str, Callable[[bytes], Any]] = {}
    where: Callable[[Any], bool] | None = None
    key: str = ""
    effect: Any = None  # what asks for a reply
    decode: Callable[[bytes], Any] | None = None

    @property
    def is_at_most_once(self) -> bool:
        """Whether it is a step whose start is recorded before it runs."""
        return self.options is not None and self.options.at_most_once

    @property
    def outlives_its_caller(self) -> bool:
        """Whether it is a plain function whose outcome counts also when nobody waits for it any more."""
        if self.options is not None and (self.options.abandon or self.options.unknown):
            return False
        return self.known is not None and not self.known.is_async

    @property
    def is_anonymous(self) -> bool:
        """Whether it is a timer of asyncio's own."""
        return self.kind == "timer" and self.function is not None


class Input(msgspec.Struct, frozen=True):
    """One thing that happened. `value` is what the code gets when it is known already; `cause`, the original exception."""

    operation_id: str
    make: Callable[[Turn, Operation], Event]
    value: Any = None
    cause: BaseException | None = None


def step_failed(operation: Operation, error: BaseException, cause: BaseException | None = None) -> Input:
    """Return what a turn has to be told of a step that failed for good. Live, the code finds `cause` behind the error."""
    data = encode_error(error)

    def make(turn: Turn, asked: Operation) -> Event:
        return StepFailed(turn.id.message, asked.id, asked.input, data)

    return Input(operation.id, make, None, cause or error)


def outcome_unknown(turn: Turn, operation: Operation, why: str) -> StepOutcomeUnknown:
    """Return the error of a step that was begun, when nobody will find out how it ended."""
    return StepOutcomeUnknown(f"{turn.id}: step {operation.id!r} was begun and may have happened: {why}; it is not run again")


class Produced(msgspec.Struct):
    """What the code has made since the last quiescence that had something to commit."""

    events: list[tuple[Micros, bytes]] = []
    effects: list[Any] = []
    arm: dict[str, Micros] = {}
    disarm: list[str] = []
    taken: list[Mail] = []
    answers: dict[str, bytes] = {}  # by the reference of a taken message
    replies: list[Mail] = []  # replies that came, whether somebody waited for them or not
    undecodable: list[tuple[Mail, str]] = []
    binds: list[tuple[str, str]] = []
    starts: list[Operation] = []

    def __bool__(self) -> bool:
        """Whether there is anything to commit. Starts alone need no commit."""
        return bool(self.events or self.effects or self.arm or self.disarm or self.taken or self.replies or self.undecodable or self.binds)

    @property
    def stops(self) -> list[Any]:
        """Those of the effects that a failure does not take back: nobody waits for these commands any more."""
        return [effect for effect in self.effects if isinstance(effect, StopCommandEffect)]


class DurableTimer(asyncio.TimerHandle):
    """What asyncio's constructs hold of a durable timer."""

    def __init__(self, turn: Turn, operation: Operation, due: Micros) -> None:
        self._turn = turn
        self._operation = operation
        self._due = due
        self._called_off = False

    def cancel(self) -> None:
        """Call it off."""
        self._called_off = True
        self._turn.abandon(self._operation)

    def cancelled(self) -> bool:
        """Return whether it was called off."""
        return self._called_off

    def when(self) -> float:
        """Return when it is due, in the loop's seconds."""
        return self._due / SECOND
