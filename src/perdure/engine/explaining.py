"""Where a message is, and why.

Source: engine.md, "Versions, operations, time".
"""

from __future__ import annotations

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.tables import PROCESS, TURN, ProcessStatus
from perdure.core.table import Scan
from perdure.engine.handling import operation_key
from perdure.engine.outcomes import error_text
from perdure.errors import MessageNotFound
from perdure.flows.tables import PLACE
from perdure.flows.writes import HELD, KEY
from perdure.identity import DEFAULT_TENANT, MessageId, TenantId
from perdure.messages.mail import reference
from perdure.messages.tables import DEAD_LETTER, FAN_OUT, MAIL, MESSAGE, MessageRow, MessageStatus
from perdure.store import Store


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message is, and why; `text` says it in a sentence.

    `ahead` is how many messages are before it in its mailbox, when it is queued, counted up to 20; `redriven_as` names
    the message that a dead letter was delivered again as.
    """

    tenant_id: str
    source: str
    message_id: str
    kind: str
    status: str
    address: str
    process_id: str | None
    accepted_at: Micros
    expires_at: Micros | None
    copies: int | None
    sender: str
    reply: str | None
    text: str
    ahead: int | None = None
    redriven_as: str | None = None


async def explain(store: Store, message_id: str, *, source: str = "", tenant: str = DEFAULT_TENANT) -> Explanation:
    """Return where a message is, and why. Raises MessageNotFound, InvalidIdentifier."""
    reader = store.access.reader
    tenant_id = TenantId(tenant)
    row = await reader.get(MESSAGE.key(tenant_id, source, MessageId(message_id)))
    if row is None:
        raise MessageNotFound(f"no message {message_id!r} (source {source!r}) in tenant {tenant_id}; it was never accepted here")
    sealed = await reader.get(operation_key(tenant_id, reference(source, message_id)))
    reply = None
    if sealed is not None and sealed.response is not None:
        reply = error_text(sealed.response) if sealed.outcome == "error" else sealed.response.decode()[: limits.REPR_MAX]
    found = Explanation(
        tenant_id=tenant_id,
        source=source,
        message_id=message_id,
        kind=row.kind,
        status=row.status,
        address=row.address,
        process_id=row.process_id,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        copies=row.copies,
        sender=row.sender,
        reply=reply,
        text="",
    )
    return await _with_text(store, found, row)


async def _with_text(store: Store, found: Explanation, row: MessageRow) -> Explanation:
    text, ahead, redriven = "", None, None
    match row.status:
        case MessageStatus.DELAYED:
            text = f"it is delivered at {row.available_at} microseconds since the epoch"
        case MessageStatus.PARKED:
            text = f"nobody is at {row.parked_under!r} yet; it is handed over when somebody comes"
            if row.expires_at is not None:
                text += ", or becomes a dead letter when it expires"
        case MessageStatus.QUEUED:
            ahead = await _ahead(store, found.tenant_id, row)
            text = await _queued(store, found.tenant_id, row, ahead)
        case MessageStatus.OPEN if row.process_id is not None:
            text = await _open(store, found, row.process_id)
        case MessageStatus.OPEN:
            fan_out = await store.access.reader.get(FAN_OUT.key(found.tenant_id, found.source, found.message_id))
            done = "" if fan_out is None else f"; {fan_out.delivered} have it so far"
            text = f"it is being copied to the members of its tag{done}"
        case MessageStatus.DONE:
            text = f"process {row.process_id} has handled it" if row.process_id else f"it was copied to {row.copies or 0} processes"
            text += "; delivered again, it gets the sealed reply" if found.reply not in (None, "null") else ""
        case MessageStatus.DEAD:
            letter = await store.access.reader.get(DEAD_LETTER.key(found.tenant_id, row.tick, found.source, found.message_id))
            redriven = None if letter is None else letter.redriven_as
            text = "it is a dead letter"
        case MessageStatus.EXPIRED:
            text = "it was done, and is kept no longer; its id is refused while its tombstone stands"
        case other:
            text = f"it is {other}"
    text = f"{text}: {row.note}" if row.note else text
    return msgspec.structs.replace(found, text=text, ahead=ahead, redriven_as=redriven)


async def _ahead(store: Store, tenant_id: str, row: MessageRow) -> int:
    before = (row.mail_number or 0) - 1
    mail = await store.access.reader.scan(Scan(MAIL, (tenant_id, row.process_id), limits.AHEAD_MAX, upto=(before,)))
    return len(mail)


async def _queued(store: Store, tenant_id: str, row: MessageRow, ahead: int) -> str:
    text = f"it waits in the mailbox of process {row.process_id}"
    if ahead:
        text += f", behind {ahead}{' or more' if ahead == limits.AHEAD_MAX else ''} {'other' if ahead == 1 else 'others'}"
    process = await store.access.reader.get(PROCESS.key(tenant_id, row.process_id))
    if process is None:
        return text
    text += f"; the process is {process.status}"
    if process.note and process.status not in (ProcessStatus.RUNNABLE, ProcessStatus.WAITING, ProcessStatus.IDLE):
        text += f" ({process.note})"
    place = await store.access.reader.get(PLACE.key(tenant_id, row.process_id)) if process.placed else None
    if place is not None and place.stage != HELD:
        of = f"its key {place.flow_key!r}" if place.stage == KEY else f"type {place.process_type!r}"
        text += f" and waits for a place of {of}"
    if process.open_message is not None:
        text += f" with message {process.open_message!r}"
        turn = await store.access.reader.get(TURN.key(tenant_id, row.process_id, process.open_message))
        if turn is not None and process.status == ProcessStatus.WAITING and turn.awaits:
            text += f", which waits for {' or '.join(turn.awaits.splitlines())}"
    return text


async def _open(store: Store, found: Explanation, process_id: str) -> str:
    process = await store.access.reader.get(PROCESS.key(found.tenant_id, process_id))
    text = f"process {process_id} is handling it"
    if process is None or process.status == ProcessStatus.RUNNABLE:
        return text
    turn = await store.access.reader.get(TURN.key(found.tenant_id, process_id, reference(found.source, found.message_id)))
    if process.status == ProcessStatus.WAITING:
        awaits = [] if turn is None else turn.awaits.splitlines()
        return f"{text}, and waits for {' or '.join(awaits) if awaits else 'its timers'}"
    return f"{text}, but is {process.status}{f': {process.note}' if process.note else ''}"
