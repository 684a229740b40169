"""What people ask of a process: to stop for good, to hold still, and to go on.

Source: engine.md, "Verbs of a turn", cancel; "States, memory, recovery".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.conversations.tables import OVER, PROCESS, ProcessRow, ProcessStatus
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.engine.cancelling import end_now, note_request, obey
from perdure.engine.handling import Handling
from perdure.engine.notes import Held, Note, Resumed, Rules
from perdure.errors import IllegalTransition, ProcessEnded, ProcessNotFound
from perdure.identity import checked_text
from perdure.messages.tables import MAILBOX
from perdure.messages.writes import mailbox_of
from perdure.packages.writes import hold

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


def checked_reason(text: str) -> str:
    """Return a reason as it is stored: one line of text, or nothing. Raises InvalidIdentifier."""
    return checked_text(text, what="reason", limit=limits.REASON_MAX) if text else ""


class CancelProcess(Control, frozen=True, gc=False):
    """Ask a process to stop for good, and its children with it. One without an open turn ends at once.

    `force` ends this one, not its children, without running its code.
    """

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
        first = note_request(handling, self.key, self.reason)
        if process.open_message is None or not self.force:
            obey(handling, self.key, first=first)
        elif handling.foreign(process):
            mailbox = mailbox_of(view, self.tenant_id, self.process_id)
            view.update(MAILBOX.key(self.tenant_id, self.process_id), replace(mailbox, cancelled=self.reason, forced=1))
            handling.leave_to_owner(self.key)
        else:
            end_now(handling, self.key, self.reason)
        return first, handling.notes


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
            handling.tell_owner(self.key)  # who may not have heard of it
            handling.notes.append(Held(self.tenant_id, self.process_id))
            return False, handling.notes
        note = f"paused: {self.reason}" if self.reason else "paused"
        view.update(self.key, replace(process, status=ProcessStatus.PAUSED, note=note, updated_at=view.now))
        handling.tell_owner(self.key)
        handling.notes.append(Held(self.tenant_id, self.process_id))
        return True, handling.notes


class ResumeProcess(Control, frozen=True, gc=False):
    """Let a paused process go on; one that paused on a failed message goes on without it, one that is stuck or stranded is tried again."""

    def decide(self, view: View) -> list[Note]:
        """Make it runnable, or idle and open its next turn.

        Raises:
            ProcessNotFound, IllegalTransition: there is no such process, or it is neither paused, stuck nor stranded.
            PackageMissing: its version is not stored; nothing was written.
        """
        handling = Handling(view, self.rules)
        process = self.process(view)
        if process.status not in (ProcessStatus.PAUSED, ProcessStatus.STUCK, ProcessStatus.STRANDED):
            raise IllegalTransition(f"process {self.process_id!r} is {process.status}, neither paused nor stuck nor stranded")
        if process.package_hash is not None:
            hold(view, process.package_hash)
        open_turn = process.open_message is not None
        foreign = handling.foreign(process)
        status = ProcessStatus.RUNNABLE if open_turn or foreign else ProcessStatus.IDLE
        view.update(self.key, replace(process, status=status, note="", updated_at=view.now))
        handling.tell_owner(self.key)
        if open_turn:
            handling.notes.append(Resumed(self.tenant_id, self.process_id))
        elif not foreign:
            handling.start_next(self.key)
        return handling.notes
