"""One tree of errors. Every class has a stable code and says what to do next.

`PerdureError.code` is what programs compare; the text is for people and may change. `retryable` says
whether the same call, made again later, can succeed without any change to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perdure.errors.commands import *  # noqa: F403  # as below
from perdure.errors.http import *  # noqa: F403  # as below
from perdure.errors.packages import *  # noqa: F403  # as below
from perdure.errors.roots import *  # noqa: F403  # its names are names of this module
from perdure.errors.roots import NotFoundError, PerdureError, RejectedError, StoreError, UsageError
from perdure.errors.store import *  # noqa: F403  # as above
from perdure.errors.web import *  # noqa: F403  # as above

# --- values at the door --------------------------------------------------------------------------


class InvalidIdentifier(UsageError):
    """An identifier breaks its rules; nothing was read or written."""

    code = "invalid-identifier"


class PayloadTooLarge(UsageError):
    """A payload is over its limit; nothing was written."""

    code = "payload-too-large"

    def __init__(self, what: str, *, size: int, limit: int) -> None:
        super().__init__(f"{what}: {size:,} bytes, the limit is {limit:,}; keep large data elsewhere and pass a reference")
        self.size = size
        self.limit = limit


class PayloadUnencodable(UsageError):
    """The codec cannot write this value; nothing was stored."""

    code = "payload-unencodable"


class PayloadInvalid(PerdureError):
    """These bytes are not what the codec or the type expects."""

    code = "payload-invalid"


# --- schemas -------------------------------------------------------------------------------------


class SchemaUnsupported(UsageError):
    """A type has no schema; `path` leads to the part that has none."""

    code = "schema-unsupported"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class SchemaInvalid(RejectedError):
    """A schema document is not canonical, breaks the grammar, or does not hash to its name."""

    code = "schema-invalid"


class SchemaMissing(RejectedError):
    """A schema that is reachable from the root is neither given nor stored."""

    code = "schema-missing"

    def __init__(self, schema_hash: str, *, needed_by: str) -> None:
        super().__init__(f"schema {schema_hash}, which {needed_by} needs, is neither given nor stored; pass it along in the registry")
        self.schema_hash = schema_hash
        self.needed_by = needed_by


class Incompatibility(NamedTuple):
    """One reason why what was written cannot be read: where, a stable code, the text, and whether it depends on the value."""

    path: str
    code: str
    detail: str
    partial: bool


class SchemaIncompatible(RejectedError):
    """What was written cannot be read as the type that is asked for; found before any byte is decoded."""

    code = "schema-incompatible"

    def __init__(self, issues: Sequence[Incompatibility]) -> None:
        first, more = issues[0], len(issues) - 1
        others = f" (and {more} more, see `issues`)" if more else ""
        advice = "register an upcaster" + (", or allow a partial plan" if all(issue.partial for issue in issues) else "")
        super().__init__(f"{first.path}: {first.code}, {first.detail}{others}; {advice}")
        self.issues = tuple(issues)


class ValueUnreadable(PayloadInvalid):
    """This one value cannot be read as the type, although others of its schema can."""

    code = "value-unreadable"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail


# --- routing --------------------------------------------------------------------------------------


class IdentityMismatch(UsageError):
    """An argument and the identity beside it name different tenants or processes."""

    code = "identity-mismatch"


class KeyTaken(RejectedError):
    """The key belongs to another process."""

    code = "key-taken"

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(f"key {key!r} belongs to process {owner}; send to it, or choose another key")
        self.key = key
        self.owner = owner


# --- operations -------------------------------------------------------------------------------------


class AlreadySealed(RejectedError):
    """The operation has another answer already; sealed answers are final."""

    code = "already-sealed"


class OperationNotFound(NotFoundError):
    """No operation has this id."""

    code = "operation-not-found"


class OperationExpired(RejectedError):
    """The answer of this operation was evicted when its retention was over; a new request needs a new id."""

    code = "operation-expired"


# --- conversations and streams -----------------------------------------------------------------------


class SequenceConflict(RejectedError):
    """Another writer appended first; refresh and decide again."""

    code = "sequence-conflict"

    def __init__(self, *, stream: str, expected: int, found: int) -> None:
        super().__init__(f"{stream}: expected sequence {expected}, found {found}; refresh and decide again")
        self.stream = stream
        self.expected = expected
        self.found = found


class ValueConflict(RejectedError):
    """A compare-and-set found another value; read it and decide again."""

    code = "value-conflict"

    def __init__(self, *, key: str, expected: int | None, found: int | None) -> None:
        super().__init__(f"{key}: expected value {expected}, found {found}; read it and decide again")
        self.key = key
        self.expected = expected
        self.found = found


class IllegalTransition(RejectedError):
    """This may not happen in the present state; nothing was written."""

    code = "illegal-transition"


class CorruptEvent(StoreError):
    """An event cannot be read; the conversation is quarantined by name, others are not affected."""

    code = "corrupt-event"


class EventTooNew(StoreError):
    """An event was written by a newer Perdure."""

    code = "event-too-new"


class HistoryCompacted(NotFoundError):
    """The entries asked for were truncated."""

    code = "history-compacted"


# --- engine: addressing and delivery -----------------------------------------------------------------


class MessageConflict(RejectedError):
    """The message id was accepted before with other content."""

    code = "message-conflict"


class ArchiveInvalid(PerdureError):
    """A line of an archive is no record; restore the file from a copy."""

    code = "archive-invalid"


class MessageExpired(RejectedError):
    """The message was done, and its reply is kept no longer; nothing was done again. A new message needs a new id."""

    code = "message-expired"


class AmbiguousKind(UsageError):
    """Two process types claim one kind of message."""

    code = "ambiguous-kind"


class NoRoute(UsageError):
    """Nothing says where a message of this kind belongs."""

    code = "no-route"


class UnknownProcessType(UsageError):
    """The app has no process type of this name."""

    code = "unknown-process-type"


class ProcessNotFound(NotFoundError):
    """No process has this id."""

    code = "process-not-found"


class MessageNotFound(NotFoundError):
    """No message has this id."""

    code = "message-not-found"


class DeadLetterNotFound(NotFoundError):
    """No dead letter has this id."""

    code = "dead-letter-not-found"


class QueryNotFound(NotFoundError):
    """The class of the process has no such query; mark the method with `@perdure.query`, or ask another process."""

    code = "query-not-found"


class WrongProcessType(RejectedError):
    """The key or id that was to start a process belongs to one of another type."""

    code = "wrong-process-type"


class ReplyNotSingle(UsageError):
    """A message to a tag has many answers; it cannot be waited for."""

    code = "reply-not-single"


class AskedSelf(UsageError):
    """A turn waits for the reply of its own process, which can begin no other turn before that one ends; call the function itself."""

    code = "asked-self"


class ReplyTooLate(UsageError):
    """A message is answered right after the `receive` that returned it, and once."""

    code = "reply-too-late"


class AwakeableNotFound(NotFoundError):
    """No open turn has made this awakeable."""

    code = "awakeable-not-found"


class AwakeableConflict(RejectedError):
    """The awakeable was completed in another way; the first completion stands."""

    code = "awakeable-conflict"


class AwakeableFailed(PerdureError):
    """Whoever was to complete the awakeable says that it failed; the text is theirs."""

    code = "awakeable-failed"


class ProcessEnded(RejectedError):
    """The process has ended; nothing more reaches it."""

    code = "process-ended"


class MailboxFull(RejectedError):
    """Too many messages wait for this process."""

    code = "mailbox-full"
    retryable = True


class ScheduleNotFound(NotFoundError):
    """No schedule has this id."""

    code = "schedule-not-found"


class ScheduleConflict(RejectedError):
    """The schedule's id belongs to another one; choose another id, or replace that one."""

    code = "schedule-conflict"


