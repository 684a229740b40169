"""Running a turn again from one of its steps: in its own process, or in a new one.

The record before the step is copied into a new turn, whose code is replayed against it and then goes on. What the old turn had
sent by then is not sent again; the event `Restarted`, behind the copy, says so.

Source: engine.md, "Versions, operations, time", `restart_from`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.attributes import copy_attributes, settle_attributes
from perdure.conversations.events import (
    NO_INPUT,
    Bound,
    Event,
    MessageReceived,
    ProcessingStarted,
    Restarted,
    StepCompleted,
    decode_event,
    encode_event,
)
from perdure.conversations.tables import (
    EVENT,
    EVENTS,
    LOGS,
    OVER,
    PROCESS,
    PROCESS_LOG,
    PROCESS_STATE,
    TURN,
    Aging,
    AgingRow,
    EventRow,
    ProcessRow,
    ProcessStateRow,
    ProcessStatus,
    TurnRow,
    TurnState,
)
from perdure.conversations.writes import age, new_process, stream_name
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.engine.cancelling import close_turn
from perdure.engine.children import enlist
from perdure.engine.control import Control
from perdure.engine.flush import present
from perdure.engine.handling import Handling, identity_of, message_key
from perdure.engine.notes import Dropped, Note
from perdure.engine.redriving import address_of, next_id
from perdure.errors import IllegalTransition, KeyTaken, StepNotFound, TurnFailed, TurnTooLong
from perdure.identity import RegistryKey, TenantId
from perdure.messages.mail import reference
from perdure.messages.tables import MAILBOX, MESSAGE, MessageRow, MessageStatus
from perdure.messages.writes import mark_addressed
from perdure.packages.writes import hold
from perdure.routing.writes import bind_key
from perdure.timers.tables import OF_PROCESS as TIMERS

replace = msgspec.structs.replace
_Record = list[tuple[Micros, Event]]


class _FromStep(Control, frozen=True, gc=False):
    step: str

    def reads(self) -> Iterable[Read]:
        """Name the process and its fields."""
        return self.key, PROCESS_STATE.key(self.tenant_id, self.process_id)

    def turn(self, view: View, process: ProcessRow) -> tuple[str, _Record]:
        """Return the last turn: its message's reference, and the inputs that were recorded before the step.

        Raises:
            StepNotFound: it has no record of that name.
            IllegalTransition: there is no turn, or it ended well and the fields that it found are gone.
            TurnTooLong: too much would have to be copied.
            PackageMissing: the version of the process is not stored.
        """
        if process.package_hash is not None:
            hold(view, process.package_hash)
        if not process.head:
            raise IllegalTransition(f"process {self.process_id!r} has handled nothing yet")
        events = self._events(view, process)
        ref = events[0][1].message_id
        turn = view.get(TURN.key(self.tenant_id, self.process_id, ref))
        durable = view.get(PROCESS_STATE.key(self.tenant_id, self.process_id)) is not None
        if turn is None or (durable and turn.outcome == "ok"):
            raise IllegalTransition(
                f"process {self.process_id!r}: its last turn ended well, and the fields that it found are gone; "
                f"what can be run again is an open turn, a failed one, or that of a process without durable fields"
            )
        inputs: _Record = [(at, event) for at, event in events if not isinstance(event, NO_INPUT)]
        names = [getattr(event, "name", "") for _, event in inputs]
        if self.step not in names:
            there = ", ".join(dict.fromkeys(name for name in names if name)) or "none"
            raise StepNotFound(f"process {self.process_id!r}: its last turn has no record {self.step!r}; there are: {there}")
        return ref, inputs[: names.index(self.step)]

    def _events(self, view: View, process: ProcessRow) -> _Record:
        count = process.head - process.turn_seq
        if count > limits.RESTART_EVENTS_MAX:
            raise TurnTooLong(
                f"process {self.process_id!r}: {count:,} events in its last turn, {limits.RESTART_EVENTS_MAX:,} can be copied"
            )
        place, stream = (self.tenant_id, process.stream_no), stream_name(self.tenant_id, self.process_id)
        rows = view.scan(Scan(EVENTS, place, count, after=(process.turn_seq - 1,), upto=(process.head - 1,), guard=self.key))
        return [(row.at, decode_event(row.data, stream=stream, seq=process.turn_seq + n)) for n, (_, row) in enumerate(rows)]

    def begin(
        self, view: View, key: Key[ProcessRow], process: ProcessRow, *, message: tuple[str, str, MessageRow], record: _Record
    ) -> None:
        """Open a turn for the message with a copy of the record; the process is inserted or updated by it."""
        source, message_id, row = message
        ref, process_id = reference(source, message_id), str(key.parts[1])
        message_row_key = MESSAGE.key(self.tenant_id, source, message_id)
        assert view.get(message_row_key) is None, "its id is new"
        opened = replace(
            row,
            status=MessageStatus.OPEN,
            process_id=process_id,
            tick=view.tick(),
            accepted_at=view.now,
            mail_number=None,
            parked_under=None,
            expires_at=None,
            asked=0,
            note="",
        )
        view.insert(message_row_key, opened)
        begun: list[tuple[Micros, Event]] = [(view.now, MessageReceived(ref, view.now)), (view.now, ProcessingStarted(ref, 1))]
        events = begun + [(at, replace(event, message_id=ref)) for at, event in record]
        for offset, (at, event) in enumerate(events):
            view.insert(EVENT.key(self.tenant_id, process.stream_no, process.head + offset), EventRow(at, encode_event(event)))
        steps = sum(isinstance(event, StepCompleted) for _, event in record)
        turn_key = TURN.key(self.tenant_id, process_id, ref)
        assert view.get(turn_key) is None, "its message is new"
        view.insert(turn_key, TurnRow(state=TurnState.STARTED, attempts=1, steps=steps))
        fresh = replace(
            process,
            status=ProcessStatus.RUNNABLE,
            open_message=ref,
            turn_seq=process.head,
            head=process.head + len(events),
            timers=0,
            aging=1 if process.head else 0,
            note="",
            updated_at=view.now,
            over_at=None,
        )
        if view.get(key) is None:
            view.insert(key, fresh)
        else:
            view.update(key, fresh)
        if process.head and not process.aging:
            age(view, self.tenant_id, process_id, AgingRow(Aging.TURNS, view.now))


class RestartFrom(_FromStep, frozen=True, gc=False):
    """Run the last turn of a process again from a step, as a new message `<id>~2`; the sealed reply of the first stands."""

    def decide(self, view: View) -> tuple[str, list[Note]]:
        """Return the id of the new message.

        Raises:
            ProcessNotFound, StepNotFound, IllegalTransition, TurnTooLong: there is nothing to run again; the text says why.
            KeyTaken: a key that the turn had bound names another process by now.
        """
        handling = Handling(view, self.rules)
        ref, record = self.turn(view, self.process(view))
        settle_attributes(view, self.key, ok=False)
        process = self.process(view)
        message = message_key(self.tenant_id, ref)
        row, source = present(view.get(message)), str(message.parts[1])
        new_id = next_id(str(message.parts[2]))
        while view.get(MESSAGE.key(self.tenant_id, source, new_id)) is not None:
            new_id = next_id(new_id)
        if process.open_message is not None:
            process = self._close(handling, process, ref, new_id)
        elif process.status in OVER:
            self._bind_again(view, process, row, record)
            enlist(view, self.tenant_id, self.process_id, process)
        self._reset(view)
        record.append((view.now, Restarted(reference(source, new_id), self.process_id, ref)))
        self.begin(view, self.key, process, message=(source, new_id, row), record=record)
        handling.tell_owner(self.key)
        handling.notes.append(Dropped(self.tenant_id, self.process_id, reload=True))
        return new_id, handling.notes

    def _close(self, handling: Handling, process: ProcessRow, ref: str, new_id: str) -> ProcessRow:
        """End the open turn; return the process's row, which the caller updates."""
        view, text = handling.view, f"restarted from {self.step!r} as {new_id!r}"
        row = close_turn(view, self.key, process, note=text)
        handling.seal_error(self.tenant_id, ref, TurnFailed(f"process {self.process_id!r}: the turn was {text}"), asked=row.asked)
        while process.timers and (timers := view.scan(Scan(TIMERS, (self.tenant_id, self.process_id), limits.READ_PAGE, guard=self.key))):
            for timer, _ in timers:
                view.delete(timer)
        handling.free(self.key)
        return replace(process, head=process.head + 1, placed=0)

    def _bind_again(self, view: View, process: ProcessRow, row: MessageRow, record: Sequence[tuple[Micros, Event]]) -> None:
        """Give the process the keys back that were released when it ended, as far as the turn says which."""
        names = [event.key for _, event in record if isinstance(event, Bound) and not event.owner]
        address = address_of(row)
        if address.way == "start" and address.name:
            names.append(address.name)
        for name in dict.fromkeys(names):
            identity = identity_of(self.tenant_id, self.process_id, process)
            owner = bind_key(view, TenantId(self.tenant_id), RegistryKey(name), identity)
            if owner != self.process_id:
                raise KeyTaken(name, owner)
            mark_addressed(view, self.tenant_id, self.process_id)

    def _reset(self, view: View) -> None:
        """The turn begins with the fields that the old one found, and no request to stop stands against it."""
        state_key, mailbox_key = PROCESS_STATE.key(self.tenant_id, self.process_id), MAILBOX.key(self.tenant_id, self.process_id)
        state, mailbox = view.get(state_key), view.get(mailbox_key)
        if state is not None and state.saved != state.found:
            view.update(state_key, ProcessStateRow(state.found, state.found))
        if mailbox is not None and mailbox.cancelled is not None:
            view.update(mailbox_key, replace(mailbox, cancelled=None, forced=0))


