"""The rows of messages."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class MessageStatus(StrEnum):
    """Where a message is."""

    DELAYED = "delayed"  # sent to be delivered later
    PARKED = "parked"  # under a key or tag that nobody holds yet
    QUEUED = "queued"  # in the mailbox of its process
    OPEN = "open"  # in the open turn of its process, or in a fan-out that is under way
    DONE = "done"
    DEAD = "dead"
    EXPIRED = "expired"  # a tombstone: the id was used, and is refused while it stands


class MessageRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One accepted message.

    `address` is what its sender asked for, `parked_under` where it waits for somebody (`key k` or `tag t`),
    `mail_number` its place in its process's mailbox, `tick` the order of acceptance, `expires_at` until when it is
    parked, or its tombstone stands, `done_at` when it was done, once its turn's events are gone, `copies` how many
    members a fan-out reached, `note` the reason when it is dead, `sender` the process that sent it, `available_at` when a
    delayed one is delivered, `asked` how many turns have asked for its reply (rows of `awaited_reply`).
    """

    digest: bytes
    kind: str
    status: str
    address: str
    process_id: str | None = None
    parked_under: str | None = None
    mail_number: int | None = None
    tick: int
    accepted_at: Micros
    expires_at: Micros | None = None
    done_at: Micros | None = None
    copies: int | None = None
    note: str = ""
    sender: str = ""
    available_at: Micros | None = None
    asked: int = 0
    payload: bytes
    headers: bytes | None = None


class AwaitedReplyRow(msgspec.Struct, frozen=True, gc=False):
    """An operation of an open turn that waits for the reply to a message, or for an awakeable: `turn_ref` names the turn."""

    turn_ref: str


class MailboxRow(msgspec.Struct, frozen=True, gc=False):
    """What others have for one process: the number of the last mail, how many are queued, and whether it ever had an address.

    `cancelled` is why it was asked to stop; the request has a number among the mail, so that no turn waits without having seen it.
    `forced`: its owner is to end it without running its code again.
    It is a row of its own because every node may write it; the process's row is its owner's.
    """

    last: int = 0
    queued: int = 0
    addressed: int = 0
    cancelled: str | None = None
    forced: int = 0


class TenantMailRow(msgspec.Struct, frozen=True, gc=False):
    """How many messages the mailboxes of a tenant may hold as of now, in whole blocks, beyond the first block of each."""

    reserved: int = 0


class ParkingRow(msgspec.Struct, frozen=True, gc=False):
    """How many messages are parked under a key or tag: the guard of that range."""

    parked: int


class FanOutRow(msgspec.Struct, frozen=True, gc=False):
    """A fan-out under way: members of `tag` registered up to `until`; those up to `(at, process_id)` have it."""

    tag: str
    until: int
    at: int
    process_id: str
    delivered: int


class DeadLetterRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message that will not be handled, with everything of it and why. `redriven_as` is its successor."""

    kind: str
    reason: str
    detail: str
    address: str
    process_id: str | None
    at: Micros
    redriven_as: str | None = None
    payload: bytes
    headers: bytes | None = None


class InboxRow(msgspec.Struct, frozen=True, gc=False):
    """Something was left for a process by somebody who does not own it: its owner is to look at it."""

    process_id: str


MESSAGE = Table("message", ("tenant_id", "source", "message_id"), MessageRow)
MAILBOX = Table("mailbox", ("tenant_id", "process_id"), MailboxRow)
TENANT_MAIL = Table("tenant_mail", ("tenant_id",), TenantMailRow)
PARKING = Table("parking", ("tenant_id", "parked_under"), ParkingRow, guard=True)
FAN_OUT = Table("fan_out", ("tenant_id", "source", "message_id"), FanOutRow)
DEAD_LETTER = Table("dead_letter", ("tenant_id", "tick", "source", "message_id"), DeadLetterRow)

INBOX = Table("inbox", ("tenant_id", "shard", "tick"), InboxRow, kind="log")

# Guarded by the row of the message: who asks counts himself there, and who seals the reply writes it. An awakeable has one.
AWAITED_REPLY = Table("awaited_reply", ("tenant_id", "ref", "process_id", "operation_id"), AwaitedReplyRow)

MAIL = Index(
    MESSAGE,
    "message_mail",
    prefix=("tenant_id", "process_id"),
    order=("mail_number", "source", "message_id"),
    where=lambda row: row.status == MessageStatus.QUEUED,
    where_sql="status = 'queued'",
)
PARKED = Index(
    MESSAGE,
    "message_parked",
    prefix=("tenant_id", "parked_under"),
    order=("tick", "source", "message_id"),
    where=lambda row: row.status == MessageStatus.PARKED,
    where_sql="status = 'parked'",
)
EXPIRING = Index(
    MESSAGE,
    "message_expiring",
    prefix=("status",),
    order=("expires_at", "tenant_id", "source", "message_id"),
    where=lambda row: row.expires_at is not None,
    where_sql="expires_at is not null",
)
AGED = Index(
    MESSAGE,
    "message_aging",
    order=("done_at", "tenant_id", "source", "message_id"),
    where=lambda row: row.done_at is not None,
    where_sql="done_at is not null",
)
DELAYED = Index(
    MESSAGE,
    "message_delayed",
    order=("available_at", "tenant_id", "source", "message_id"),
    where=lambda row: row.status == MessageStatus.DELAYED,
    where_sql="status = 'delayed'",
)
AWAITED = Index(AWAITED_REPLY, "awaited_reply", prefix=("tenant_id", "ref"), order=("process_id", "operation_id"))
MESSAGES = Index(MESSAGE, "message", prefix=("tenant_id",), order=("source", "message_id"))
KEPT_FOR_TAGS = Index(
    PARKING,
    "parking_kept",
    order=("tenant_id", "parked_under"),
    where=lambda row: row.parked > 0,
    where_sql="parked > 0",
)
FAN_OUTS = Index(FAN_OUT, "fan_out", order=("tenant_id", "source", "message_id"))
DEAD_LETTERS = Index(DEAD_LETTER, "dead_letter", prefix=("tenant_id",), order=("tick", "source", "message_id"))
LEFT = Index(INBOX, "inbox_shard", order=("shard", "tenant_id", "tick"))
TABLES = (MESSAGE, AWAITED_REPLY, MAILBOX, TENANT_MAIL, PARKING, FAN_OUT, DEAD_LETTER, INBOX)
# Additions are guarded by the process's own row, which the commit that begins a wait always writes.
WAITS = Index(AWAITED_REPLY, "awaited_reply_process", prefix=("tenant_id", "process_id"), order=("operation_id", "ref"))
INDEXES = (MAIL, PARKED, KEPT_FOR_TAGS, EXPIRING, AGED, DELAYED, AWAITED, WAITS, MESSAGES, FAN_OUTS, DEAD_LETTERS, LEFT)
