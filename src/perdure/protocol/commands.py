"""Commands over the wire.

Requests refuse fields that are unknown; answers do not: programs elsewhere are older than their server for as long as they like.
What a worker acts on is in remaining milliseconds: nobody has to compare clocks.

Source: commands.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from perdure import limits
from perdure.headers import BINARY_TYPE
from perdure.protocol.text import ReasonText, line, prose

Name = Annotated[str, line(limits.COMMAND_NAME_MAX)]
Code = Annotated[str, line(limits.COMMAND_CODE_MAX)]
Delay = Annotated[int, msgspec.Meta(ge=0, le=limits.COMMAND_DELAY_MAX_US // 1_000)]
LeaseFor = Annotated[int, msgspec.Meta(ge=limits.COMMAND_LEASE_MIN_US // 1_000, le=limits.COMMAND_LEASE_MAX_US // 1_000)]
WaitFor = Annotated[int, msgspec.Meta(ge=0, le=limits.COMMAND_WAIT_US // 1_000)]
Deadline = Annotated[int, msgspec.Meta(ge=1, le=limits.DURATION_MAX // 1_000)]
Token = Annotated[int, msgspec.Meta(ge=1, le=limits.SEQUENCE_MAX)]
State = Literal["PENDING_UPLOAD", "PENDING", "DISPATCHED", "SUCCEEDED", "FAILED", "EXPIRED", "CANCELLED"]
Priority = Annotated[int, msgspec.Meta(ge=-limits.PRIORITY_MAX, le=limits.PRIORITY_MAX)]


def nothing() -> msgspec.Raw:
    """Return JSON's null: what stands for a value that is not there."""
    return msgspec.Raw(b"null")


class BlobRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bytes that are kept apart: `sha256` is 64 hex digits, `size` is in bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, msgspec.Meta(ge=0, le=limits.BLOB_MAX)]
    content_type: Annotated[str, line(limits.COMMAND_NAME_MAX, least=0)] = BINARY_TYPE


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a command that failed is given out again, and when. After `max_attempts` failures it is a dead letter."""

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=limits.RETRY_ATTEMPTS_MAX)] = 5
    initial_ms: Annotated[int, msgspec.Meta(ge=0, le=limits.COMMAND_WAIT_MAX_SECONDS * 1_000)] = 1_000
    factor: Annotated[float, msgspec.Meta(ge=1, le=1_000)] = 2.0
    maximum_ms: Annotated[int, msgspec.Meta(ge=0, le=limits.COMMAND_WAIT_MAX_SECONDS * 1_000)] = 300_000
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    give_up_on: Annotated[list[Code], msgspec.Meta(max_length=limits.COMMAND_CODES_MAX)] = []


class NewCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A command to send: `params` is JSON data. With `upload`, they come later by `PUT …/params`, and it waits for them."""

    deployment: Name
    command: Name
    params: msgspec.Raw = msgspec.field(default_factory=nothing)
    upload: bool = False
    target: Name | None = None
    deadline_ms: Deadline | None = None
    delay_ms: Delay = 0
    priority: Priority = 0
    retry: RetryPolicy | None = None


class CommandProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a command was not done. `details` is JSON data."""

    code: str
    message: str = ""
    details: msgspec.Raw = msgspec.field(default_factory=nothing)


class ProgressNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a worker has come: 0..1, and a note of one line."""

    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]
    note: Annotated[str, line(limits.COMMAND_NOTE_MAX, least=0)] = ""


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it stands. `result` is there once it has succeeded, unless it is kept apart: then `result_blob` is."""

    command_id: str
    deployment: str
    target: str | None
    command: str
    state: State
    attempt: int
    failures: int
    max_attempts: int
    priority: int
    created_at: datetime | None
    available_at: datetime | None
    dispatched_at: datetime | None
    completed_at: datetime | None
    deadline: datetime | None
    worker: str
    progress: ProgressNote | None
    cancel_requested: bool
    error: CommandProblem | None
    result: msgspec.Raw
    result_blob: BlobRef | None
    dead: bool
    redriven_as: str | None


class CommandList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of commands, the newest first; `next` is the `after` of the page that follows, if one does. Results are left out."""

    commands: list[CommandView]
    next: str | None


class CommandHappening(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a command."""

    at: datetime | None
    kind: str
    attempt: int
    actor: str
    detail: str


class CommandHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a command, oldest first; `next` is the `after` of the page that follows, if one does."""

    events: list[CommandHappening]
    next: int | None


class Cancellation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a command is not to be done."""

    reason: ReasonText = ""


class StateNow(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a command after what was asked for."""

    command_id: str
    state: State


class DrivenAgain(msgspec.Struct, frozen=True, kw_only=True):
    """The command that was made of a dead letter."""

    command_id: str


# --- work ---------------------------------------------------------------------------------------------------


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a worker can do, and how much of it now."""

    target: Name | None = None
    names: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=limits.COMMAND_NAMES_MAX)] | None = None
    max_leases: Annotated[int, msgspec.Meta(ge=1, le=limits.COMMAND_LEASES_MAX)] = 1
    lease_ms: LeaseFor = limits.COMMAND_LEASE_US // 1_000
    worker: Annotated[str, line(limits.WORKER_MAX, least=0)] = ""


class LeasedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command and the right to work on it for `lease_ms`. Everything that follows names the `token`."""

    command_id: str
    token: int
    attempt: int
    command: str
    target: str | None
    params: msgspec.Raw
    params_blob: BlobRef | None
    lease_ms: int
    deadline_ms: int | None
    traceparent: str


class Leases(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker gets; nothing, when there was nothing in time."""

    leases: list[LeasedCommand]


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A worker is still at it."""

    token: Token
    lease_ms: LeaseFor = limits.COMMAND_LEASE_US // 1_000
    progress: ProgressNote | None = None


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """How long a lease lasts now, and whether the work is to stop."""

    lease_ms: int
    deadline_ms: int | None
    cancel_requested: bool
    reason: str


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A worker does not do it: another may, after `delay_ms`. It is no failure."""

    token: Token
    delay_ms: Delay = 0
    error: ReasonText = ""


class DidIt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="status", tag="succeeded"):
    """It was done. A result that is larger than 1 MiB goes by `PUT …/result`, whose answer is the `result_blob`."""

    result: msgspec.Raw = msgspec.field(default_factory=nothing)
    result_blob: BlobRef | None = None


class DidNot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="status", tag="failed"):
    """It was not done. `retryable`: another attempt may succeed."""

    code: Code
    message: Annotated[str, prose(limits.COMMAND_MESSAGE_MAX)] = ""
    details: msgspec.Raw = msgspec.field(default_factory=nothing)
    retryable: bool = False


class StoppedIt(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="status", tag="stopped"
):
    """It was stopped, because somebody had asked for that."""

    message: Annotated[str, prose(limits.COMMAND_MESSAGE_MAX)] = ""


Outcome = DidIt | DidNot | StoppedIt


class CompleteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an attempt ended."""

    token: Token
    outcome: Outcome


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """Whether that outcome counts: not if the command is over by something else."""

    command_id: str
    counted: bool
    state: State
