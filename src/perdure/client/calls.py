"""What a client asks for, written once for clients that wait and for those that do not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.commands.contract import CommandRetry
from perdure.errors import CommandCancelled, CommandExpired, CommandFailed, PayloadTooLarge, TurnFailed, UsageError
from perdure.headers import JSON_TYPE
from perdure.protocol.commands import CommandView, NewCommand, RetryPolicy, nothing
from perdure.protocol.messages import NewMessage, ReplyFailure, SealedReply, To
from perdure.protocol.payloads import Payload, payload_of, reader_of

T = TypeVar("T")
MILLISECOND = 1_000


def new_message(
    message: object, *, id: str, kind: str | None, to: To | None, source: str, headers: dict[str, str] | None, lasting: Lasting
) -> NewMessage:
    """Return a message as it is sent. Raises PayloadUnencodable, PayloadTooLarge, UsageError."""
    payload = JSON.encode(message)
    if len(payload) > limits.MESSAGE_MAX:
        raise PayloadTooLarge("message", size=len(payload), limit=limits.MESSAGE_MAX)
    return NewMessage(
        id=id,
        kind=_kind_of(message) if kind is None else kind,
        payload=msgspec.Raw(payload),
        to=to,
        source=source,
        headers=headers,
        keep_for_ms=milliseconds(lasting.keep_for, what="keep_for"),
        expires_after_ms=milliseconds(lasting.expires_after, what="expires_after"),
    )


class Lasting(msgspec.Struct, frozen=True, kw_only=True):
    """How long a message waits for whom."""

    keep_for: timedelta | None = None
    expires_after: timedelta | None = None


def _kind_of(message: object) -> str:
    config = getattr(type(message), "__struct_config__", None)
    if config is not None and config.tag is not None:
        return str(config.tag)
    if isinstance(message, dict | list | str | int | float | bool | None):
        raise UsageError("kind: plain data has none; say which kind of message it is with kind=…")
    return type(message).__name__


def milliseconds(duration: timedelta | None, *, what: str) -> int | None:
    """Return a duration in milliseconds, rounded up: what is not nothing stays something. Raises UsageError."""
    return None if duration is None else _whole(duration, what)


def micros(duration: timedelta, *, what: str) -> Micros:
    """Return a duration in microseconds, of whole milliseconds. Raises UsageError, which names `what`."""
    return _whole(duration, what) * MILLISECOND


def _whole(duration: timedelta, what: str) -> int:
    if not isinstance(duration, timedelta) or duration < timedelta(0):
        raise UsageError(f"{what}: expected a timedelta that is not negative, found {duration!r:.{limits.REPR_MAX}}")
    return -(-duration // timedelta(milliseconds=1))


def new_command(
    deployment: str,
    command: str,
    params: object,
    *,
    target: str | None,
    deadline: timedelta | None,
    delay: timedelta | None,
    priority: int,
    retry: CommandRetry | None,
) -> tuple[NewCommand, Payload | None]:
    """Return a command as it is sent, and its params when they are uploaded. Raises PayloadUnencodable, PayloadTooLarge, UsageError."""
    payload = payload_of(params, inline_max=limits.COMMAND_PARAMS_MAX)
    apart = len(payload.data) > limits.COMMAND_PARAMS_MAX or payload.content_type != JSON_TYPE
    if len(payload.data) > limits.BLOB_MAX:
        raise PayloadTooLarge("params", size=len(payload.data), limit=limits.BLOB_MAX)
    new = NewCommand(
        deployment=deployment,
        command=command,
        params=nothing() if apart else msgspec.Raw(payload.data),
        upload=apart,
        target=target,
        deadline_ms=milliseconds(deadline, what="deadline"),
        delay_ms=milliseconds(delay, what="delay") or 0,
        priority=priority,
        retry=None if retry is None else policy(retry),
    )
    return new, payload if apart else None


def policy(retry: CommandRetry) -> RetryPolicy:
    """Return a policy as it is sent."""
    return RetryPolicy(
        max_attempts=retry.max_attempts,
        initial_ms=round(retry.initial * 1_000),
        factor=retry.factor,
        maximum_ms=round(retry.maximum * 1_000),
        jitter=retry.jitter,
        give_up_on=list(retry.give_up_on),
    )


def result_of(view: CommandView, result: Any, *, apart: Payload | None = None) -> Any:
    """Return the result of a command that is over, read as a type; `apart` is the one that was not in the answer.

    Raises:
        CommandFailed, CommandExpired, CommandCancelled: it was not done.
        PayloadInvalid: the result cannot be read as that type.
    """
    if view.state == "SUCCEEDED":
        return reader_of(result)(Payload(bytes(view.result), JSON_TYPE) if apart is None else apart)
    kind = {"EXPIRED": CommandExpired, "CANCELLED": CommandCancelled}.get(view.state, CommandFailed)
    error = view.error
    if error is None:
        raise kind("failed")
    raise kind(error.code, error.message, msgspec.json.decode(error.details))


def value_of(reply: SealedReply, result: Any) -> Any:
    """Return what a sealed reply says, read as a type. Raises TurnFailed, PayloadInvalid."""
    if isinstance(reply, ReplyFailure):
        raise TurnFailed(f"{reply.error.name}: {reply.error.text}")
    return JSON.decoder(result)(bytes(reply.value))
