"""Pure decisions about messages alone: queueing, parking under a tag, and death."""

from __future__ import annotations

import msgspec

from perdure import limits
from perdure.core.table import Key
from perdure.core.view import View
from perdure.errors import MailboxFull
from perdure.messages.tables import (
    DEAD_LETTER,
    MAILBOX,
    PARKING,
    TENANT_MAIL,
    DeadLetterRow,
    MailboxRow,
    MessageRow,
    MessageStatus,
    ParkingRow,
    TenantMailRow,
)

replace = msgspec.structs.replace


def enqueue(view: View, tenant_id: str, process_id: str, *, refuse: bool) -> int:
    """Return the number of the next mail of a process, and count it.

    Raises:
        MailboxFull: too many wait for it or for its tenant, and `refuse` says that the sender may be told.
    """
    key = MAILBOX.key(tenant_id, process_id)
    row = view.get(key)
    if row is None:
        view.insert(key, MailboxRow(last=1, queued=1))
        return 1
    if refuse and row.queued >= limits.MAILBOX_MAX:
        raise MailboxFull(f"process {process_id}: {row.queued:,} messages are queued already; repeat later")
    _reserve(view, tenant_id, reserved(row.queued + 1) - reserved(row.queued), refuse=refuse)
    view.update(key, replace(row, last=row.last + 1, queued=row.queued + 1))
    return row.last + 1


def unqueue(view: View, tenant_id: str, process_id: str, count: int) -> None:
    """Count `count` messages out of a mailbox."""
    key = MAILBOX.key(tenant_id, process_id)
    row = view.get(key)
    assert row is not None, f"process {process_id} has no mailbox to take from"
    _reserve(view, tenant_id, reserved(row.queued - count) - reserved(row.queued), refuse=False)
    view.update(key, replace(row, queued=row.queued - count))


def reserved(queued: int) -> int:
    """Return how many places of its tenant's a mailbox has taken: whole blocks, and none for the first."""
    blocks = -(-queued // limits.MAIL_BLOCK)
    return max(0, blocks - 1) * limits.MAIL_BLOCK


def _reserve(view: View, tenant_id: str, places: int, *, refuse: bool) -> None:
    if not places:
        return
    key = TENANT_MAIL.key(tenant_id)
    row = view.get(key)
    taken = 0 if row is None else row.reserved
    if refuse and taken + places > limits.TENANT_MAIL_MAX:
        raise MailboxFull(f"tenant {tenant_id}: {taken:,} messages are queued for its processes already; repeat later")
    if row is None:
        view.insert(key, TenantMailRow(places))
    else:
        view.update(key, TenantMailRow(taken + places))


def mailbox_of(view: View, tenant_id: str, process_id: str) -> MailboxRow:
    """Return the mailbox; one that does not exist is made: a decision that depends on its absence needs a row."""
    key = MAILBOX.key(tenant_id, process_id)
    row = view.get(key)
    if row is None:
        row = MailboxRow()
        view.insert(key, row)
    return row


def mark_addressed(view: View, tenant_id: str, process_id: str) -> None:
    """Remember that a key or a tag names the process, so that its end looks for them."""
    key = MAILBOX.key(tenant_id, process_id)
    row = view.get(key)
    if row is None:
        view.insert(key, MailboxRow(addressed=1))
    elif not row.addressed:
        view.update(key, replace(row, addressed=1))


def tag_parking(view: View, tenant_id: str, tag: str) -> tuple[Key[ParkingRow], ParkingRow]:
    """Return the guard of the messages parked under a tag; made when it does not exist."""
    key = PARKING.key(tenant_id, under_tag(tag))
    row = view.get(key)
    if row is None:
        row = ParkingRow(0)
        view.insert(key, row)
    return key, row


def under_key(key: str) -> str:
    """Return where messages for an unbound key are parked."""
    return f"key {key}"


def under_tag(tag: str) -> str:
    """Return where messages for an empty tag are parked."""
    return f"tag {tag}"


def dead(view: View, key: Key[MessageRow], row: MessageRow, *, reason: str, detail: str) -> MessageRow:
    """Write the dead letter of a message and return its row, dead. The caller inserts or updates that row.

    Args:
        view: the transaction's.
        key: of the message.
        row: of the message; everything of it goes into the dead letter.
        reason: a stable word: `process-ended`, `no-handler`, `expired`, ….
        detail: for people.
    """
    tenant_id, source, message_id = key.parts
    letter = DeadLetterRow(
        kind=row.kind,
        reason=reason,
        detail=detail,
        address=row.address,
        process_id=row.process_id,
        at=view.now,
        payload=row.payload,
        headers=row.headers,
    )
    letter_key = DEAD_LETTER.key(tenant_id, row.tick, source, message_id)
    assert view.get(letter_key) is None, f"message {message_id!r} dies once"
    view.insert(letter_key, letter)
    return replace(row, status=MessageStatus.DEAD, parked_under=None, mail_number=None, note=f"{reason}: {detail}" if detail else reason)
