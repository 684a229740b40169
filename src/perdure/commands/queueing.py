"""What follows from a command's row: its place in the queue, what is due for it, its history, and its end.

Every change of a command goes through `save`, so that none of these can be forgotten.

Source: commands.md, "One transaction", "Ready index", "Retry policy as data".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from perdure import limits
from perdure.blob import Blob, Holder, blob_response, inline_response
from perdure.clock import Micros
from perdure.commands.contract import CommandEnd, CommandError, CommandRetry, DeploymentModel
from perdure.commands.states import TERMINAL, CommandState, can_transition
from perdure.commands.tables import (
    BODY,
    COMMAND,
    COMMAND_EVENT,
    DUE,
    PUSH_READY,
    READY,
    BodyRow,
    CommandEventRow,
    CommandRow,
    DueRow,
    ReadyRow,
)
from perdure.core.table import Key
from perdure.core.view import View
from perdure.errors import CommandNotFound, IllegalTransition, StaleLease

replace = msgspec.structs.replace
PARAMS: Final = "params"
RESULT: Final = "result"
DONE: Final = "ok"
NOT_DONE: Final = "error"
_decode_retry: Final = msgspec.json.Decoder(CommandRetry).decode
_decode_error: Final = msgspec.json.Decoder(CommandError).decode
_ENDS: Final = frozenset({"succeeded", "failed", "expired", "cancelled"})
_CHANCES: Final = 2**64


class End(msgspec.Struct, frozen=True):
    """The end of a command: the `response` is what whoever waits for it gets."""

    tenant_id: str
    command_id: str
    outcome: Literal["ok", "error"]
    response: bytes


Ended = Callable[[View, End], None]
"""Called in the transaction that ends a command."""


def nobody(_view: View, _end: End) -> None:
    """Tell nobody: the registry alone does not know who waits."""


class Apart(NamedTuple):
    """What keeps the blobs that commands refer to.

    `refer` is called in the transaction that gives a command its params or its result, and raises BlobNotFound when there is
    no such blob; `let_go` in the one that removes them.
    """

    refer: Callable[[View, Holder, Blob], None]
    let_go: Callable[[View, Holder, Blob], None]


def _nothing(_view: View, _holder: Holder, _blob: Blob) -> None:
    """Keep nothing: the registry alone does not know where blobs are."""


NOTHING_APART: Final = Apart(_nothing, _nothing)


def blob_of(body: BodyRow) -> Blob | None:
    """Return the blob that params or a result are; None when they are inline."""
    return None if body.data is not None else Blob(sha256=body.sha256, size=body.size, content_type=body.content_type)


def holder_of(key: Key[BodyRow]) -> Holder:
    """Return who refers to the blob that params or a result are."""
    return Holder(*map(str, key.parts))


def put_body(view: View, key: Key[BodyRow], body: BodyRow, *, apart: Apart) -> None:
    """Store params or a result. Raises BlobNotFound."""
    assert view.get(key) is None, f"{key.parts[1]!s} has its {key.parts[2]!s} once"
    view.insert(key, body)
    if (blob := blob_of(body)) is not None:
        apart.refer(view, holder_of(key), blob)


def queue_topic(tenant_id: str, deployment_id: str, target: str) -> str:
    """Return the topic that is signalled when a command of this queue may be leased."""
    return f"commands/{tenant_id}/{deployment_id}\n{target}"


def command_topic(key: Key[CommandRow]) -> str:
    """Return the topic that is signalled when a command is over."""
    return f"command/{key.parts[0]!s}/{key.parts[1]!s}"


PUSH_TOPIC: Final = "commands-push"
"""Signalled when a command may be sent, and when an endpoint has changed."""
DUE_TOPIC: Final = "commands-due"
"""Signalled when something is due earlier than whoever looks after that may know."""


# --- one command ---------------------------------------------------------------------------------------


def present(view: View, key: Key[CommandRow]) -> CommandRow:
    """Return a command's row. Raises CommandNotFound."""
    row = view.get(key)
    if row is None:
        raise no_command(key)
    return row


def no_command(key: Key[CommandRow]) -> CommandNotFound:
    """Return the error for a command that is not there."""
    return CommandNotFound(f"command {key.parts[1]!r}: there is none in tenant {key.parts[0]!s}")


def held_by(key: Key[CommandRow], row: CommandRow, token: int) -> None:
    """Refuse whoever has not got a command now. Raises StaleLease."""
    if row.holder and row.token == token:
        return
    if row.state in TERMINAL:
        why = f"it is {row.state} already"
    elif row.holder:
        why = f"it has been given out again since, to {row.worker or 'somebody'} with token {row.token}"
    else:
        why = "its lease has ended, and nobody has it"
    raise StaleLease(f"command {key.parts[1]!s}: token {token} is not the present one: {why}; stop working on it")


