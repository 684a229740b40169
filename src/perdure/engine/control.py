"""What people ask of a process: to stop for good, to hold still, and to go on.

Source: engine.md, "Verbs of a turn", cancel; "States, memory, recovery".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.conversations.attributes import settle_attributes
from perdure.conversations.events import ProcessingFinished, encode_event
from perdure.conversations.tables import (
    EVENT,
    OVER,
    PROCESS,
    PROCESS_STATE,
    TURN,
    EventRow,
    ProcessRow,
    ProcessStateRow,
    ProcessStatus,
    TurnState,
)
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.engine.flush import cancelled_note, present
from perdure.engine.handling import Handling, message_key
from perdure.engine.notes import CancelAsked, Dropped, Held, Note, Resumed, Rules
from perdure.errors import IllegalTransition, ProcessCancelled, ProcessEnded, ProcessNotFound
from perdure.identity import checked_text
from perdure.messages.tables import MAILBOX, MessageRow, MessageStatus
from perdure.messages.writes import mailbox_of

replace = msgspec.structs.replace


class Control(msgspec.Struct, frozen=True, gc=False):
    """Something that people ask of one process."""

    rules: Rules
    tenant_id: str
    process_id: str

    @property
    def key(self) -> Key[ProcessRow]:
        """The key of the process."""
        return PROCESS.key(self.tenant_id, self.process_id)

    def reads(self) -> Iterable[Read]:
        """Name the process and its mailbox."""
        return self.key, MAILBOX.key(self.tenant_id, self.process_id)

    def process(self, view: View) -> ProcessRow:
        """Return the process. Raises ProcessNotFound."""
        process = view.get(self.key)
        if process is None or not process.process_type or process.status == ProcessStatus.REMOVED:
            raise ProcessNotFound(f"no process {self.process_id!r} in tenant {self.tenant_id}")
        return process

    def close_turn(self, view: View, process: ProcessRow, ref: str, *, note: str) -> MessageRow:
        """Let the open turn fail, and return its message; the caller moves the head of the process past the one event."""
        finished = encode_event(ProcessingFinished(ref, None, "error"))
        view.insert(EVENT.key(self.tenant_id, process.stream_no, process.head), EventRow(view.now, finished))
        turn = TURN.key(self.tenant_id, self.process_id, ref)
        view.update(turn, replace(present(view.get(turn)), state=TurnState.FINISHED, awaits="", outcome="error"))
        message = message_key(self.tenant_id, ref)
        row: MessageRow = present(view.get(message))
        view.update(message, replace(row, status=MessageStatus.DONE, note=note))
        return row


def checked_reason(text: str) -> str:
    """Return a reason as it is stored: one line of text, or nothing. Raises InvalidIdentifier."""
    return checked_text(text, what="reason", limit=limits.REASON_MAX) if text else ""


class CancelProcess(Control, frozen=True, gc=False):
    """Ask a process to stop for good. One without an open turn ends at once; `force` ends any, without running its code."""

    reason: str
    force: bool = False

    def decide(self, view: View) -> tuple[bool, list[Note]]:
        """Return whether this is the first request; another one changes nothing.

        Raises:
            ProcessNotFound: there is no such process.
        """
        handling = Handling(view, self.rules)
        process = self.process(view)
        if process.status in OVER:
            return False, handling.notes
        mailbox = mailbox_of(view, self.tenant_id, self.process_id)
        first = mailbox.cancelled is None
        if first:
            mailbox = replace(mailbox, last=mailbox.last + 1, cancelled=self.reason)
            view.update(MAILBOX.key(self.tenant_id, self.process_id), mailbox)
        if process.open_message is None:
            self._end(handling, process)
        elif self.force and self.rules.foreign:
            view.update(MAILBOX.key(self.tenant_id, self.process_id), replace(mailbox, cancelled=self.reason, forced=1))
            self._leave_to_owner(handling, process)
        elif self.force:
            self._end_turn(handling, process)
        elif first:
            if process.status == ProcessStatus.WAITING:
                view.update(self.key, replace(process, status=ProcessStatus.RUNNABLE, updated_at=view.now))
            handling.tell_engine()
            handling.notes.append(CancelAsked(self.tenant_id, self.process_id, self.reason, mailbox.last))
        return first, handling.notes

    def _end(self, handling: Handling, process: ProcessRow) -> None:
        if self.rules.foreign:  # only the engine knows which of its queued messages had a handler
            self._leave_to_owner(handling, process)
        else:
            handling.end_process(self.key, status=ProcessStatus.ENDED, note=cancelled_note(self.reason))

    def _leave_to_owner(self, handling: Handling, process: ProcessRow) -> None:
        # It has the process in memory, knows its handlers, and answers those who wait for it.
        handling.view.update(self.key, replace(process, status=ProcessStatus.RUNNABLE, updated_at=handling.view.now))
        handling.tell_engine()

    def _end_turn(self, handling: Handling, process: ProcessRow) -> None:
        view, ref = handling.view, process.open_message
        assert ref is not None, "a turn is open"
        note = cancelled_note(self.reason)
        row = self.close_turn(view, process, ref, note=note)
        view.update(self.key, replace(process, head=process.head + 1))
        self._go_back(view)
        handling.end_process(self.key, status=ProcessStatus.ENDED, note=note)
        handling.seal_error(self.tenant_id, ref, ProcessCancelled(f"process {self.process_id!r} was {note}"), asked=row.asked)
        handling.notes.append(Dropped(self.tenant_id, self.process_id))

    def _go_back(self, view: View) -> None:
        """The turn has failed: the process ends with the fields and attributes that the turn found."""
        state_key = PROCESS_STATE.key(self.tenant_id, self.process_id)
        state = view.get(state_key)
        if state is not None and state.saved != state.found:
            view.update(state_key, ProcessStateRow(state.found, state.found))
        settle_attributes(view, self.key, ok=False)


class PauseProcess(Control, frozen=True, gc=False):
    """Hold a process still: no turn of it goes on until it is resumed. What it has asked for before is finished and recorded."""

    reason: str

    def decide(self, view: View) -> tuple[bool, list[Note]]:
        """Return whether it was not paused before.

        Raises:
            ProcessNotFound, ProcessEnded: there is no such process, or nothing of it is left to hold.
            IllegalTransition: it is stuck or stranded: it does not go on anyway.
        """
        handling = Handling(view, self.rules)
        process = self.process(view)
        if process.status in OVER:
            raise ProcessEnded(f"process {self.process_id!r} is {process.status}; nothing of it is left to pause")
        if process.status in (ProcessStatus.STUCK, ProcessStatus.STRANDED):
            raise IllegalTransition(
                f"process {self.process_id!r} is {process.status}: it does not go on until its code fits; cancel it, or wait"
            )
        if process.status == ProcessStatus.PAUSED:
            handling.notes.append(Held(self.tenant_id, self.process_id))  # its owner may not have heard of it
            return False, handling.notes
        note = f"paused: {self.reason}" if self.reason else "paused"
        view.update(self.key, replace(process, status=ProcessStatus.PAUSED, note=note, updated_at=view.now))
        handling.tell_engine()
        handling.notes.append(Held(self.tenant_id, self.process_id))
        return True, handling.notes


class ResumeProcess(Control, frozen=True, gc=False):
    """Let a paused process go on; one that paused on a failed message goes on without it, one that is stuck is tried again."""

    def decide(self, view: View) -> list[Note]:
        """Make it runnable, or idle and open its next turn.

        Raises:
            ProcessNotFound, IllegalTransition: there is no such process, or it is neither paused nor stuck.
        """
        handling = Handling(view, self.rules)
        process = self.process(view)
        if process.status not in (ProcessStatus.PAUSED, ProcessStatus.STUCK):
            raise IllegalTransition(f"process {self.process_id!r} is {process.status}, neither paused nor stuck")
        open_turn = process.open_message is not None
        status = ProcessStatus.RUNNABLE if open_turn or self.rules.foreign else ProcessStatus.IDLE
        view.update(self.key, replace(process, status=status, note="", updated_at=view.now))
        handling.tell_engine()
        if open_turn:
            handling.notes.append(Resumed(self.tenant_id, self.process_id))
        elif not self.rules.foreign:
            handling.start_next(self.key)
        return handling.notes
