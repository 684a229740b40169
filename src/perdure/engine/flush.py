"""Committing what a turn has made, and the other changes that only the owner of a process makes.

Source: engine.md, "Quiescence"; "States, memory, recovery".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.attributes import set_attribute, settle_attributes
from perdure.conversations.events import Bound, encode_event
from perdure.conversations.tables import (
    ATTRIBUTE,
    EVENT,
    PROCESS,
    PROCESS_LOG,
    PROCESS_STATE,
    TURN,
    EventRow,
    LogRow,
    ProcessRow,
    ProcessStateRow,
    ProcessStatus,
    TurnRow,
    TurnState,
)
from perdure.conversations.writes import stream_name
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.engine.asking import ask
from perdure.engine.cancelling import cancelled_note, take_child
from perdure.engine.commanding import send_command, stop_command
from perdure.engine.effects import (
    AskEffect,
    AttributeEffect,
    AwakeableEffect,
    CommandEffect,
    Effect,
    LogEffect,
    SendEffect,
    StopCommandEffect,
    TagEffect,
    UnbindEffect,
    UntagEffect,
)
from perdure.engine.handling import NULL, Handling, identity_of, message_key, operation_key
from perdure.engine.notes import Envelope, Note, Rules
from perdure.errors import PayloadInvalid, SequenceConflict, StoreBusy, StoreFull, StoreUnavailable
from perdure.identity import ProcessId, RegistryKey, Tag, TenantId
from perdure.messages.mail import Mail
from perdure.messages.tables import AWAITED_REPLY, MAILBOX, MailboxRow, MessageRow, MessageStatus
from perdure.messages.writes import dead, mailbox_of, mark_addressed, tag_parking, under_key, under_tag, unqueue
from perdure.operations.contract import Outcome
from perdure.operations.tables import OperationRow
from perdure.replies import Asker, await_completion
from perdure.routing.writes import add_tag, bind_key, remove_tag, unbind_key
from perdure.timers.tables import TIMER, TimerRow

replace = msgspec.structs.replace
HANDLER_FAILED: Final = "handler-failed"


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


class Flushed(msgspec.Struct, frozen=True):
    """What became of a flush: who owns the keys that were asked for, whether the process waits, and whether it is held still."""

    owners: list[tuple[str, str, str]]
    waits: bool
    held: bool
    notes: list[Note]


Talk = SendEffect | AskEffect | AwakeableEffect | CommandEffect | StopCommandEffect


class TurnKeys(msgspec.Struct, frozen=True, gc=False):
    """The keys of a turn's rows, made once: each commit of the turn asks for them again."""

    process: Key[ProcessRow]
    state: Key[ProcessStateRow]
    turn: Key[TurnRow]
    mailbox: Key[MailboxRow]
    message: Key[MessageRow]
    operation: Key[OperationRow]


def turn_keys(tenant_id: str, process_id: str, ref: str) -> TurnKeys:
    """Return the keys of the turn that handles `ref`."""
    return TurnKeys(
        PROCESS.key(tenant_id, process_id),
        PROCESS_STATE.key(tenant_id, process_id),
        TURN.key(tenant_id, process_id, ref),
        MAILBOX.key(tenant_id, process_id),
        message_key(tenant_id, ref),
        operation_key(tenant_id, ref),
    )


