"""What a recorded event has to meet when the code runs again.

Source: engine.md, "The TurnLoop", replay checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from perdure.clock import Micros
from perdure.conversations.events import Bound, Event, MessageTaken, StepAttemptFailed, StepCompleted, StepFailed, TimerFired
from perdure.engine.operation import Kind, Operation

ADVICE: Final = "put the code back as it was until no turn is open on it"

_KIND_OF: Final[dict[type, Kind]] = {
    StepCompleted: "step",
    StepFailed: "step",
    StepAttemptFailed: "step",
    MessageTaken: "receive",
    Bound: "bind",
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
        case StepCompleted() | StepFailed() if event.input != operation.input:
            text = f"step {name!r} was recorded for {event.input}, the code calls {operation.input}"
        case _:
            return None
    return text
