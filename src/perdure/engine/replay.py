"""What a recorded event has to meet when the code runs again.

Source: engine.md, "The TurnLoop", replay checks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import (
    Bound,
    Event,
    MessageTaken,
    Patched,
    ReplyArrived,
    Restarted,
    StepAttemptFailed,
    StepBegun,
    StepCompleted,
    StepFailed,
    TimerFired,
)
from perdure.engine.operation import Kind, Operation
from perdure.errors import NondeterministicTurn, PayloadInvalid

if TYPE_CHECKING:
    from perdure.engine.turn import Turn

ADVICE: Final = (
    "put the code back as it was until no turn is open on it, or let turns that were here before go the old way: `if self.patched(...)`"
)

_NOTHING: Final[deque[tuple[Micros, Event]]] = deque()  # of all turns that are not replayed: nobody adds to a record
_NONE: Final[frozenset[str]] = frozenset()
_KIND_OF: Final[dict[type, Kind]] = {
    StepCompleted: "step",
    StepFailed: "step",
    StepAttemptFailed: "step",
    StepBegun: "step",
    MessageTaken: "receive",
    Bound: "bind",
    ReplyArrived: "reply",
}


def mismatch(event: Event, at: Micros, operation: Operation | None, waiting: Iterable[str]) -> str | None:
    """Return in what the code differs from the record, or None.

    Args:
        event: what is recorded next.
        at: when it happened.
        operation: what the code waits for under the event's name.
        waiting: all that the code waits for.
    """
    name = getattr(event, "name", "")
    if operation is None:
        return f"recorded {name!r} was not reached; the code waits for {sorted(waiting)}"
    kind = _KIND_OF.get(type(event))
    if kind is not None and kind != operation.kind:
        return f"{name!r} was recorded as a {kind}, the code asks for a {operation.kind}"
    match event:
        case TimerFired() if operation.due is None:
            text = f"{name!r} was recorded with a timer, the code waits without one"
        # asyncio's timers have no names of their own: a new one may have taken the number of another.
        case TimerFired() if operation.is_anonymous and (operation.due or 0) > at:
            text = f"{name!r} was recorded as due by {at}, the code's is due at {operation.due}"
        case MessageTaken() if event.kind not in operation.kinds:
            text = f"{name!r} took a {event.kind!r}, the code asks for {sorted(operation.kinds)}"
        case Bound() if event.key != operation.key:
            text = f"{name!r} was recorded for the key {event.key!r}, the code asks for {operation.key!r}"
        case StepBegun() if not operation.is_at_most_once:
            text = f"step {name!r} was begun to run at most once and has no end, the code asks for it without at_most_once=True"
        case StepCompleted() | StepFailed() | StepBegun() if event.input != operation.input:
            text = f"step {name!r} was recorded for {event.input}, the code calls {operation.input}"
        case ReplyArrived() if event.input != operation.input:
            text = f"{name!r} was recorded for {event.input}, the code asks for {operation.input}"
        case _:
            return None
    return text


class Replay:
    """The record of a turn that was begun before, and the checks that its code does again what it did then.

    Attributes:
        rewrite: makes of fields as they were committed the bytes that the code of now writes for them.

    Args: as those of `Turn`.
    """

    def __init__(
        self,
        recorded: Collection[tuple[Micros, Event]],
        *,
        effects_done: int,
        fields: Callable[[], bytes],
        saved: bytes | None,
        changed: bool,
        timers: Mapping[str, Micros] | None,
        more: bool = False,
    ) -> None:
        self.recorded = deque(recorded) if recorded else _NOTHING
        self.active = changed or bool(self.recorded) or effects_done > 0 or bool(timers)
        self._changed = changed
        self.effects_done = effects_done
        self._more = more
        self._compared = False
        self._timers = timers
        self._armed_at_commit: dict[str, Micros] = {}
        self._fields = fields
        self._saved = saved
        self.rewrite: Callable[[bytes], bytes] = bytes
        self._answers = _NONE
        self._restarts = [event for _, event in self.recorded if isinstance(event, Restarted)]
        self._fresh = False
        self._called_off: dict[str, Operation] | None = None
        self._patches: dict[str, bool] = {}

    @property
    def copied(self) -> Restarted | None:
        """Where what the code does now was done for the first time, as long as it repeats what was copied from another turn."""
        return self._restarts[0] if self._restarts else None

    def copy_ends(self) -> None:
        """What was copied is repeated: from here on the code does what is its own."""
        self._restarts.pop(0)
        self._fresh = not self.recorded

    def leave(self) -> None:
        """The turn leaves memory: what is left of the record is not released."""
        self.recorded.clear()
        self._fields = self.rewrite = bytes

    def check(self, turn: Turn, event: Event, operations: Mapping[str, Operation]) -> Operation | None:
        """Return the operation that a recorded event belongs to; None when nobody waits for it, and that is right.

        Raises:
            NondeterministicTurn: the code does not wait for it.
        """
        name = getattr(event, "name", "")
        if isinstance(event, Patched):
            self._pass_patch(turn, event)
            return None
        operation = operations.get(name)
        if operation is None and self._called_off is not None and isinstance(event, StepCompleted | StepFailed):
            operation = self._called_off.get(name)  # its thread went on, and its end is in the record, but nobody waited for it
            if operation is not None and mismatch(event, turn.now, operation, operations) is None:
                return None
        if name in self._answers:
            self._answers -= {name}
            if operation is None:
                return None  # the answer to another key came first, and then nobody waited for this one
        if isinstance(event, StepBegun) and operation is not None and not operation.is_at_most_once and self._ends(event):
            return None  # it does not matter any more that it was begun
        difference = mismatch(event, turn.now, operation, operations)
        if difference is not None or operation is None:
            raise NondeterministicTurn(f"{_place(turn)}: {difference}; {ADVICE}")
        return operation

    def _ends(self, begun: StepBegun) -> bool:
        for _, event in self.recorded:
            if isinstance(event, StepCompleted | StepFailed) and event.name == begun.name:
                return True
            if isinstance(event, StepAttemptFailed) and event.name == begun.name and event.attempt == begun.attempt and not event.probe:
                return True
        return False

    def call_off(self, operation: Operation) -> None:
        """Nobody waits any more for an operation of the time that is recorded."""
        self._called_off = self._called_off or {}
        self._called_off[operation.id] = operation

    def patched(self, turn: Turn, name: str) -> bool:
        """Return whether the turn has a patch: not where it has been before without it, and one answer for its whole life."""
        if name not in self._patches:
            found = self._patch_here(turn, name)
            if found is None:
                turn.record(Patched(turn.id.message, name))
            self._patches[name] = found is not False
        return self._patches[name]

    def _patch_here(self, turn: Turn, name: str) -> bool | None:
        """Return whether the record holds the patch right here; None when nothing of this part of the turn is recorded.

        Between two other events stand the patches that the code asked for in between, in whichever order. Answers about keys that
        were asked for together are one record, and what the code made of the first one stands behind the last.
        """
        if not self.active:
            return None
        for position, (_, event) in enumerate(self.recorded):
            if isinstance(event, Bound):
                continue
            if not isinstance(event, Patched):
                break
            if event.name == name:
                del self.recorded[position]
                turn.events += 1
                return True
        return False

    def _pass_patch(self, turn: Turn, event: Patched) -> None:
        """The code does not ask for a recorded patch where it was: it has it for good, or asks later."""
        if self._patches.setdefault(event.name, True) is False:
            raise NondeterministicTurn(
                f"{_place(turn)}: patched({event.name!r}) was recorded here, the code asks for it earlier; "
                f"give the earlier place a patch with a name of its own"
            )

    @staticmethod
    def unreadable(turn: Turn, operation: Operation, error: PayloadInvalid) -> NondeterministicTurn:
        """Return the error for a record that the code as it is now cannot decode."""
        return NondeterministicTurn(f"{_place(turn)}: what {operation.id!r} recorded cannot be read any more: {error}; {ADVICE}")

    def compare(self, turn: Turn) -> None:
        """Where the record ends, the code has to stand as it stood at the last commit.

        That was made before the answers about the keys that it asked for, or after them: either is right.

        Raises:
            NondeterministicTurn: it stands elsewhere.
        """
        difference = None
        if not self._compared and len(self.recorded) <= self._answers_due(turn):
            difference = self._difference(turn)
            self._compared = difference is None
            self._armed_at_commit = dict(turn.produced.arm)
        if not self.recorded:
            if difference is not None:
                raise NondeterministicTurn(f"{turn.id}: {difference}; {ADVICE}")
            self._end(turn)

    def finish(self, turn: Turn) -> None:
        """The handler has ended. Raises NondeterministicTurn when the record goes on."""
        names = [getattr(event, "name", "") for _, event in self.recorded if not isinstance(event, Patched)]
        if not self._answers.issuperset(names):
            raise NondeterministicTurn(f"{turn.id}: the handler ended, but the record goes on with {names[0]!r}; {ADVICE}")
        if turn.effects < self.effects_done:
            raise NondeterministicTurn(
                f"{turn.id}: {self.effects_done} sends, tags and the like were committed, the code asks for {turn.effects}; {ADVICE}"
            )
        if self.active:
            if not self._compared:
                self._armed_at_commit = dict(turn.produced.arm)
            self._end(turn)

    def _answers_due(self, turn: Turn) -> int:
        """Return how many of the records to come are answers about keys that the code has asked for by now.

        They were recorded with the commit that asked, but the code went on only after it.
        """
        if not (self.recorded and isinstance(self.recorded[0][1], Bound)):
            self._answers = _NONE
        elif not self._answers:
            self._answers = frozenset(operation_id for operation_id, _ in turn.produced.binds)
        return len(self._answers)

    def _difference(self, turn: Turn) -> str | None:
        if self._fresh and not self.effects_done and not self._changed:  # nothing was committed since the copy was made
            return None
        # Of many effects only the first chunks may have been committed: the code asks for the others now.
        if turn.effects < self.effects_done or (turn.effects > self.effects_done and not self._more):
            return f"{self.effects_done} sends, tags and the like were committed up to here, the code asks for {turn.effects}"
        saved = self._saved
        if saved is not None and (fields := self._fields()) != saved and fields != self.rewrite(saved):
            return f"the durable fields were committed as {_text(saved)}, the code makes {_text(fields)} of them"
        return None

    def _end(self, turn: Turn) -> None:
        """From here on, what the code makes has to be committed; of timers, what the store does not hold already."""
        self.active = False
        stored = self._armed_at_commit if self._timers is None else self._timers
        wanted = turn.produced.arm
        turn.produced.arm = {timer_id: due for timer_id, due in wanted.items() if stored.get(timer_id) != due}
        turn.produced.disarm = [timer_id for timer_id in stored if timer_id not in wanted]


def _place(turn: Turn) -> str:
    return f"{turn.id}, event {turn.events} of the turn"


def _text(fields: bytes) -> str:
    text = fields.decode(errors="replace")
    return text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…"
