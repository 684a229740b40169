"""The state of a turn.

Source: engine.md, "The TurnLoop".
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final

from perdure.clock import Micros
from perdure.codec import JSON
from perdure.conversations.events import Event
from perdure.engine.addressing import Request, TurnId
from perdure.engine.chance import Chance
from perdure.engine.effects import AwakeableEffect, CommandEffect
from perdure.engine.functions import StepFunction, known
from perdure.engine.loop import TurnLoop
from perdure.engine.operation import Input, Operation, Produced
from perdure.engine.replay import Replay
from perdure.messages.mail import Mail

_NONE: Final[frozenset[str]] = frozenset()


class TurnState:
    """What a turn is made of, and what the engine asks of it without moving it.

    Args:
        id: whose turn it is.
        now: the time of acceptance, where the turn's own time begins.
        recorded: the inputs that were recorded, with their times; empty for a new turn.
        effects_done: effects that were committed; as many are dropped on replay.
        fields: encodes the durable fields; `saved` is what was committed last, `changed` whether it differs from what the turn found.
        timers: what the store holds for it, by id with due times; None: what the code as it is now has asked for.
        mail: the process's mailbox window, shared with later turns.
        replies: letters of its mailbox that are replies, shared likewise.
        more: whether effects of the last committed quiescence are still to be committed.
        clock: the engine's clock.
        request: from a handler and its arguments to what a call of it sends.
    """

    # More than 30 attributes would cost a dictionary of 1.5 kB for each turn.
    __slots__ = (
        "__weakref__",
        "_again",
        "_answerable",
        "_blocked",
        "_cancel",
        "_chance",
        "_clock",
        "_dropped",
        "_inputs",
        "_lingering",
        "_mail",
        "_names",
        "_operations",
        "_replies",
        "_root",
        "_starts",
        "_unawaited",
        "_untils",
        "attributes",
        "attributes_found",
        "cancel_step",
        "cancelled",
        "decoder",
        "effects",
        "ending",
        "events",
        "id",
        "known",
        "leaving",
        "loop",
        "may_take",
        "module",
        "now",
        "once",
        "outlived",
        "produced",
        "read_log",
        "receives",
        "replay",
        "request",
        "running",
        "steps",
    )

    def __init__(
        self,
        id: TurnId,
        *,
        now: Micros,
        recorded: Collection[tuple[Micros, Event]] = (),
        effects_done: int = 0,
        changed: bool = False,
        fields: Callable[[], bytes] = bytes,
        saved: bytes | None = None,
        timers: Mapping[str, Micros] | None = None,
        mail: list[Mail] | None = None,
        replies: list[Mail] | None = None,
        more: bool = False,
        clock: Callable[[], Micros],
        request: Callable[[Callable[..., Any], tuple[Any, ...]], Request],
    ) -> None:
        self.id = id
        self.now = now
        self.loop = TurnLoop(self)  # type: ignore[abstract, arg-type]  # the whole turn can make timers; asyncio's own base class refuses what a loop lacks when it is used
        self.ending = False
        self.leaving = False
        self.steps = 0
        self.events = 0
        self._clock = clock
        self.replay = Replay(recorded, effects_done=effects_done, fields=fields, saved=saved, changed=changed, timers=timers, more=more)
        self._mail: list[Mail] = [] if mail is None else mail
        self._replies: list[Mail] = [] if replies is None else replies
        self._answerable: tuple[object, str] | None = None
        self._untils: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._inputs: list[Input] = []
        self._operations: dict[str, Operation] = {}
        self.receives: list[Operation] = []
        self._unawaited: dict[str, Operation] = {}
        self._starts: dict[str, Operation] = {}
        self.running: dict[str, Operation] = {}
        self._names: dict[str, int] = {}
        self._blocked = False
        self._again: list[Operation] = []
        self._cancel: str | None = None
        self._dropped: list[Operation] = []  # by a cancellation
        self.cancelled: str | None = None
        self._root: asyncio.Task[Any] | None = None
        self.effects = 0
        self.attributes_found: frozenset[str] = _NONE
        self.attributes: dict[str, bool] | None = None
        self.produced = Produced()
        self.cancel_step: Callable[[Operation], bool] = nobody
        self.may_take: Callable[[Operation], bool] = anybody
        self.read_log: Callable[..., Coroutine[Any, Any, list[Any]]] = nothing
        self.request: Callable[[Callable[..., Any], tuple[Any, ...]], Request] = request
        self.module = ""  # of the process type, whose import statements find the classes of recorded errors
        self.known: Callable[[Callable[..., Any]], StepFunction] = known
        self.decoder: Callable[[Any], Callable[[bytes], Any]] = JSON.decoder
        # What most turns never have is made when it is first asked for.
        self.once = False  # whether it has a step that runs at most once
        self.outlived = False  # whether the handler has ended, but threads of its steps go on
        self._chance: Chance | None = None
        self._lingering: dict[str, Operation] | None = None

    def begin(self, code: Coroutine[Any, Any, Any]) -> None:
        """Give the turn its code; nothing of it runs yet."""
        self._root = self.loop.create_task(code, context=contextvars.copy_context())

    # --- state, as the engine asks for it ---------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the handler has returned or raised."""
        return self._root is not None and self._root.done()

    @property
    def waiting(self) -> bool:
        """Whether only timers and mail can move it."""
        return not (self.running or self._starts or self.produced.binds or self._blocked or self._inputs or self._lingering)

    @property
    def steps_under_way(self) -> int:
        """The number of steps that were handed over and have not ended."""
        return len(self.running)

    @property
    def takes_mail(self) -> bool:
        """Whether a message or a reply could move it."""
        return bool(self.receives) or any(operation.kind == "reply" for operation in self._operations.values())

    @property
    def awaits(self) -> tuple[str, ...]:
        """The kinds that it would take out of the mailbox now."""
        return tuple(kind for operation in self.receives for kind in operation.kinds)

    @property
    def armed(self) -> list[str]:
        """The timers that the store holds for it."""
        return [
            operation.id for operation in self._operations.values() if operation.due is not None and operation.id not in self.produced.arm
        ]

    @property
    def waits_for(self) -> list[str]:
        """The ids of what the code waits for, in order."""
        return sorted(self._operations)

    @property
    def awaited(self) -> list[tuple[str, str]]:
        """Awakeables and commands that have not ended: their names and operations."""
        effects = (operation.effect for operation in [*self._operations.values(), *self._dropped])
        return [
            (effect.token if isinstance(effect, AwakeableEffect) else effect.command_id, effect.operation_id)
            for effect in effects
            if isinstance(effect, AwakeableEffect | CommandEffect)
        ]

    @property
    def due(self) -> dict[str, Micros]:
        """What somebody waits for with a timer, and when it is due."""
        return {operation.id: operation.due for operation in self._operations.values() if operation.due is not None}

    def expects(self, timer_id: str, due: Micros) -> bool:
        """Return whether somebody waits for the timer that is due then."""
        operation = self._operations.get(timer_id)
        return operation is not None and operation.due == due

    def runs(self, operation: Operation) -> bool:
        """Return whether this step is under way and somebody waits for it."""
        return self.running.get(operation.id) is operation

    def lingers(self, operation: Operation) -> bool:
        """Return whether this step was called off, but its thread goes on: the turn does not end before it."""
        return self._lingering is not None and self._lingering.get(operation.id) is operation

    def result(self) -> Any:
        """Return what the handler returned, or raise what it raised."""
        assert self._root is not None, "a turn without code has no result"
        return self._root.result()


def nobody(_operation: Operation) -> bool:
    """Stop a step, where nobody runs any."""
    return False


def anybody(_operation: Operation) -> bool:
    """Let a `receive` take whatever is there."""
    return True


async def nothing(*_arguments: Any) -> list[Any]:
    """Read a log, where nobody keeps any."""
    return []