class Fork(_FromStep, frozen=True, gc=False):
    """Run a copy of the last turn of a process from a step, in a new process without addresses; the first one is left as it is."""

    new_id: str

    def decide(self, view: View) -> list[Note]:
        """Make the process.

        Raises:
            ProcessNotFound, StepNotFound, IllegalTransition, TurnTooLong: there is nothing to copy, or the new id is taken.
        """
        handling = Handling(view, self.rules)
        process = self.process(view)
        ref, record = self.turn(view, process)
        key = PROCESS.key(self.tenant_id, self.new_id)
        if view.get(key) is not None or view.get(MESSAGE.key(self.tenant_id, "", self.new_id)) is not None:
            raise IllegalTransition(f"id {self.new_id!r} is taken, as a process's or a message's; choose another for the fork")
        state = view.get(PROCESS_STATE.key(self.tenant_id, self.process_id))
        if state is not None:
            fields = PROCESS_STATE.key(self.tenant_id, self.new_id)
            assert view.get(fields) is None, "its process is new"
            view.insert(fields, ProcessStateRow(state.found, state.found))
        self._copy_logs(view)
        row = present(view.get(message_key(self.tenant_id, ref)))
        copy = new_process(
            view,
            self.tenant_id,
            self.new_id,
            process_type=process.process_type,
            status=ProcessStatus.RUNNABLE,
            package_hash=process.package_hash,
        )
        copy = replace(copy, attributes=copy_attributes(view, self.key, key))
        record.append((view.now, Restarted(self.new_id, self.process_id, ref)))
        self.begin(view, key, copy, message=("", self.new_id, replace(row, address=f"process {self.new_id}")), record=record)
        handling.tell_owner(key)
        handling.notes.append(Dropped(self.tenant_id, self.new_id, reload=True))
        return handling.notes

    def _copy_logs(self, view: View) -> None:
        """The fields count the entries of logs: they are the new process's, too."""
        rows = view.scan(Scan(LOGS, (self.tenant_id, self.process_id), limits.RESTART_EVENTS_MAX + 1, guard=self.key))
        if len(rows) > limits.RESTART_EVENTS_MAX:
            raise TurnTooLong(
                f"process {self.process_id!r}: its logs have over {limits.RESTART_EVENTS_MAX:,} entries, so many cannot be copied"
            )
        for key, entry in rows:
            copied = PROCESS_LOG.key(self.tenant_id, self.new_id, *key.parts[2:])
            assert view.get(copied) is None, "its process is new"
            view.insert(copied, entry)