class Flush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that a turn has made up to a quiescence, as one transaction.

    `head` is the sequence it begins at. `fields` are the durable fields if they changed. `mail_seen` is the number of
    the last mail that the owner knows. `next` is the mail whose turn the owner runs already. `answers` are replies to
    taken messages, `replies` replies that the turn has taken in, `forget` awakeables that nobody completed (token and
    operation). `more`: it holds only the first of the quiescence's effects, another flush follows. `told`: the owner knows
    that the process was asked to stop.
    """

    rules: Rules
    keys: TurnKeys
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
    answers: dict[str, bytes] = {}
    replies: list[Mail] = []
    forget: list[tuple[str, str]] = []
    more: bool = False
    told: bool = False

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
            size += size_of(effect)
        for answer in self.answers.values():
            size += len(answer)
        return size if self.finish is None else size + len(self.finish.response)

    def reads(self) -> Iterable[Read]:
        """Name the rows that it surely looks at."""
        of = self.keys
        keys: list[Read] = [of.process]
        if self.finish is not None or self.waiting:
            keys += (of.turn, of.mailbox)
        if self.finish is not None:
            keys += (of.message, of.operation)
        for mail in self.replies:
            keys.append(message_key(self.tenant_id, mail.ref))
        if self.fields is not None:
            keys.append(of.state)
        for effect in self.effects:
            if isinstance(effect, AttributeEffect):
                keys.append(ATTRIBUTE.key(self.tenant_id, self.process_id, effect.name))
            elif isinstance(effect, CommandEffect):
                keys.append(of.message)
        return keys

    def decide(self, view: View) -> Flushed:
        """Write it all, and say what its owner has to do.

        Raises:
            SequenceConflict: the process is not where the turn left it: another owner has gone on with it.
        """
        handling = Handling(view, self.rules)
        key = self.keys.process
        process = view.get(key)
        if process is None or process.head != self.head or process.open_message != self.ref:
            found = -1 if process is None else process.head
            raise SequenceConflict(stream=stream_name(self.tenant_id, self.process_id), expected=self.head, found=found)
        seq = self.head
        for at, data in self.events:
            view.insert(EVENT.key(self.tenant_id, process.stream_no, seq), EventRow(at, data))
            seq += 1
        view.update(key, replace(process, head=seq, updated_at=view.now))
        if self.taken or self.undecodable or self.replies:
            self._take(handling)
        for effect in self.effects:
            self._effect(handling, key, effect)
        owners = [self._bind(handling, key, operation_id, name) for operation_id, name in self.binds] if self.binds else []
        if self.arm or self.disarm:
            self._timers(view, key)
        held = process.status == ProcessStatus.PAUSED
        if self.finish is None:
            return Flushed(owners, self._stay(view, key, held=held), held, handling.notes)
        if self.forget:
            self._forget(view)
        self._finish(handling, key, self.finish, held=held)
        return Flushed(owners, waits=False, held=held, notes=handling.notes)

    # --- parts ---------------------------------------------------------------------------------------

    def _take(self, handling: Handling) -> None:
        view = handling.view
        for mail in self.taken:
            key, row = self._queued(view, mail)
            view.update(key, replace(row, status=MessageStatus.DONE, mail_number=None, expires_at=None))
            handling.seal(self.tenant_id, mail.ref, outcome="ok", response=self.answers.get(mail.ref, NULL), asked=row.asked)
        for mail, text in self.undecodable:
            key, row = self._queued(view, mail)
            view.update(key, dead(view, key, replace(row, expires_at=None), reason="message-undecodable", detail=text))
            handling.seal_error(self.tenant_id, mail.ref, PayloadInvalid(text), asked=row.asked)
        for mail in self.replies:
            key = message_key(self.tenant_id, mail.ref)
            present(view.get(key))
            view.delete(key)
        unqueue(view, self.tenant_id, self.process_id, len(self.taken) + len(self.undecodable) + len(self.replies))

    def _queued(self, view: View, mail: Mail) -> tuple[Key[MessageRow], MessageRow]:
        """Return a message that the turn has taken, unless it has expired since its owner read it: then the turn is another without it."""
        key = message_key(self.tenant_id, mail.ref)
        row: MessageRow = present(view.get(key))
        if row.status != MessageStatus.QUEUED:
            raise SequenceConflict(stream=f"mailbox/{self.tenant_id}/{self.process_id}", expected=mail.number, found=-1)
        return key, row

    def _forget(self, view: View) -> None:
        """Nobody completed them, and now nobody can."""
        for token, operation_id in self.forget:
            key = AWAITED_REPLY.key(self.tenant_id, token, self.process_id, operation_id)
            if view.get(key) is not None:
                view.delete(key)

    def _effect(self, handling: Handling, key: Key[ProcessRow], effect: Effect) -> None:
        view, tenant, process = handling.view, TenantId(self.tenant_id), ProcessId(self.process_id)
        row = present(view.get(key))
        match effect:
            case SendEffect() | AskEffect() | AwakeableEffect() | CommandEffect() | StopCommandEffect():
                self._talk(handling, effect)
            case LogEffect():
                self._log(view, effect)
            case UnbindEffect():
                unbind_key(view, tenant, RegistryKey(effect.key), process)
            case TagEffect():
                if add_tag(view, tenant, Tag(effect.tag), identity_of(self.tenant_id, self.process_id, row)):
                    mark_addressed(view, self.tenant_id, self.process_id)
                    tag_parking(view, self.tenant_id, effect.tag)
                    handling.hand_over(self.tenant_id, self.process_id, under_tag(effect.tag))
            case UntagEffect():
                remove_tag(view, tenant, Tag(effect.tag), process)
            case AttributeEffect():
                set_attribute(view, key, effect.name, effect.value)

    def _talk(self, handling: Handling, effect: Talk) -> None:
        match effect:
            case SendEffect():
                receipt = handling.accept(self._envelope(handling.view, effect))
                if effect.child:
                    take_child(handling, self.keys.process, receipt, effect.message_id)
            case AskEffect():
                ask(handling, effect, self._envelope(handling.view, effect), self._asker(effect))
            case AwakeableEffect():
                await_completion(handling.view, handling.notes, effect.token, self._asker(effect))
            case CommandEffect():
                send_command(handling, effect, self._asker(effect))
            case StopCommandEffect():
                stop_command(handling, self.tenant_id, effect.command_id, asked_by=self.process_id)

    def _asker(self, effect: AskEffect | AwakeableEffect | CommandEffect) -> Asker:
        return Asker(self.tenant_id, self.process_id, self.ref, effect.operation_id)

    def _log(self, view: View, effect: LogEffect) -> None:
        """Write an entry where the log ends, over that of a turn that failed, if one was there."""
        key = PROCESS_LOG.key(self.tenant_id, self.process_id, effect.name, effect.seq)
        row = LogRow(self.now, effect.data)
        if view.get(key) is None:
            view.insert(key, row)
        else:
            view.update(key, row)

    def _envelope(self, view: View, effect: SendEffect | AskEffect) -> Envelope:
        address = effect.address
        process_id = address.process_id or (address.name if address.way == "process" else effect.message_id)
        return Envelope(
            tenant_id=self.tenant_id,
            source="",
            message_id=effect.message_id,
            digest=effect.digest if isinstance(effect, AskEffect) else b"",  # a derived id names its content
            kind=effect.kind,
            payload=effect.payload,
            address=address,
            process_id=process_id,
            available_at=effect.due if isinstance(effect, SendEffect) else None,
            inner=True,
            sender=self.process_id,
            package=present(view.get(self.keys.process)).package_hash,
        )

    def _bind(self, handling: Handling, key: Key[ProcessRow], operation_id: str, name: str) -> tuple[str, str, str]:
        view = handling.view
        row = present(view.get(key))
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
        shard = present(view.get(key)).shard
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
            row = present(view.get(key))
            view.update(key, replace(row, timers=row.timers + change))

    def _stay(self, view: View, key: Key[ProcessRow], *, held: bool) -> bool:
        """The turn goes on. It may wait only if its owner has seen all mail, by the counter, and has heard if it is to stop."""
        if self.fields is not None:
            state = self.keys.state
            before = view.get(state)
            if before is None:  # it was started from where no app is
                view.insert(state, ProcessStateRow(present(self.rules.of(present(view.get(key)))).initial, self.fields))
            else:
                view.update(state, ProcessStateRow(before.found, self.fields))
        row = present(view.get(key))
        waiting = self.waiting and self._has_heard(mailbox_of(view, self.tenant_id, self.process_id))
        if self.effects or self.waiting:
            turn = self.keys.turn
            stays = replace(present(view.get(turn)), steps=self.steps, effects=self.effects_done, more=int(self.more), awaits=self.awaits)
            view.update(turn, stays)
        status = ProcessStatus.WAITING if waiting else ProcessStatus.RUNNABLE
        if not held and row.status != status:
            view.update(key, replace(row, status=status))
        return waiting and not held

    def _has_heard(self, mailbox: MailboxRow) -> bool:
        told = (self.told or mailbox.cancelled is None) and not mailbox.forced
        return told and mailbox.last <= self.mail_seen

    def _finish(self, handling: Handling, key: Key[ProcessRow], finish: Finish, *, held: bool) -> None:
        view, ok, turn, message = handling.view, finish.outcome == "ok", self.keys.turn, self.keys.message
        done = replace(
            present(view.get(turn)),
            state=TurnState.FINISHED,
            steps=self.steps,
            effects=self.effects_done,
            more=0,
            awaits="",
            outcome=finish.outcome,
        )
        view.update(turn, done)
        row = replace(present(view.get(message)), status=MessageStatus.DONE, note=finish.text)
        if finish.reason:
            row = dead(view, message, row, reason=finish.reason, detail=finish.text)
        view.update(message, row)
        self._settle_fields(view, ok=ok)
        settle_attributes(view, key, ok=ok)
        if finish.status in (ProcessStatus.ENDED, ProcessStatus.FAILED):
            handling.end_process(key, status=finish.status, note=finish.text)
        else:
            self._go_on(handling, key, finish, held=held)
        handling.seal(
            self.tenant_id, self.ref, outcome=finish.outcome, response=finish.response, root_type=finish.root_type, asked=row.asked
        )

    def _go_on(self, handling: Handling, key: Key[ProcessRow], finish: Finish, *, held: bool) -> None:
        """The turn is over, the process is not: open its next turn, unless somebody has stopped it meanwhile."""
        handling.free(key)
        view, process = handling.view, present(handling.view.get(key))
        mailbox = mailbox_of(view, self.tenant_id, self.process_id)
        if mailbox.cancelled is not None:
            handling.end_process(key, status=ProcessStatus.ENDED, note=cancelled_note(mailbox.cancelled))
            return
        if held:
            view.update(key, replace(process, open_message=None))
            return
        note = "" if finish.outcome == "ok" else finish.text
        view.update(key, replace(process, status=finish.status, open_message=None, note=note))
        if self.next is not None:
            self._begin_next(handling, key, self.next)
        elif finish.status == ProcessStatus.IDLE and mailbox.last > self.mail_seen:
            handling.start_next(key)

    def _begin_next(self, handling: Handling, key: Key[ProcessRow], mail: Mail) -> None:
        view = handling.view
        message = message_key(self.tenant_id, mail.ref)
        row = present(view.get(message))
        unqueue(view, self.tenant_id, self.process_id, 1)
        view.update(message, handling.begin_turn(key, message, row, at=self.now))

    def _settle_fields(self, view: View, *, ok: bool) -> None:
        """A turn that failed goes back to the fields that it found."""
        state_key = self.keys.state
        said = self.rules.of(present(view.get(self.keys.process)))
        if said is None or not said.initial:
            return
        state = view.get(state_key)
        if state is None:
            if ok and self.fields is not None:
                view.insert(state_key, ProcessStateRow(self.fields, self.fields))
            return
        saved = (self.fields if self.fields is not None else state.saved) if ok else state.found
        if state != (settled := ProcessStateRow(saved, saved)):
            view.update(state_key, settled)


def present(row: Any) -> Any:
    """Return a row that an open turn cannot be without."""
    assert row is not None, "the row belongs to an open turn"
    return row


def may_come_later(error: Exception, *, stopped: bool) -> bool:
    """Return whether what was refused is worth another try: nothing of it was written, and the store has not `stopped`."""
    return isinstance(error, StoreFull | StoreBusy) or (isinstance(error, StoreUnavailable) and not stopped)


def size_of(effect: Effect) -> int:
    """Return an effect's payload in bytes."""
    if isinstance(effect, SendEffect | AskEffect):
        return len(effect.payload)
    if isinstance(effect, CommandEffect):
        return len(effect.params.data or b"")
    return len(effect.data) if isinstance(effect, LogEffect) else 0


