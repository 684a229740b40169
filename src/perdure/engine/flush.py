"""Committing what a turn has made, and the other changes that only the owner of a process makes.

Source: engine.md, "Quiescence"; "States, memory, recovery".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import Bound, ErrorOccurred, ProcessingStarted, decode_event, encode_event
from perdure.conversations.tables import (
    EVENT,
    PROCESS,
    PROCESS_STATE,
    TURN,
    EventRow,
    ProcessRow,
    ProcessStateRow,
    ProcessStatus,
    TurnState,
)
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.engine.addressing import Address, Mail, reference
from perdure.engine.effects import Effect, SendEffect, TagEffect, UnbindEffect, UntagEffect
from perdure.engine.handling import Handling, identity_of, message_key, operation_key, ref_of
from perdure.engine.notes import NO_APP, Envelope, Note, Receipt, Rules
from perdure.errors import DeadLetterNotFound, IllegalTransition, MessageNotFound, PayloadInvalid, ProcessNotFound, SequenceConflict
from perdure.identity import ProcessId, RegistryKey, Tag, TenantId
from perdure.messages.tables import DEAD_LETTER, EXPIRING, MAILBOX, PARKING, MessageRow, MessageStatus, ParkingRow
from perdure.messages.writes import dead, mailbox_of, mark_addressed, tag_parking, under_key, under_tag, unqueue
from perdure.operations.contract import Outcome
from perdure.operations.tables import SCHEMA, SchemaRow
from perdure.routing.tables import KEY, MEMBERS
from perdure.routing.writes import add_tag, bind_key, find_owner, remove_tag, take_parked, unbind_key
from perdure.timers.tables import TIMER, TimerRow

replace = msgspec.structs.replace


class Finish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a turn ended.

    `status` is the process's from here on: idle, ended, failed or paused; `text` says why; with a `reason` the message
    becomes a dead letter.
    """

    outcome: Outcome
    response: bytes
    root_type: str
    status: str
    text: str = ""
    reason: str = ""