def save(view: View, key: Key[CommandRow], before: CommandRow | None, after: CommandRow) -> CommandRow:
    """Write a command's row with the rows that follow from it, and return it as written."""
    after = replace(after, due_at=_due(after))
    if before is None:
        view.insert(key, after)
    else:
        view.update(key, after)
    _requeue(view, key, before, after)
    _set_due(view, key, before, after)
    return after


def noted(view: View, key: Key[CommandRow], row: CommandRow, kind: str, *, actor: str = "", detail: str = "") -> CommandRow:
    """Append to a command's history and return its row, to be saved. Beyond its limit, only how it ends is noted."""
    if row.events >= limits.COMMAND_EVENTS_MAX and kind not in _ENDS:
        return row
    event = CommandEventRow(view.now, kind, row.attempt, actor, detail)
    view.insert(COMMAND_EVENT.key(*key.parts, row.events), event)
    return replace(row, events=row.events + 1)


def _due(row: CommandRow) -> Micros | None:
    if row.state in TERMINAL:
        return None
    times = [row.deadline, row.lease_expires_at]
    if row.state == CommandState.PENDING and not row.ready:
        times.append(row.available_at)
    return min((at for at in times if at is not None), default=None)


def _requeue(view: View, key: Key[CommandRow], before: CommandRow | None, after: CommandRow) -> None:
    was = None if before is None or not before.ready else _ready_key(key, before)
    now = _ready_key(key, after) if after.ready else None
    if was == now:
        return
    if was is not None:
        assert view.get(was) is not None, f"{key.parts[1]!s} is ready and in the queue"
        view.delete(was)
    if now is not None:
        assert view.get(now) is None, f"{key.parts[1]!s} was not in the queue"
        view.insert(now, ReadyRow(after.name))
        pushed = after.model == DeploymentModel.PUSH
        view.signal(PUSH_TOPIC if pushed else queue_topic(str(key.parts[0]), after.deployment_id, after.target))


def _ready_key(key: Key[CommandRow], row: CommandRow) -> Key[ReadyRow]:
    tenant_id, command_id = key.parts
    if row.model == DeploymentModel.PUSH:
        return PUSH_READY.key(tenant_id, row.deployment_id, row.endpoint, row.priority, row.available_at, row.tick, command_id)
    return READY.key(tenant_id, row.deployment_id, row.target, row.priority, row.available_at, row.tick, command_id)


def _set_due(view: View, key: Key[CommandRow], before: CommandRow | None, after: CommandRow) -> None:
    was, now = None if before is None else before.due_at, after.due_at
    if was == now:
        return
    if was is not None:
        old = DUE.key(was, *key.parts)
        assert view.get(old) is not None, f"{key.parts[1]!s} is due at {was}"
        view.delete(old)
    if now is not None:
        new = DUE.key(now, *key.parts)
        assert view.get(new) is None, f"{key.parts[1]!s} was not due at {now}"
        view.insert(new, DueRow(after.deployment_id, after.target))
        if after.state == CommandState.PENDING and not after.ready:  # who waits at the queue has to know until when
            view.signal(queue_topic(str(key.parts[0]), after.deployment_id, after.target))
        if was is None or now < was:
            view.signal(DUE_TOPIC)


# --- what happens to one --------------------------------------------------------------------------------


def check_transition(key: Key[CommandRow], row: CommandRow, state: CommandState) -> None:
    """Refuse what the table of transitions does not allow. Raises IllegalTransition."""
    if not can_transition(CommandState(row.state), state):
        raise IllegalTransition(f"command {key.parts[1]!s}: it is {row.state}, and cannot become {state}")


def make_ready(view: View, row: CommandRow, *, at: Micros) -> CommandRow:
    """Return a row that waits for a worker, from `at` on."""
    ready = int(at <= view.now)
    return replace(row, state=CommandState.PENDING, holder=0, lease_expires_at=None, available_at=at, ready=ready)


def over(
    view: View,
    key: Key[CommandRow],
    row: CommandRow,
    state: CommandState,
    *,
    ended: Ended,
    error: CommandError | None = None,
    body: BodyRow | None = None,
    apart: Apart = NOTHING_APART,
) -> CommandRow:
    """Return the row of a command that ends now, to be saved; store its result, and tell whoever waits for it."""
    tenant_id, command_id = map(str, key.parts)
    if body is not None:
        put_body(view, BODY.key(tenant_id, command_id, RESULT), body, apart=apart)
    data = None if error is None else msgspec.json.encode(error)
    row = replace(
        row,
        state=state,
        holder=0,
        lease_expires_at=None,
        ready=0,
        completed_at=view.now,
        response_size=row.response_size if body is None else body.size,
        error=row.error if data is None else data,
    )
    view.signal(command_topic(key))
    if state == CommandState.SUCCEEDED:
        ended(view, End(tenant_id, command_id, DONE, b"null" if body is None else response_of(body)))
    else:
        ended(view, End(tenant_id, command_id, NOT_DONE, end_of(row)))
    return row