def chunks(flush: Flush) -> list[Flush]:
    """Cut a flush with very many effects into several, to be committed in this order.

    The first holds records and fields, so that a replay between two of them finds the code where it stood. What waits,
    is armed or ends comes with the last.
    """
    groups = _groups(flush.effects)
    if len(groups) < 2:  # noqa: PLR2004  # one is the flush itself
        return [flush]
    ended = flush.events[-1:] if flush.finish is not None else []
    events = flush.events[:-1] if ended else flush.events
    done, head = flush.effects_done - len(flush.effects), flush.head + len(events)
    parts: list[Flush] = []
    for number, group in enumerate(groups, 1):
        done += len(group)
        first, last = number == 1, number == len(groups)
        part = replace(
            flush,
            head=flush.head if first else head,
            events=(events if first else []) + (ended if last else []),
            effects=group,
            effects_done=done,
            arm=flush.arm if last else {},
            disarm=flush.disarm if last else [],
            taken=flush.taken if first else [],
            answers=flush.answers if first else {},
            replies=flush.replies if first else [],
            undecodable=flush.undecodable if first else [],
            binds=flush.binds if last else [],
            fields=flush.fields if first else None,
            waiting=flush.waiting and last,
            awaits=flush.awaits if last else "",
            finish=flush.finish if last else None,
            next=flush.next if last else None,
            forget=flush.forget if last else [],
            more=not last,
        )
        parts.append(part)
    return parts


def _groups(effects: list[Effect]) -> list[list[Effect]]:
    groups: list[list[Effect]] = [[]]
    size = 0
    for effect in effects:
        size += size_of(effect)
        if groups[-1] and (len(groups[-1]) == limits.EFFECTS_CHUNK or size > limits.EFFECTS_CHUNK_BYTES):
            groups.append([])
            size = size_of(effect)
        groups[-1].append(effect)
    return groups
