"""Asking a process to stop, and its children with it: pages that follow one another, each a transaction, whatever crashes.

A child is asked in one of two ways. Those that were there when their parent was asked are gone through page by page, from a
row that is written with the request. One that its parent starts later, by code that had not heard of the request yet, ends
in the transaction that starts it. What the parent starts once it has heard is no child (`Process.spawn`).

Source: engine.md, "Verbs of a turn", cancel; docs/together.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import limits
from perdure.conversations.attributes import settle_attributes
from perdure.conversations.events import ProcessingFinished, encode_event
from perdure.conversations.tables import (
    CANCELLATION,
    CANCELLATIONS,
    CHILDREN,
    EVENT,
    OVER,
    PROCESS,
    PROCESS_STATE,
    TURN,
    CancellationRow,
    EventRow,
    ProcessRow,
    ProcessStateRow,
    ProcessStatus,
    TurnState,
)
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.engine.children import adopt
from perdure.engine.commanding import stop_command
from perdure.engine.handling import Handling, message_key
from perdure.engine.notes import CancelAsked, ChildrenToAsk, Dropped, Note, Receipt, Rules, TurnStarted
from perdure.errors import PerdureError, ProcessCancelled
from perdure.messages.tables import MAILBOX, WAITS, AwaitedReplyRow, MessageRow, MessageStatus
from perdure.messages.writes import mailbox_of
from perdure.replies import is_awakeable, is_command

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")
replace = msgspec.structs.replace


def cancelled_note(reason: str) -> str:
    """Return what a process says of its end."""
    return f"cancelled: {reason}" if reason else "cancelled"


def note_request(handling: Handling, key: Key[ProcessRow], reason: str, *, first: str | None = None) -> bool:
    """Note that a process was asked to stop, and return whether nobody had asked before; its children are asked after the commit.

    Args:
        handling: of the transaction.
        key: of the process.
        reason: why this one is to stop.
        first: the reason that was given with the first of all requests, if that was for another process.
    """
    view = handling.view
    tenant_id, process_id = str(key.parts[0]), str(key.parts[1])
    mailbox = mailbox_of(view, tenant_id, process_id)
    if mailbox.cancelled is not None:
        return False
    view.update(MAILBOX.key(tenant_id, process_id), replace(mailbox, last=mailbox.last + 1, cancelled=reason))
    if view.scan(Scan(CHILDREN, (tenant_id, process_id), 1, guard=key)):
        _begin_with_children(handling, key, reason if first is None else first)
    return True


def _begin_with_children(handling: Handling, key: Key[ProcessRow], reason: str) -> None:
    view, process, tick = handling.view, handling.view.get(key), handling.view.tick()
    assert process is not None, "it is asked to stop"
    row = CancellationRow(reason, since=process.stream_no, until=tick, after_id="", tick=tick)
    cancellation = CANCELLATION.key(*key.parts)
    if view.get(cancellation) is None:
        view.insert(cancellation, row)
    else:  # the process was restarted meanwhile, and is cancelled again
        view.update(cancellation, row)
    handling.tell_engine()
    handling.notes.append(ChildrenToAsk())


def obey(handling: Handling, key: Key[ProcessRow], *, first: bool) -> None:
    """Let a process do what it was asked for: end at once, or hear of it where its open turn waits."""
    view, process = handling.view, handling.view.get(key)
    tenant_id, process_id = str(key.parts[0]), str(key.parts[1])
    mailbox = mailbox_of(view, tenant_id, process_id)
    assert process is not None, "it was asked to stop"
    assert mailbox.cancelled is not None, "it was asked to stop"
    if process.open_message is None and handling.foreign(process):
        handling.leave_to_owner(key)  # only the engine knows which of its queued messages had a handler
    elif process.open_message is None:
        handling.end_process(key, status=ProcessStatus.ENDED, note=cancelled_note(mailbox.cancelled))
    elif first:
        status = ProcessStatus.RUNNABLE if process.status == ProcessStatus.WAITING else process.status
        # Also where nothing changes: a commit of its turn that starts a child meanwhile has to notice the request.
        view.update(key, replace(process, status=status, updated_at=view.now))
        handling.tell_owner(key)
        handling.notes.append(CancelAsked(tenant_id, process_id, mailbox.cancelled, mailbox.last))


def end_now(handling: Handling, key: Key[ProcessRow], reason: str) -> None:
    """End a process in the middle of its open turn, without running its code."""
    view, process = handling.view, handling.view.get(key)
    tenant_id, process_id = str(key.parts[0]), str(key.parts[1])
    assert process is not None, "a turn of it is open"
    ref, note = process.open_message, cancelled_note(reason)
    assert ref is not None, "a turn of it is open"
    commands = [waits for waits in _awaited(view, key, ref) if is_command(str(waits.parts[3]))]
    row = close_turn(view, key, process, note=note)
    view.update(key, replace(process, head=process.head + 1))
    _go_back(view, key)
    handling.end_process(key, status=ProcessStatus.ENDED, note=note)
    for waits in commands:
        view.delete(waits)
        stop_command(handling, tenant_id, str(waits.parts[1]), asked_by=process_id)
    handling.seal_error(tenant_id, ref, ProcessCancelled(f"process {process_id!r} was {note}"), asked=row.asked)
    handling.notes.append(Dropped(tenant_id, process_id))


def close_turn(view: View, key: Key[ProcessRow], process: ProcessRow, *, note: str) -> MessageRow:
    """Let the open turn fail, and return its message; the caller moves the head of the process past the one event."""
    tenant_id, process_id, ref = str(key.parts[0]), str(key.parts[1]), process.open_message
    assert ref is not None, "a turn of it is open"
    finished = encode_event(ProcessingFinished(ref, None, "error"))
    view.insert(EVENT.key(tenant_id, process.stream_no, process.head), EventRow(view.now, finished))
    turn_key, message = TURN.key(tenant_id, process_id, ref), message_key(tenant_id, ref)
    turn, row = view.get(turn_key), view.get(message)
    assert turn is not None, "an open turn has a row"
    assert row is not None, "an open turn has its message"
    view.update(turn_key, replace(turn, state=TurnState.FINISHED, awaits="", outcome="error"))
    view.update(message, replace(row, status=MessageStatus.DONE, note=note))
    _forget_awakeables(view, key, ref)
    return row


def _forget_awakeables(view: View, key: Key[ProcessRow], ref: str) -> None:
    """Nobody completes them any more. What was asked of others is answered all the same, and the answer dropped."""
    for waits in _awaited(view, key, ref):
        if is_awakeable(str(waits.parts[3])):
            view.delete(waits)


def _awaited(view: View, key: Key[ProcessRow], ref: str) -> Iterator[Key[AwaitedReplyRow]]:
    """Yield what a turn waits for."""
    after: tuple[Any, ...] | None = None
    while rows := view.scan(Scan(WAITS, key.parts, limits.READ_PAGE, after=after, guard=key)):
        yield from (waits for waits, row in rows if row.turn_ref == ref)
        after = WAITS.order_of(rows[-1][0].parts, rows[-1][1])


def _go_back(view: View, key: Key[ProcessRow]) -> None:
    """The turn has failed: the process ends with the fields and attributes that the turn found."""
    state_key = PROCESS_STATE.key(*key.parts)
    state = view.get(state_key)
    if state is not None and state.saved != state.found:
        view.update(state_key, ProcessStateRow(state.found, state.found))
    settle_attributes(view, key, ok=False)


def take_child(handling: Handling, parent: Key[ProcessRow], receipt: Receipt, message_id: str) -> None:
    """A turn's message was accepted: whom it has started is a child of the turn's process. If that one is to stop, the child never begins."""
    view, tenant_id, parent_id = handling.view, str(parent.parts[0]), str(parent.parts[1])
    if receipt.duplicate or receipt.process_id is None:  # somebody else has started it
        return
    if not adopt(view, tenant_id, parent_id, receipt.process_id, message_id=message_id):
        return
    mailbox = view.get(MAILBOX.key(tenant_id, parent_id))  # its absence is guarded by the parent's row: see `obey`
    if mailbox is not None and mailbox.cancelled is not None:
        _tell_parent(handling, parent)
        _stillborn(handling, PROCESS.key(tenant_id, receipt.process_id), f"its parent {parent_id} is cancelled")


def _stillborn(handling: Handling, key: Key[ProcessRow], reason: str) -> None:
    """End a process that this transaction has started. If it began, it could start children of its own before it hears."""
    process = handling.view.get(key)
    assert process is not None, "it was started"
    note_request(handling, key, reason)
    if process.open_message is None:  # it waits for a place
        obey(handling, key, first=True)
        return
    handling.notes[:] = [note for note in handling.notes if not (isinstance(note, TurnStarted) and note.ref == process.open_message)]
    end_now(handling, key, reason)


def _tell_parent(handling: Handling, key: Key[ProcessRow]) -> None:
    """Let a parent hear of its own request, which may come from where no app is, before replies of children that stop for it."""
    tenant_id, process_id = str(key.parts[0]), str(key.parts[1])
    process, mailbox = handling.view.get(key), handling.view.get(MAILBOX.key(tenant_id, process_id))
    if process is None or process.open_message is None or mailbox is None or mailbox.cancelled is None:
        return
    if process.status == ProcessStatus.RUNNABLE:
        # Without the number of the request: mail may have come since, which its owner has not seen.
        handling.tell_owner(key)
        handling.notes.append(CancelAsked(tenant_id, process_id, mailbox.cancelled, 0))


def _ask_child(handling: Handling, parent: Key[ProcessRow], child_id: str, reason: str) -> int:
    """Ask a child to stop, and return the number of rows that this may have changed."""
    view, tenant_id, parent_id = handling.view, str(parent.parts[0]), str(parent.parts[1])
    key = PROCESS.key(tenant_id, child_id)
    process = view.get(key)
    if process is None or process.status in OVER:
        return 1
    text = f"its parent {parent_id} was cancelled"
    first = note_request(handling, key, f"{text}: {reason}" if reason else text, first=reason)
    mailbox = mailbox_of(view, tenant_id, child_id)
    obey(handling, key, first=first)
    return 1 if process.open_message is not None else 1 + mailbox.queued  # one that ends answers its mail


class AskChildren(msgspec.Struct, frozen=True, gc=False):
    """Ask children of cancelled processes to stop, `limits.CANCEL_CHUNK` of them: first of the one that has waited longest for its next page.

    A family that is deep and narrow is gone through as quickly as a wide one, so a process that keeps starting others is caught up with.
    """

    rules: Rules

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> tuple[bool, list[Note]]:
        """Return whether there are more to ask, and what their owners have to do."""
        handling, left = Handling(view, self.rules), limits.CANCEL_CHUNK
        while left > 0 and (rows := view.scan(Scan(CANCELLATIONS, (), 1))):
            left -= self._page(handling, *rows[0], most=left)
        return left <= 0, handling.notes

    def _page(self, handling: Handling, key: Key[CancellationRow], row: CancellationRow, *, most: int) -> int:
        """Ask the next children of one process, and return how many rows were looked at or changed, at least 1."""
        view, parent = handling.view, PROCESS.key(*key.parts)
        _tell_parent(handling, parent)
        page = view.scan(Scan(CHILDREN, key.parts, most, after=(row.after_id,), guard=parent))
        after, done = row.after_id, 0
        for child, child_row in page:
            if done >= most:
                break
            after = str(child.parts[2])
            done += _ask_child(handling, parent, after, row.reason) if row.since <= child_row.at <= row.until else 1
        if len(page) == most or (page and after != page[-1][0].parts[2]):
            view.update(key, replace(row, after_id=after, tick=view.tick()))
        else:
            view.delete(key)
        return max(1, done)


class Cancelling:
    """Goes through the children of cancelled processes, one page at a time: nothing about them is only in memory."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._busy = False
        self._again = False

    def look(self) -> None:
        """Go on with what there is in the store."""
        if self._busy:
            self._again = True
        elif self._owner.is_open and self._owner.rules.leads:
            self._busy = True
            self._owner.submit(AskChildren(self._owner.rules), 0, self._asked)

    def _asked(self, results: Any, error: Exception | None) -> None:
        owner, self._busy = self._owner, False
        again, self._again = self._again, False
        if error is not None:
            logger.error("children of cancelled processes were not asked to stop: %s; a restart goes on with them", error)
            if isinstance(error, PerdureError) and error.retryable:
                owner.clock.call_at(owner.clock.now() + limits.STALL_US, partial(owner.later, self.look))
            return
        more, notes = results[0]
        owner.route(notes)
        if (more or again) and not self._busy:
            self.look()