def response_of(body: BodyRow) -> bytes:
    """Return what a process gets for a result: its JSON, or the name of the bytes that are kept apart."""
    blob = blob_of(body)
    return inline_response(body.data or b"") if blob is None else blob_response(blob)


def end_of(row: CommandRow) -> bytes:
    """Return what whoever waits for a command gets when it was not done."""
    try:
        error = CommandError(code="failed") if row.error is None else _decode_error(row.error)
    except (msgspec.DecodeError, msgspec.ValidationError):  # it was set as it is, and may be any JSON
        error = CommandError(code="failed", message=(row.error or b"").decode(errors="replace")[: limits.COMMAND_MESSAGE_MAX])
    end = CommandEnd(state=CommandState(row.state), code=error.code, message=error.message, details=error.details)
    return msgspec.json.encode(end)


def failed_attempt(
    view: View,
    key: Key[CommandRow],
    row: CommandRow,
    error: CommandError,
    *,
    retryable: bool,
    ended: Ended,
    at_once: bool = False,
    least: Micros = 0,
) -> CommandRow:
    """Return the row of a command whose attempt failed, to be saved: it waits for the next one, `least` at least, or is a dead letter."""
    policy = _decode_retry(row.retry)
    failures = row.failures + 1
    row = replace(row, failures=failures, error=msgspec.json.encode(error))
    again = retryable and failures < policy.max_attempts and error.code not in policy.give_up_on
    if not again:
        row = noted(view, key, row, "failed", actor=row.worker, detail=_told(error))
        return replace(over(view, key, row, CommandState.FAILED, ended=ended, error=error), dead=int(retryable))
    at = view.now + (0 if at_once else max(least, policy.delay(failures, _chance(key, failures))))
    return replace(make_ready(view, row, at=at), attempt=row.attempt + 1)


def settle(view: View, key: Key[CommandRow], row: CommandRow, *, ended: Ended) -> CommandRow | None:
    """Return the row of a command for which something is due, after that; None when nothing is."""
    now = view.now
    if row.deadline is not None and now >= row.deadline:
        error = CommandError(code="command-expired", message="its deadline passed before it was done")
        row = noted(view, key, row, "expired")
        return over(view, key, row, CommandState.EXPIRED, ended=ended, error=error)
    if row.lease_expires_at is not None and now >= row.lease_expires_at:
        if row.cancel_requested:
            return cancelled(view, key, row, ended=ended, detail="its worker did not answer")
        error = CommandError(code="lease-expired", message=f"attempt {row.attempt} was not completed before its lease ended")
        row = noted(view, key, row, "lease-expired", actor=row.worker)
        return failed_attempt(view, key, row, error, retryable=True, ended=ended, at_once=True)
    if row.state == CommandState.PENDING and not row.ready and now >= row.available_at:
        return replace(row, ready=1)
    return None


def cancelled(view: View, key: Key[CommandRow], row: CommandRow, *, ended: Ended, actor: str = "", detail: str = "") -> CommandRow:
    """Return the row of a command that is not to be done any more, to be saved."""
    row = noted(view, key, row, "cancelled", actor=actor, detail=detail)
    error = CommandError(code="command-cancelled", message=row.cancel_reason or detail)
    return over(view, key, row, CommandState.CANCELLED, ended=ended, error=error)


def settle_due(view: View, key: Key[DueRow], *, ended: Ended) -> None:
    """Do what is due for one command."""
    command = COMMAND.key(key.parts[1], key.parts[2])
    row = view.get(command)
    assert row is not None, f"{key.parts[2]!s} is due and exists"
    after = settle(view, command, row, ended=ended)
    assert after is not None, f"something is due for {key.parts[2]!s}"
    save(view, command, row, after)


def _told(error: CommandError) -> str:
    return f"{error.code}: {error.message}" if error.message else error.code


def _chance(key: Key[CommandRow], failures: int) -> float:
    """Return 0..1, the same for the same command and failure: a decision has no randomness of its own."""
    digest = hashlib.blake2b(f"{key.parts[0]!s}\n{key.parts[1]!s}\n{failures}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _CHANCES