class Flush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that a turn has made up to a quiescence, as one transaction.

    `head` is the sequence it begins at. `fields` are the durable fields if they changed. `mail_seen` is the number of
    the last mail that the owner knows. `next` is the mail whose turn the owner runs already.
    """

    rules: Rules
    tenant_id: str
    process_id: str
    ref: str
    head: int
    now: Micros
    events: list[tuple[Micros, bytes]]
    effects: list[Effect]
    effects_done: int
    steps: int
    arm: dict[str, Micros]
    disarm: list[str]
    taken: list[Mail]
    undecodable: list[tuple[Mail, str]]
    binds: list[tuple[str, str]]
    fields: bytes | None
    waiting: bool
    awaits: str
    mail_seen: int
    finish: Finish | None
    next: Mail | None

    @property
    def moves_head(self) -> bool:
        """Whether one that was made to follow it finds out when this one is missing."""
        return bool(self.events or self.binds)

    @property
    def size(self) -> int:
        """Its payload in bytes."""
        size = 0 if self.fields is None else len(self.fields)
        for _, data in self.events:
            size += len(data)
        for effect in self.effects:
            if isinstance(effect, SendEffect):
                size += len(effect.payload)
        return size if self.finish is None else size + len(self.finish.response)

    def reads(self) -> Iterable[Read]:
        """Name the rows that it surely looks at."""
        keys: list[Read] = [PROCESS.key(self.tenant_id, self.process_id)]
        if self.finish is not None or self.waiting:
            keys += (TURN.key(self.tenant_id, self.process_id, self.ref), MAILBOX.key(self.tenant_id, self.process_id))
        if self.finish is not None:
            keys += (message_key(self.tenant_id, self.ref), operation_key(self.tenant_id, self.ref))
        if self.fields is not None:
            keys.append(PROCESS_STATE.key(self.tenant_id, self.process_id))
        return keys

    def decide(self, view: View) -> tuple[list[tuple[str, str, str]], bool, list[Note]]:
        """Write it all; the answer says who owns the keys that were asked for, whether the process waits, and what its owner has to do.

        Raises:
            SequenceConflict: the process is not where the turn left it: another owner has gone on with it.
        """
        handling = Handling(view, self.rules)
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or process.head != self.head or process.open_message != self.ref:
            found = -1 if process is None else process.head
            raise SequenceConflict(stream=f"process/{self.tenant_id}/{self.process_id}", expected=self.head, found=found)
        seq = self.head
        for at, data in self.events:
            view.insert(EVENT.key(self.tenant_id, process.stream_no, seq), EventRow(at, data))
            seq += 1
        view.update(key, replace(process, head=seq, updated_at=view.now))
        if self.taken or self.undecodable:
            self._take(handling)
        for effect in self.effects:
            self._effect(handling, key, effect)
        owners = [self._bind(handling, key, operation_id, name) for operation_id, name in self.binds] if self.binds else []
        if self.arm or self.disarm:
            self._timers(view, key)
        if self.finish is None:
            return owners, self._stay(view, key), handling.notes
        self._finish(handling, key, self.finish)
        return owners, False, handling.notes

    # --- parts ---------------------------------------------------------------------------------------

    def _take(self, handling: Handling) -> None:
        view = handling.view
        for mail in self.taken:
            key = message_key(self.tenant_id, mail.ref)
            row = _present(view.get(key))
            view.update(key, replace(row, status=MessageStatus.DONE, mail_number=None))
            handling.seal_null(self.tenant_id, mail.ref)
        for mail, text in self.undecodable:
            key = message_key(self.tenant_id, mail.ref)
            row = _present(view.get(key))
            view.update(key, dead(view, key, row, reason="message-undecodable", detail=text))
            handling.seal_error(self.tenant_id, mail.ref, PayloadInvalid(text))
        unqueue(view, self.tenant_id, self.process_id, len(self.taken) + len(self.undecodable))

    def _effect(self, handling: Handling, key: Key[ProcessRow], effect: Effect) -> None:
        view, tenant, process = handling.view, TenantId(self.tenant_id), ProcessId(self.process_id)
        row = _present(view.get(key))
        match effect:
            case SendEffect():
                handling.accept(self._envelope(effect))
            case UnbindEffect():
                unbind_key(view, tenant, RegistryKey(effect.key), process)
            case TagEffect():
                if add_tag(view, tenant, Tag(effect.tag), identity_of(self.tenant_id, self.process_id, row)):
                    mark_addressed(view, self.tenant_id, self.process_id)
                    tag_parking(view, self.tenant_id, effect.tag)
                    handling.hand_over(self.tenant_id, self.process_id, under_tag(effect.tag))
            case UntagEffect():
                remove_tag(view, tenant, Tag(effect.tag), process)

    def _envelope(self, effect: SendEffect) -> Envelope:
        address = effect.address
        process_id = address.process_id or (address.name if address.way == "process" else effect.message_id)
        return Envelope(
            tenant_id=self.tenant_id,
            source="",
            message_id=effect.message_id,
            digest=b"",  # a derived id names its content
            kind=effect.kind,
            payload=effect.payload,
            address=address,
            process_id=process_id,
            inner=True,
            sender=self.process_id,
        )

    def _bind(self, handling: Handling, key: Key[ProcessRow], operation_id: str, name: str) -> tuple[str, str, str]:
        view = handling.view
        row = _present(view.get(key))
        owner = bind_key(view, TenantId(self.tenant_id), RegistryKey(name), identity_of(self.tenant_id, self.process_id, row))
        other = "" if owner == self.process_id else owner
        event = encode_event(Bound(self.ref, operation_id, name, other))
        view.insert(EVENT.key(self.tenant_id, row.stream_no, row.head), EventRow(self.now, event))
        view.update(key, replace(row, head=row.head + 1))
        if not other:
            mark_addressed(view, self.tenant_id, self.process_id)
            handling.hand_over(self.tenant_id, self.process_id, under_key(name))
        return operation_id, name, other

    def _timers(self, view: View, key: Key[ProcessRow]) -> None:
        change = 0
        shard = _present(view.get(key)).shard
        for timer_id in self.disarm:
            timer = TIMER.key(self.tenant_id, self.process_id, timer_id)
            if view.get(timer) is not None:
                view.delete(timer)
                change -= 1
        for timer_id, due in self.arm.items():
            timer = TIMER.key(self.tenant_id, self.process_id, timer_id)
            armed = view.get(timer)
            if armed is None:
                view.insert(timer, TimerRow(due, shard))
                change += 1
            elif armed.due != due:
                view.update(timer, TimerRow(due, shard))
        if change:
            row = _present(view.get(key))
            view.update(key, replace(row, timers=row.timers + change))

    def _stay(self, view: View, key: Key[ProcessRow]) -> bool:
        """The turn goes on. It may wait only if its owner has seen all mail: the counter tells."""
        if self.fields is not None:
            state = PROCESS_STATE.key(self.tenant_id, self.process_id)
            before = view.get(state)
            if before is None:  # it was started from where no app is
                view.insert(state, ProcessStateRow(self.rules.initial[_present(view.get(key)).process_type], self.fields))
            else:
                view.update(state, ProcessStateRow(before.found, self.fields))
        row = _present(view.get(key))
        waiting = self.waiting and mailbox_of(view, self.tenant_id, self.process_id).last <= self.mail_seen
        if waiting or self.effects or self.waiting:
            turn = TURN.key(self.tenant_id, self.process_id, self.ref)
            view.update(turn, replace(_present(view.get(turn)), steps=self.steps, effects=self.effects_done, awaits=self.awaits))
        status = ProcessStatus.WAITING if waiting else ProcessStatus.RUNNABLE
        if row.status != status:
            view.update(key, replace(row, status=status))
        return waiting

    def _finish(self, handling: Handling, key: Key[ProcessRow], finish: Finish) -> None:
        view, tenant_id, process_id, ok = handling.view, self.tenant_id, self.process_id, finish.outcome == "ok"
        turn = TURN.key(tenant_id, process_id, self.ref)
        done = replace(
            _present(view.get(turn)),
            state=TurnState.FINISHED,
            steps=self.steps,
            effects=self.effects_done,
            awaits="",
            outcome=finish.outcome,
        )
        view.update(turn, done)
        message = message_key(tenant_id, self.ref)
        row = replace(_present(view.get(message)), status=MessageStatus.DONE, note=finish.text)
        if finish.reason:
            row = dead(view, message, row, reason=finish.reason, detail=finish.text)
        view.update(message, row)
        self._settle_fields(view, ok=ok)
        if finish.status in (ProcessStatus.ENDED, ProcessStatus.FAILED):
            handling.end_process(key, status=finish.status, note=finish.text)
        else:
            view.update(key, replace(_present(view.get(key)), status=finish.status, open_message=None, note="" if ok else finish.text))
            if self.next is not None:
                self._begin_next(handling, key, self.next)
            elif finish.status == ProcessStatus.IDLE and mailbox_of(view, tenant_id, process_id).last > self.mail_seen:
                handling.start_next(key)
        handling.seal(tenant_id, self.ref, outcome=finish.outcome, response=finish.response, root_type=finish.root_type)

    def _begin_next(self, handling: Handling, key: Key[ProcessRow], mail: Mail) -> None:
        view = handling.view
        message = message_key(self.tenant_id, mail.ref)
        row = _present(view.get(message))
        unqueue(view, self.tenant_id, self.process_id, 1)
        view.update(message, handling.begin_turn(key, message, row, at=self.now))

    def _settle_fields(self, view: View, *, ok: bool) -> None:
        """A turn that failed goes back to the fields that it found."""
        state_key = PROCESS_STATE.key(self.tenant_id, self.process_id)
        if not self.rules.initial.get(_present(view.get(PROCESS.key(self.tenant_id, self.process_id))).process_type):
            return
        state = view.get(state_key)
        if state is None:
            if ok and self.fields is not None:
                view.insert(state_key, ProcessStateRow(self.fields, self.fields))
            return
        saved = (self.fields if self.fields is not None else state.saved) if ok else state.found
        if state != (settled := ProcessStateRow(saved, saved)):
            view.update(state_key, settled)


def _present(row: Any) -> Any:
    assert row is not None, "the row belongs to an open turn"
    return row


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Begin an open turn again after a crash: the attempt is recorded before any of its code runs."""

    tenant_id: str
    process_id: str

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> int | None:
        """Return the number of the attempt, or None when no turn is open."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or process.open_message is None:
            return None
        turn_key = TURN.key(self.tenant_id, self.process_id, process.open_message)
        turn = _present(view.get(turn_key))
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
            turn = _present(view.get(key))
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

    def reads(self) -> Iterable[Read]:
        """Name the process."""
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> None:
        """Mark it, if that turn is still open."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is not None and process.open_message == self.ref:
            event = encode_event(ErrorOccurred(self.ref, self.text[: limits.ERROR_TEXT_MAX]))
            view.insert(EVENT.key(self.tenant_id, process.stream_no, process.head), EventRow(view.now, event))
            text = self.text[: limits.ERROR_TEXT_MAX]
            turn_key = TURN.key(self.tenant_id, self.process_id, self.ref)
            turn = _present(view.get(turn_key))
            view.update(turn_key, replace(turn, attempts=max(0, turn.attempts - 1)))  # it was not a crash
            view.update(key, replace(process, status=ProcessStatus.STUCK, note=text, head=process.head + 1, updated_at=view.now))


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
        address, process_id = _address_of(row), row.process_id or self.process_id
        process = view.get(PROCESS.key(self.tenant_id, process_id)) if address.way == "start" else None
        if process is not None and process.status in (ProcessStatus.ENDED, ProcessStatus.FAILED):
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
        if process is None or not self._paused_on_it(view, process):
            return handling.accept(envelope)
        # The process waits for a person's word on this very message: it goes before everything queued.
        fresh = replace(row, status=MessageStatus.OPEN, note="", tick=view.tick(), accepted_at=view.now)
        begun = handling.begin_turn(process_key, envelope.key, fresh)
        assert view.get(envelope.key) is None, "redriven once"
        view.insert(envelope.key, begun)
        return Receipt(duplicate=False, status=begun.status, process_id=begun.process_id)

    def _paused_on_it(self, view: View, process: ProcessRow) -> bool:
        if process.status != ProcessStatus.PAUSED or process.open_message is not None:
            return False
        first = _present(view.get(EVENT.key(self.tenant_id, process.stream_no, process.turn_seq)))
        event = decode_event(first.data, stream=f"process/{self.tenant_id}", seq=process.turn_seq)
        return event.message_id == reference(self.source, self.message_id)


