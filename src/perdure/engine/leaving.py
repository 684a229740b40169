"""What the owner of a process notes when it takes it up, leaves it, wakes it, or finds that it cannot go on.

Source: engine.md, "States, memory, recovery".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.conversations.events import ErrorOccurred, ProcessingStarted, encode_event
from perdure.conversations.tables import EVENT, PROCESS, RECOVERED, TURN, EventRow, ProcessRow, ProcessStatus
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.engine.cancelling import cancelled_note
from perdure.engine.flush import present
from perdure.engine.handling import Handling
from perdure.engine.notes import Note, Rules
from perdure.messages.tables import InboxRow
from perdure.messages.writes import mailbox_of

replace = msgspec.structs.replace


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Begin an open turn again after a crash: the attempt is recorded before any of its code runs."""

    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> int | None:
        """Return the number of the attempt, or None when no turn is to go on: it was paused meanwhile, say."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or process.open_message is None or process.status not in RECOVERED:
            return None
        turn_key = TURN.key(self.tenant_id, self.process_id, process.open_message)
        turn = present(view.get(turn_key))
        attempt: int = turn.attempts + 1
        started = encode_event(ProcessingStarted(process.open_message, attempt))
        view.insert(EVENT.key(self.tenant_id, process.stream_no, process.head), EventRow(view.now, started))
        view.update(turn_key, replace(turn, attempts=attempt))
        view.update(key, replace(process, head=process.head + 1, status=ProcessStatus.RUNNABLE, note="", updated_at=view.now))
        return attempt


class Leave(msgspec.Struct, frozen=True, gc=False):
    """A clean stop with a turn under way: this attempt did not crash, so it does not count."""

    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> None:
        """Take the attempt back."""
        process = view.get(PROCESS.key(self.tenant_id, self.process_id))
        if process is not None and process.open_message is not None and process.status == ProcessStatus.RUNNABLE:
            key = TURN.key(self.tenant_id, self.process_id, process.open_message)
            turn = present(view.get(key))
            view.update(key, replace(turn, attempts=max(0, turn.attempts - 1)))


class Wake(msgspec.Struct, frozen=True, gc=False):
    """A waiting process is loaded because something is due: say so, that a crash finds it again."""

    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> None:
        """Make a waiting process runnable."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is not None and process.status == ProcessStatus.WAITING:
            view.update(key, replace(process, status=ProcessStatus.RUNNABLE, updated_at=view.now))


class MarkStuck(msgspec.Struct, frozen=True, gc=False):
    """Stop a process whose code does not fit its record; other code may go on with it."""

    tenant_id: str
    process_id: str
    ref: str
    text: str
    package: str | None

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> None:
        """Mark it, if that turn is still open on that code; a paused one is tried when it is resumed."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or (process.open_message, process.package_hash) != (self.ref, self.package):
            return
        if process.status != ProcessStatus.PAUSED:
            event = encode_event(ErrorOccurred(self.ref, self.text[: limits.ERROR_TEXT_MAX]))
            view.insert(EVENT.key(self.tenant_id, process.stream_no, process.head), EventRow(view.now, event))
            text = self.text[: limits.ERROR_TEXT_MAX]
            turn_key = TURN.key(self.tenant_id, self.process_id, self.ref)
            turn = present(view.get(turn_key))
            view.update(turn_key, replace(turn, attempts=max(0, turn.attempts - 1)))  # it was not a crash
            view.update(key, replace(process, status=ProcessStatus.STUCK, note=text, head=process.head + 1, updated_at=view.now))


class Strand(msgspec.Struct, frozen=True, gc=False):
    """Stop a process whose version cannot be loaded; its turn is as it was."""

    tenant_id: str
    process_id: str
    text: str
    package: str | None

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> ProcessRow | None:
        """Mark it, if it is still on that version and has something to go on with, and return it; None when it is not, or has not."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or process.package_hash != self.package:
            return None
        if process.status not in {ProcessStatus.RUNNABLE, ProcessStatus.STUCK, ProcessStatus.STRANDED}:
            return None
        stranded = replace(process, status=ProcessStatus.STRANDED, note=self.text[: limits.ERROR_TEXT_MAX], updated_at=view.now)
        view.update(key, stranded)
        return stranded


class Revive(msgspec.Struct, frozen=True, gc=False):
    """Let a stranded process go on: its version is loaded."""

    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> ProcessRow | None:
        """Return it, runnable again; None when it is not stranded any more."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or process.status != ProcessStatus.STRANDED:
            return None
        revived = replace(process, status=ProcessStatus.RUNNABLE, note="", updated_at=view.now)
        view.update(key, revived)
        return revived


class StartQueued(msgspec.Struct, frozen=True, gc=False):
    """Open the next turn of a process that was made runnable from where no app is."""

    rules: Rules
    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> list[Note]:
        """Open it, if none is open; what no handler is for stays queued."""
        handling = Handling(view, self.rules)
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is not None and process.status == ProcessStatus.RUNNABLE and process.open_message is None:
            cancelled = mailbox_of(view, self.tenant_id, self.process_id).cancelled
            if cancelled is not None:
                handling.end_process(key, status=ProcessStatus.ENDED, note=cancelled_note(cancelled))
            else:
                view.update(key, replace(process, status=ProcessStatus.IDLE, updated_at=view.now))
                handling.start_next(key)
        return handling.notes


class TakeOut(msgspec.Struct, frozen=True, gc=False):
    """Take word that was left for us out of the inbox: we have looked at those processes.

    What is another node's by now stays: that one has not looked since it came.
    """

    rules: Rules
    keys: list[Key[InboxRow]]

    def reads(self) -> Iterable[Read]:
        """Name them all."""
        return self.keys

    def decide(self, view: View) -> None:
        """Remove what is there."""
        for key in self.keys:
            if self.rules.owns(int(str(key.parts[1]))) and view.get(key) is not None:
                view.delete(key)
