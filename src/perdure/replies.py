"""Replies to turns: who waits for which, and how one comes to whoever asked.

A reply is a letter in the mailbox of the process that asked, numbered like all mail: so the rule that a turn may wait only
when it has seen all mail holds for replies, too, and no wake-up is lost. Its row goes when the turn has taken it in.

Source: engine.md, "Addressing and delivery", 4; "States, memory, recovery".
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from perdure import limits
from perdure.conversations.tables import PROCESS, ProcessStatus
from perdure.core.table import Scan
from perdure.core.view import View
from perdure.identity import derived_id
from perdure.messages.mail import Mail
from perdure.messages.tables import AWAITED, AWAITED_REPLY, INBOX, MESSAGE, AwaitedReplyRow, InboxRow, MessageRow, MessageStatus
from perdure.messages.writes import enqueue
from perdure.operations.tables import OPERATION

replace = msgspec.structs.replace
REPLY_KIND: Final = "pd-reply"
AWAKEABLES: Final = "awakeable"
COMMANDS: Final = "command "
ENGINE: Final = "engine"
"""The topic of what was left for whichever engine it concerns."""


def is_awakeable(operation_id: str) -> bool:
    """Return whether what a turn waits for is an awakeable, and not the reply to a message."""
    return operation_id.partition("#")[0] == AWAKEABLES


def is_command(operation_id: str) -> bool:
    """Return whether what a turn waits for is the end of a command."""
    return operation_id.startswith(COMMANDS)


class Asker(NamedTuple):
    """An operation of an open turn that waits for a reply."""

    tenant_id: str
    process_id: str
    turn_ref: str
    operation_id: str


class MailArrived(msgspec.Struct, frozen=True, gc=False):
    """A message was queued; `wakes` if the process has to be loaded for it."""

    tenant_id: str
    process_id: str
    mail: Mail
    wakes: bool


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What such a letter says: to which operation of which turn, and the sealed answer."""

    turn_ref: str
    operation_id: str
    outcome: str
    response: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode


def post_reply(view: View, notes: list[Any], asker: Asker, *, outcome: str, response: bytes) -> bool:
    """Put a reply into the mailbox of the process that asked, and make it runnable; False: it is dropped, that turn is over."""
    tenant_id, process_id, turn_ref, operation_id = asker
    process_key = PROCESS.key(tenant_id, process_id)
    process = view.get(process_key)
    if process is None or process.open_message != turn_ref:
        return False
    number = enqueue(view, tenant_id, process_id, refuse=False)
    wakes = process.status == ProcessStatus.WAITING
    if wakes:
        view.update(process_key, replace(process, status=ProcessStatus.RUNNABLE, updated_at=view.now))
    message_id = derived_id(tenant_id, process_id, turn_ref, operation_id, REPLY_KIND)
    key, payload = MESSAGE.key(tenant_id, "", message_id), _encode(Reply(turn_ref, operation_id, outcome, response))
    assert view.get(key) is None, f"{operation_id!r} of {turn_ref!r} is answered once"
    row = MessageRow(
        digest=b"",
        kind=REPLY_KIND,
        status=MessageStatus.QUEUED,
        address=f"process {process_id}",
        process_id=process_id,
        mail_number=number,
        tick=view.tick(),
        accepted_at=view.now,
        payload=payload,
    )
    view.insert(key, row)
    notes.append(MailArrived(tenant_id, process_id, Mail(number, "", message_id, REPLY_KIND, payload), wakes))
    return True


def await_reply(view: View, ref: str, asker: Asker) -> None:
    """Note who waits for the reply named `ref`. The caller writes what guards those who wait for it."""
    key = AWAITED_REPLY.key(asker.tenant_id, ref, asker.process_id, asker.operation_id)
    if view.get(key) is None:
        view.insert(key, AwaitedReplyRow(asker.turn_ref))
    else:  # the turn that asked was restarted
        view.update(key, AwaitedReplyRow(asker.turn_ref))


def await_completion(view: View, notes: list[Any], token: str, asker: Asker) -> None:
    """Note who waits for an awakeable; in a turn that was restarted it may be complete already."""
    sealed = view.get(OPERATION.key(asker.tenant_id, AWAKEABLES, token))
    if sealed is None or sealed.response is None:
        await_reply(view, token, asker)
    else:
        post_reply(view, notes, asker, outcome=sealed.outcome, response=sealed.response)


def answer_all(view: View, notes: list[Any], tenant_id: str, ref: str, *, outcome: str, response: bytes) -> int:
    """Send the reply named `ref` to everybody whose turn is still open, and return to how many."""
    count = 0
    while rows := view.scan(Scan(AWAITED, (tenant_id, ref), limits.READ_PAGE)):
        for key, row in rows:
            view.delete(key)
            asker = Asker(tenant_id, str(key.parts[2]), row.turn_ref, str(key.parts[3]))
            count += post_reply(view, notes, asker, outcome=outcome, response=response)
    return count


def answer_from_elsewhere(view: View, tenant_id: str, ref: str, *, outcome: str, response: bytes) -> None:
    """Send the reply named `ref` to everybody whose turn is still open, and leave word for those who own these processes."""
    arrived: list[MailArrived] = []
    answer_all(view, arrived, tenant_id, ref, outcome=outcome, response=response)
    for note in arrived:
        process = view.get(PROCESS.key(note.tenant_id, note.process_id))
        assert process is not None, "who waits is there"
        view.insert(INBOX.key(note.tenant_id, process.shard, view.tick()), InboxRow(note.process_id))
    if arrived:
        view.signal(ENGINE)