class DefinitionError(UsageError):
    """A process type or a schedule is defined wrongly; found when it is registered."""

    code = "definition"


class EngineRunning(UsageError):
    """Another engine runs the processes of this store."""

    code = "engine-running"


# --- engine: turns ---------------------------------------------------------------------------------


class TurnFailed(PerdureError):
    """The turn ended with an error that has no class here; the text is the original's."""

    code = "turn-failed"


class StepFailed(PerdureError):
    """A step ended with an error that cannot be made again; the text is the original's."""

    code = "step-failed"


class StepOutcomeUnknown(PerdureError):
    """A step that runs at most once was begun, and nobody knows how it ended: find out by hand, or give it a `probe`."""

    code = "step-outcome-unknown"


class StepTimedOut(PerdureError, TimeoutError):
    """An attempt of a step did not end within its `timeout`."""

    code = "step-timed-out"


class CannotTimeOut(UsageError, TypeError):
    """A function on a thread cannot be stopped: make it async, or let it be left to itself with `abandon=True`."""

    code = "cannot-time-out"


class StepOutputInvalid(PerdureError):
    """A step returned what cannot be recorded; its effect has happened and is not repeated."""

    code = "step-output-invalid"


class NotInStep(UsageError):
    """Input or output was tried in a handler; put it into a step."""

    code = "not-in-step"


class NotAwaited(UsageError):
    """A durable call was made without `await`; it has not happened."""

    code = "not-awaited"


class NotInTurn(UsageError):
    """A verb was used outside the handler that it belongs to."""

    code = "not-in-turn"


class NondeterministicTurn(PerdureError):
    """The code does not do what it did when the turn was recorded; the text has the difference."""

    code = "nondeterministic-turn"


class DeadlockedTurn(PerdureError):
    """The handler waits for something that is not durable."""

    code = "deadlocked-turn"


class TurnTooLong(PerdureError):
    """One turn has more events than the limit; end it, or split the work over messages."""

    code = "turn-too-long"


class StepNotFound(NotFoundError):
    """The turn has no record of this name."""

    code = "step-not-found"


class ProcessCancelled(PerdureError):
    """The process was asked to stop, and its handler did; what it had done before stays."""

    code = "process-cancelled"


class PoisonMessage(PerdureError):
    """The engine crashed each time it handled this message."""

    code = "poison-message"
