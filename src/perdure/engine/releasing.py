"""What the code gets for an event that it waited for: the same live as on replay.

Source: engine.md, "Live equals replay".
"""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.conversations.events import Bound, Event, MessageTaken, ReplyArrived, StepCompleted, StepFailed
from perdure.engine.effects import AwakeableEffect, CommandEffect
from perdure.engine.operation import Operation
from perdure.engine.outcomes import decode_error
from perdure.errors import KeyTaken, PayloadInvalid, TurnFailed
from perdure.errors import StepFailed as StepFailedError


def resolve(future: asyncio.Future[Any], operation: Operation, event: Event, *, value: Any, cause: BaseException | None, by: str) -> None:
    """Give the code what an event holds: a value, which is decoded unless it is known already, or an error with its `cause`.

    `by` is the module of the code, for the classes of errors.
    """
    match event:
        case StepCompleted():
            assert operation.known is not None, "a step has a function"
            future.set_result(operation.known.output.decode(event.output) if value is None else value)
        case StepFailed():
            error = decode_error(event.error, otherwise=StepFailedError, by=by)
            error.__cause__ = cause
            future.set_exception(error)
        case MessageTaken():
            future.set_result(operation.kinds[event.kind](event.payload) if value is None else value)
        case ReplyArrived():
            _replied(future, operation, event, by)
        case Bound() if event.owner:
            future.set_exception(KeyTaken(event.key, event.owner))
        case _:
            future.set_result(None)


def _replied(future: asyncio.Future[Any], operation: Operation, event: ReplyArrived, by: str) -> None:
    assert operation.decode is not None, "a reply is read by the one who asked"
    try:
        if event.outcome == "ok":
            future.set_result(operation.decode(event.response))
            return
        error: Exception = decode_error(event.response, otherwise=TurnFailed, by=by)
    except PayloadInvalid as unreadable:
        error = unreadable
    future.set_exception(error)
    if isinstance(operation.effect, AwakeableEffect | CommandEffect):
        future.exception()  # looked at: the code may never wait for it
