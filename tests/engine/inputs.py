"""What a turn is told of the ends of its steps and timers."""

from __future__ import annotations

from typing import Any

from perdure.clock import Micros
from perdure.conversations.events import (
    Event,
    StepAttemptFailed,
    StepCompleted,
    StepFailed,
    TimerFired,
)
from perdure.engine.operation import Input, Operation
from perdure.engine.outcomes import encode_error
from perdure.engine.turn import Turn


def completed(operation_id: str, data: bytes, value: Any = None) -> Input:
    def make(turn: Turn, operation: Operation) -> Event:
        turn.steps += 1
        return StepCompleted(turn.id.message, turn.steps - 1, data, operation.id, operation.input)

    return Input(operation_id, make, value)


def failed(operation_id: str, error: BaseException) -> Input:
    data = encode_error(error)
    return Input(operation_id, lambda turn, operation: StepFailed(turn.id.message, operation.id, operation.input, data), None, error)


def attempt_failed(operation_id: str, error: BaseException, due: Micros) -> Input:
    data = encode_error(error)
    return Input(operation_id, lambda turn, operation: StepAttemptFailed(turn.id.message, operation.id, operation.attempt, data, due))


def fired(timer_id: str) -> Input:
    return Input(timer_id, lambda turn, operation: TimerFired(turn.id.message, operation.id))
