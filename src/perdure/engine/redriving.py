"""What people do with messages that were not handled: deliver them again, or go on without them.

Source: engine.md, "Verbs of a turn", failure.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.conversations.events import decode_event
from perdure.conversations.tables import EVENT, OVER, PROCESS, ProcessRow, ProcessStatus
from perdure.conversations.writes import stream_name
from perdure.core.table import Read
from perdure.core.view import View
from perdure.engine.addressing import Address
from perdure.engine.flush import HANDLER_FAILED, present
from perdure.engine.handling import Handling, message_key
from perdure.engine.notes import Envelope, Note, Receipt, Rules
from perdure.errors import DeadLetterNotFound, IllegalTransition, MessageNotFound, ProcessNotFound
from perdure.messages.mail import reference
from perdure.messages.tables import DEAD_LETTER, MessageRow, MessageStatus
from perdure.packages.writes import hold

replace = msgspec.structs.replace


class Redrive(msgspec.Struct, frozen=True, gc=False):
    """Deliver a dead letter again, as a new message `<id>~2`; the sealed reply of the first stands."""

    rules: Rules
    tenant_id: str
    source: str
    message_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the message."""
        yield message_key(self.tenant_id, reference(self.source, self.message_id))

    def decide(self, view: View) -> tuple[str, Receipt, list[Note]]:
        """Return the new id, what became of it, and what its owner has to do.

        Raises:
            MessageNotFound, DeadLetterNotFound: there is no such message, or it is not dead.
            IllegalTransition: it was redriven before.
        """
        handling = Handling(view, self.rules)
        key = message_key(self.tenant_id, reference(self.source, self.message_id))
        row = view.get(key)
        if row is None:
            raise MessageNotFound(f"no message {self.message_id!r} (source {self.source!r}) in tenant {self.tenant_id}")
        letter_key = DEAD_LETTER.key(self.tenant_id, row.tick, self.source, self.message_id)
        letter = view.get(letter_key)
        if letter is None:
            raise DeadLetterNotFound(f"message {self.message_id!r} is {row.status}, not dead; only dead letters are redriven")
        if letter.redriven_as is not None:
            raise IllegalTransition(f"message {self.message_id!r} was redriven as {letter.redriven_as!r}; redrive that one")
        new_id = next_id(self.message_id)
        while view.get(message_key(self.tenant_id, reference(self.source, new_id))) is not None:  # somebody may have chosen it
            new_id = next_id(new_id)
        address, process_id = address_of(row), row.process_id or self.process_id
        process = view.get(PROCESS.key(self.tenant_id, process_id)) if address.way == "start" else None
        if process is not None and process.status in OVER:
            address, process_id = replace(address, process_id=None), self.process_id
        envelope = Envelope(
            tenant_id=self.tenant_id,
            source=self.source,
            message_id=new_id,
            digest=row.digest,
            kind=row.kind,
            payload=row.payload,
            headers=row.headers,
            address=address,
            process_id=process_id,
            inner=False,
            sender=row.sender,
        )
        receipt = self._receipt(handling, envelope, row)
        view.update(letter_key, replace(letter, redriven_as=new_id))
        view.update(key, replace(row, note=f"{row.note}; redriven as {new_id}"))
        return new_id, receipt, handling.notes

    def _receipt(self, handling: Handling, envelope: Envelope, row: MessageRow) -> Receipt:
        view = handling.view
        process_key = PROCESS.key(self.tenant_id, row.process_id or "")
        process = view.get(process_key) if row.process_id else None
        if process is None or not self._paused_on_it(view, process, row):
            return handling.accept(envelope)
        if process.package_hash is not None:
            hold(view, process.package_hash)
        # The process waits for a person's word on this very message: it goes before everything queued.
        fresh = replace(row, status=MessageStatus.OPEN, note="", tick=view.tick(), accepted_at=view.now, asked=0)
        begun = handling.begin_turn(process_key, envelope.key, fresh)
        assert view.get(envelope.key) is None, "redriven once"
        view.insert(envelope.key, begun)
        return Receipt(duplicate=False, status=begun.status, process_id=begun.process_id)

    def _paused_on_it(self, view: View, process: ProcessRow, row: MessageRow) -> bool:
        if process.status != ProcessStatus.PAUSED or process.open_message is not None:
            return False
        if row.note != f"{HANDLER_FAILED}: {process.note}":  # somebody has paused it since, and may have another reason
            return False
        first = present(view.get(EVENT.key(self.tenant_id, process.stream_no, process.turn_seq)))
        event = decode_event(first.data, stream=stream_name(self.tenant_id, row.process_id or ""), seq=process.turn_seq)
        return event.message_id == reference(self.source, self.message_id)


def next_id(message_id: str) -> str:
    """Return the id of a redriven message: `m` → `m~2` → `m~3`."""
    stem, mark, number = message_id.rpartition("~")
    if mark and number.isdecimal():
        return f"{stem}~{int(number) + 1}"
    return f"{message_id}~2"


def first_id(message_id: str) -> str:
    """Return the id that `next_id` has begun with."""
    stem, mark, number = message_id.rpartition("~")
    return stem if mark and number.isdecimal() else message_id


def address_of(row: MessageRow) -> Address:
    """Return the address that a message was accepted with."""
    way, _, name = row.address.partition(" ")
    if way == "start":
        process_type, _, key = name.partition(" under key ")
        return Address("start", key, process_type, row.process_id)
    return Address(way, name)


class Skip(msgspec.Struct, frozen=True, gc=False):
    """Let a paused process go on without the message that it paused on."""

    rules: Rules
    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> list[Note]:
        """Make it idle, and open its next turn.

        Raises:
            ProcessNotFound, IllegalTransition: there is no such process, or it is not paused on a message that failed.
        """
        handling = Handling(view, self.rules)
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None:
            raise ProcessNotFound(f"no process {self.process_id!r} in tenant {self.tenant_id}")
        if process.status != ProcessStatus.PAUSED:
            raise IllegalTransition(f"process {self.process_id!r} is {process.status}, not paused")
        if process.open_message is not None:
            raise IllegalTransition(f"process {self.process_id!r} is paused in the middle of {process.open_message!r}; resume it")
        view.update(key, replace(process, status=ProcessStatus.IDLE, note="", updated_at=view.now))
        handling.start_next(key)
        return handling.notes
