"""Asking another process: a message that is accepted once, and a note that its reply goes to a turn.

Source: engine.md, "Addressing and delivery", 4.
"""

from __future__ import annotations

import msgspec

from perdure.conversations.tables import PROCESS
from perdure.core.view import View
from perdure.engine.addressing import Address
from perdure.engine.cancelling import take_child
from perdure.engine.effects import AskEffect
from perdure.engine.handling import Handling, operation_key
from perdure.engine.notes import Envelope, Receipt
from perdure.engine.outcomes import encode_error
from perdure.errors import AskedSelf, MessageConflict, TurnFailed
from perdure.messages.tables import MessageRow, MessageStatus
from perdure.operations.writes import ADMITTED
from perdure.replies import Asker, await_reply, post_reply
from perdure.routing.tables import KEY

replace = msgspec.structs.replace
_UNANSWERED = (MessageStatus.OPEN, MessageStatus.QUEUED)


def ask(handling: Handling, effect: AskEffect, envelope: Envelope, asker: Asker) -> None:
    """Accept the message and let its reply come to the turn; a refusal is the reply, for the turn's commit cannot fail any more."""
    view, ref = handling.view, effect.message_id
    try:
        receipt, row = _accept(handling, envelope, asker)
    except (AskedSelf, MessageConflict) as error:
        post_reply(view, handling.notes, asker, outcome="error", response=encode_error(error))
        return
    if effect.child:
        take_child(handling, PROCESS.key(asker.tenant_id, asker.process_id), receipt, ref)
    sealed = view.get(operation_key(asker.tenant_id, ref))
    if sealed is None or sealed.state == ADMITTED:
        await_reply(view, ref, asker)
        view.update(envelope.key, replace(row, asked=row.asked + 1))
    elif sealed.response is None:
        gone = TurnFailed(f"message {ref!r} was answered, and its reply is not kept any more")
        post_reply(view, handling.notes, asker, outcome="error", response=encode_error(gone))
    else:
        post_reply(view, handling.notes, asker, outcome=sealed.outcome, response=sealed.response)


def _accept(handling: Handling, envelope: Envelope, asker: Asker) -> tuple[Receipt, MessageRow]:
    view, address, process_id = handling.view, envelope.address, asker.process_id
    if _names(view, asker, address):
        raise AskedSelf(f"{address} is process {process_id!r} itself, whose turn would wait for its own end; call the function")
    receipt = handling.accept(envelope)
    row = view.get(envelope.key)
    assert row is not None, "it is accepted"
    if receipt.duplicate and row.process_id == process_id and row.status in _UNANSWERED:
        raise AskedSelf(f"message {envelope.message_id!r} is process {process_id!r}'s own, whose turn would wait for its own end")
    return receipt, row


def _names(view: View, asker: Asker, address: Address) -> bool:
    if address.way == "process":
        return address.name == asker.process_id
    held = view.get(KEY.key(asker.tenant_id, address.name)) if address.name else None
    holder = None if held is None else held.process_id
    return asker.process_id == (address.process_id if holder is None else holder)
