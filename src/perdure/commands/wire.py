"""Commands as they go over the wire.

Source: commands.md.
"""

from __future__ import annotations

from typing import Final

from perdure.blob import Blob
from perdure.clock import Micros
from perdure.commands.contract import Body, CommandOutcome, Failed, Stopped, Succeeded
from perdure.errors import UsageError
from perdure.protocol.commands import BlobRef, DidIt, DidNot, Outcome, StoppedIt

_NOTHING: Final = b"null"


def outcome_of(said: Outcome) -> CommandOutcome:
    """Return the outcome of an attempt that a worker or an endpoint tells. Raises UsageError."""
    match said:
        case DidIt(result_blob=BlobRef() as ref):
            if bytes(said.result) != _NOTHING:
                raise UsageError("outcome: expected `result` or `result_blob`, found both")
            return Succeeded(result=Blob(sha256=ref.sha256, size=ref.size, content_type=ref.content_type))
        case DidIt():
            return Succeeded(result=bytes(said.result))
        case DidNot():
            details = bytes(said.details)
            return Failed(code=said.code, message=said.message, details=None if details == _NOTHING else details, retryable=said.retryable)
        case StoppedIt():
            return Stopped(message=said.message)


def ref_of(body: Body | None) -> BlobRef | None:
    """Return the blob that a body is; None for what is inline."""
    return BlobRef(sha256=body.sha256, size=body.size, content_type=body.content_type) if isinstance(body, Blob) else None


def left_ms(until: Micros | None, now: Micros) -> int | None:
    """Return the milliseconds until an instant, 0 when it has passed."""
    return None if until is None else max(0, until - now) // 1_000
