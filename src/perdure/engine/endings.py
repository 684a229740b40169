"""How a step ends, as a turn records it, and how a turn whose handler raised something."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import Event, StepAttemptFailed, StepCompleted
from perdure.conversations.tables import ProcessStatus
from perdure.engine.apart.remote import AnyHandler, AnyTurn, AnyType, RemoteTurn
from perdure.engine.app import HandlerOf, ProcessType
from perdure.engine.cancelling import cancelled_note
from perdure.engine.flush import HANDLER_FAILED, Finish
from perdure.engine.notes import Note, TurnStarted
from perdure.engine.operation import Operation
from perdure.engine.outcomes import encode_error, error_text
from perdure.errors import ProcessCancelled, TurnFailed
from perdure.messages.mail import Mail

if TYPE_CHECKING:
    from perdure.engine.turn import Turn

logger = logging.getLogger("perdure.engine")


def completed(data: bytes, turn: Turn, operation: Operation) -> Event:
    """Return the record of a step that returned."""
    turn.steps += 1
    return StepCompleted(turn.id.message, turn.steps - 1, data, operation.id, operation.input)


def attempt_failed(error: bytes, due: Micros, turn: Turn, operation: Operation) -> Event:
    """Return the record of an attempt after which another one is due."""
    return StepAttemptFailed(turn.id.message, operation.id, operation.attempt, error, due)


def runs_already(next: Mail | None, note: Note) -> bool:
    """Return whether the owner runs that turn ahead of the commit which opens it."""
    return next is not None and isinstance(note, TurnStarted) and note.ref == next.ref


def failed(handler: AnyHandler, error: BaseException, *, cancelled: bool = False) -> Finish:
    """Return how a turn ends whose handler raised `error`; after a cancellation no process goes on."""
    status, reason = {
        "fail_turn": (ProcessStatus.IDLE, ""),
        "fail_process": (ProcessStatus.FAILED, ""),
        "park": (ProcessStatus.PAUSED, HANDLER_FAILED),
    }[handler.on_error]
    if cancelled and status == ProcessStatus.IDLE:
        status = ProcessStatus.ENDED
    response = encode_error(error)
    text = error_text(response)[: limits.ERROR_TEXT_MAX]
    return Finish(outcome="error", response=response, root_type="", status=status, text=text, reason=reason)


def ending(turn: AnyTurn, handler: AnyHandler | None, made: AnyType, failure: BaseException | None) -> Finish:
    """Return how a turn ends whose handler is done, or that has failed."""
    if isinstance(turn, RemoteTurn):
        assert turn.finish is not None, "its child has told how it ends"
        return turn.finish
    assert isinstance(handler, HandlerOf), "a turn has a handler"
    assert isinstance(made, ProcessType), "which is of its type"
    data, error = b"null", failure
    if error is None:
        data, error = _outcome(turn, handler)
    text = "" if turn.cancelled is None else cancelled_note(turn.cancelled)
    if error is None:
        ended = made.is_function or turn.ending or turn.cancelled is not None
        status = ProcessStatus.ENDED if ended else ProcessStatus.IDLE
        root_type = "" if handler.result_type is None else handler.result_type.hash
        return Finish(outcome="ok", response=data, root_type=root_type, status=status, text=text)
    if isinstance(error, ProcessCancelled):
        return Finish(outcome="error", response=encode_error(error), root_type="", status=ProcessStatus.ENDED, text=text)
    logger.info("%s: the handler failed", turn.id, exc_info=error)
    return failed(handler, error, cancelled=turn.cancelled is not None)


def _outcome(turn: Turn, handler: HandlerOf) -> tuple[bytes, BaseException | None]:
    try:
        value = turn.result()
        forgotten = turn.forgotten()
        if forgotten is not None:
            return b"", forgotten
        return handler.output.record(value, what="handler", name=handler.function.__qualname__, limit=limits.RESULT_MAX)[0], None
    except asyncio.CancelledError:
        if turn.cancelled is not None:
            return b"", ProcessCancelled(f"{turn.id}: {cancelled_note(turn.cancelled)}")
        return b"", TurnFailed(f"{turn.id}: the handler was cancelled from within")
    except BaseException as raised:  # noqa: BLE001  # whatever the handler raised is its outcome
        return b"", raised


async def raising(error: Exception) -> None:
    """Be the code of a turn whose message cannot be read."""
    raise error