def next_id(message_id: str) -> str:
    """Return the id of a redriven message: `m` → `m~2` → `m~3`."""
    stem, mark, number = message_id.rpartition("~")
    if mark and number.isdecimal():
        return f"{stem}~{int(number) + 1}"
    return f"{message_id}~2"


def _address_of(row: MessageRow) -> Address:
    way, _, name = row.address.partition(" ")
    if way == "start":
        process_type, _, key = name.partition(" under key ")
        return Address("start", key, process_type, row.process_id)
    return Address(way, name)


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
            view.update(key, replace(process, status=ProcessStatus.IDLE, updated_at=view.now))
            handling.start_next(key)
        return handling.notes


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
            ProcessNotFound, IllegalTransition: there is no such process, or it is not paused.
        """
        handling = Handling(view, self.rules)
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None:
            raise ProcessNotFound(f"no process {self.process_id!r} in tenant {self.tenant_id}")
        if process.status != ProcessStatus.PAUSED:
            raise IllegalTransition(f"process {self.process_id!r} is {process.status}, not paused")
        view.update(key, replace(process, status=ProcessStatus.IDLE, note="", updated_at=view.now))
        handling.start_next(key)
        return handling.notes


class ExpireParked(msgspec.Struct, frozen=True, gc=False):
    """Make dead letters of parked messages whose time is over."""

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> tuple[bool, list[Note]]:
        """Return whether there may be more."""
        handling = Handling(view, NO_APP)
        rows = view.scan(Scan(EXPIRING, (), limits.FAN_OUT_CHUNK, upto=(view.now,)))
        for key, row in rows:
            tenant_id = str(key.parts[0])
            assert row.parked_under is not None, "a parked message says where"
            way, _, name = row.parked_under.partition(" ")
            if way == "key":
                assert view.get(KEY.key(tenant_id, name)) is not None, "the key's row counts what is parked"
                take_parked(view, TenantId(tenant_id), RegistryKey(name), 1)
            else:
                guard = PARKING.key(tenant_id, row.parked_under)
                view.update(guard, ParkingRow(_present(view.get(guard)).parked - 1))
            text = f"nobody was at {row.parked_under!r} in time"
            view.update(key, dead(view, key, replace(row, expires_at=None), reason="expired", detail=text))
            handling.seal_error(tenant_id, ref_of(key), ProcessNotFound(text))
        return len(rows) == limits.FAN_OUT_CHUNK, handling.notes


class HandOver(msgspec.Struct, frozen=True, gc=False):
    """Give what is parked under a key or tag to whom a caller of the registry has put there."""

    rules: Rules
    tenant_id: str
    parked_under: str

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> list[Note]:
        """Hand it over, if somebody is there by now."""
        handling = Handling(view, self.rules)
        way, _, name = self.parked_under.partition(" ")
        if way == "key":
            owner = find_owner(view, self.tenant_id, name)
        else:
            members = view.scan(Scan(MEMBERS, (self.tenant_id, name), 1))
            owner = str(members[0][0].parts[2]) if members else None
        if owner is not None:
            handling.hand_over(self.tenant_id, owner, self.parked_under)
        return handling.notes


class PutSchemas(msgspec.Struct, frozen=True, gc=False):
    """Store the schemas of an app's replies, so that what is sealed can be read for as long as it is kept."""

    documents: dict[str, bytes]

    def reads(self) -> Iterable[Read]:
        """Name them all."""
        return [SCHEMA.key(hash) for hash in self.documents]

    def decide(self, view: View) -> None:
        """Add those that are missing; a hash names its document."""
        for hash, document in self.documents.items():
            if view.get(SCHEMA.key(hash)) is None:
                view.insert(SCHEMA.key(hash), SchemaRow(document))
