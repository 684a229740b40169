"""Bringing messages to processes: pure decisions over the tables of several rooms.

Source: engine.md, "Addressing and delivery".
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import Event, MessageReceived, ProcessingStarted, encode_event
from perdure.conversations.tables import (
    EVENT,
    OVER,
    PROCESS,
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
from perdure.conversations.writes import age, new_process
from perdure.core.signals import elsewhere
from perdure.core.table import Key, Scan
from perdure.core.view import View
from perdure.engine.children import release_child
from perdure.engine.notes import Due, Envelope, FanOutBegun, Note, Receipt, Rules, Said, Sealed, ToLoad, TurnStarted
from perdure.engine.outcomes import encode_error
from perdure.engine.starting import place_of, version_for
from perdure.errors import (
    MessageConflict,
    MessageExpired,
    NoRoute,
    PerdureError,
    ProcessEnded,
    ProcessNotFound,
    UnknownProcessType,
    UsageError,
    WrongProcessType,
)
from perdure.flows.tables import FLOW, PLACE, PlaceRow
from perdure.flows.writes import CLOSED, UNLIMITED, Limits, ask, give_back, holds, next_of, pull
from perdure.identity import ProcessId, ProcessIdentity, TenantId
from perdure.messages.mail import Mail, reference, split_reference
from perdure.messages.tables import (
    FAN_OUT,
    INBOX,
    MAIL,
    MAILBOX,
    MESSAGE,
    PARKED,
    PARKING,
    FanOutRow,
    InboxRow,
    MessageRow,
    MessageStatus,
    ParkingRow,
)
from perdure.messages.writes import dead, enqueue, mark_addressed, tag_parking, under_key, under_tag, unqueue
from perdure.operations.contract import Outcome
from perdure.operations.tables import OPERATION, OperationRow
from perdure.operations.writes import seal_in
from perdure.packages.tables import TYPE
from perdure.replies import ENGINE, REPLY_KIND, MailArrived, answer_all
from perdure.routing.tables import KEY, MEMBERS
from perdure.routing.writes import bind_key, park_under, release, take_parked
from perdure.timers.tables import OF_PROCESS as TIMERS

replace = msgspec.structs.replace
SCOPE = "message"
NULL = b"null"


class Handling(msgspec.Struct, eq=False):
    """The decisions of one transaction, and the notes that they leave for the owner.

    Args:
        view: of the transaction.
        rules: what the app says.
    """

    view: View
    rules: Rules
    notes: list[Note] = []

    def accept(self, envelope: Envelope) -> Receipt:
        """Accept a message once and bring it where it belongs.

        Raises:
            MessageConflict: the id was accepted with other content.
            ProcessNotFound, ProcessEnded, MailboxFull: nobody can take it; not for an `inner` one, which becomes a dead letter.
        """
        key = envelope.key
        row = None if envelope.fresh else self.view.get(key)
        if row is not None:
            if row.status == MessageStatus.EXPIRED and not envelope.inner:
                raise expired(envelope)
            if row.digest != envelope.digest and row.status != MessageStatus.EXPIRED:
                raise MessageConflict(
                    f"message {envelope.message_id!r} (source {envelope.source!r}) was accepted with other content as a {row.kind!r}; "
                    f"a new message needs a new id"
                )
            return Receipt(duplicate=True, status=row.status, process_id=row.process_id, copies=row.copies)
        row = MessageRow(
            digest=envelope.digest,
            kind=envelope.kind,
            status=MessageStatus.DONE,
            address=str(envelope.address),
            tick=self.view.tick(),
            accepted_at=self.view.now,
            sender=envelope.sender,
            payload=envelope.payload,
            headers=envelope.headers,
        )
        if envelope.expires_at is not None:
            self.tell_engine()
        placed = self._delay(envelope, row) if envelope.available_at is not None else self.place(envelope, row)
        self.view.insert(key, placed, unseen=envelope.fresh)
        return Receipt(duplicate=False, status=placed.status, process_id=placed.process_id, copies=placed.copies)

    def _delay(self, envelope: Envelope, row: MessageRow) -> MessageRow:
        """Keep a message until it is due: it waits apart from all mailboxes, whatever becomes of its sender."""
        due = envelope.available_at
        assert due is not None, "it is delivered later"
        self.tell_engine()
        self.notes.append(Due(due))
        started = envelope.process_id if envelope.address.way == "start" else None
        return replace(row, status=MessageStatus.DELAYED, available_at=due, process_id=started)

    def place(self, envelope: Envelope, row: MessageRow) -> MessageRow:
        """Return the message's row with the place that it goes to."""
        tenant_id, address = envelope.tenant_id, envelope.address
        match address.way:
            case "tag":
                return self._to_tag(envelope, row)
            case "key":
                held = self._holder(tenant_id, address.name)
                if held is None:
                    park_under(self.view, tenant_id, address.name)
                    return replace(row, status=MessageStatus.PARKED, parked_under=under_key(address.name), expires_at=envelope.expires_at)
                return self.hand(envelope.key, replace(row, process_id=held, expires_at=envelope.expires_at), inner=envelope.inner)
            case "start":
                return self._to_started(envelope, row)
            case _:
                return self.hand(envelope.key, replace(row, process_id=address.name, expires_at=envelope.expires_at), inner=envelope.inner)

    def _holder(self, tenant_id: str, name: str) -> str | None:
        """Return who holds a key. What was parked before a caller of the registry bound it goes before what comes now."""
        row = self.view.get(KEY.key(tenant_id, name))
        if row is not None and row.process_id is not None and row.parked:
            self.hand_over(tenant_id, row.process_id, under_key(name))
        return None if row is None else row.process_id

    def _to_started(self, envelope: Envelope, row: MessageRow) -> MessageRow:
        tenant_id, address, process_id = envelope.tenant_id, envelope.address, envelope.process_id
        held = self._holder(tenant_id, address.name) if address.name else None
        if held is not None:
            process_id = held
        key = PROCESS.key(tenant_id, process_id)
        existing = None if envelope.fresh and held is None else self.view.get(key)
        if existing is not None and existing.process_type != address.process_type:
            error = WrongProcessType(f"{address}: process {process_id!r} is there and is a {existing.process_type or 'conversation'!r}")
            return self._refuse(envelope.key, replace(row, process_id=process_id), "wrong-process-type", error, inner=envelope.inner)
        if held is not None or existing is not None:
            return self.hand(envelope.key, replace(row, process_id=process_id, expires_at=envelope.expires_at), inner=envelope.inner)
        try:
            package = version_for(self.view, envelope, process_id)
        except PerdureError as error:  # the type is retired, or the package is gone
            return self._refuse(envelope.key, row, error.code, error, inner=envelope.inner)
        kinds = self._kinds(address.process_type, package)
        if kinds is None and package is None and not self.rules.foreign:
            unknown = UnknownProcessType(f"{address}: neither this app nor a deployed package has a process type {address.process_type!r}")
            return self._refuse(envelope.key, row, "no-handler", unknown, inner=envelope.inner)
        if kinds is not None and row.kind not in kinds:
            unhandled = NoRoute(f"{address}: {address.process_type!r} has no handler for {row.kind!r}, so nothing can start with it")
            return self._refuse(envelope.key, row, "no-handler", unhandled, inner=envelope.inner)
        return self._start_process(envelope, row, key, package=package)

    def _start_process(self, envelope: Envelope, row: MessageRow, key: Key[ProcessRow], *, package: str | None) -> MessageRow:
        """Make a process; the message is its first turn, as soon as there is a place for it."""
        tenant_id, address, process_id = envelope.tenant_id, envelope.address, str(key.parts[1])
        said = self.rules.types.get((address.process_type, package))
        try:
            place = place_of(said, row)
        except UsageError as error:
            return self._refuse(envelope.key, row, "flow-unknown", error, inner=envelope.inner)
        process = new_process(
            self.view, tenant_id, process_id, process_type=address.process_type, status=ProcessStatus.IDLE, package_hash=package
        )
        if said is not None and said.initial:
            state = PROCESS_STATE.key(tenant_id, process_id)
            assert self.view.get(state) is None, f"process {process_id} is new and has fields"
            self.view.insert(state, ProcessStateRow(said.initial, said.initial))
        if address.name:
            owner = bind_key(self.view, tenant_id, address.name, identity_of(tenant_id, process_id, process))
            assert owner == process_id, "the key was free"
            mark_addressed(self.view, tenant_id, process_id)
        self.view.insert(key, process, unseen=envelope.fresh)
        if self.rules.foreign:
            return self.hand(envelope.key, replace(row, process_id=process_id), inner=envelope.inner)
        if said is None or self.foreign(process):
            row = self.hand(envelope.key, replace(row, process_id=process_id), inner=envelope.inner)
            if address.name:
                self.hand_over(tenant_id, process_id, under_key(address.name))
            return row
        if place is not None and not self._may_begin(key, place):
            return self._queue(key, envelope.key, replace(row, process_id=process_id), inner=envelope.inner)
        # The message that starts a process is its first turn; what was parked for the key follows.
        row = self.begin_turn(key, envelope.key, replace(row, process_id=process_id))
        if address.name:
            self.hand_over(tenant_id, process_id, under_key(address.name))
        return row

    def _to_tag(self, envelope: Envelope, row: MessageRow) -> MessageRow:
        tenant_id, tag = envelope.tenant_id, envelope.address.name
        if self.view.scan(Scan(MEMBERS, (tenant_id, tag), 1)):
            fan_out = FAN_OUT.key(tenant_id, envelope.source, envelope.message_id)
            assert self.view.get(fan_out) is None, f"message {envelope.message_id} fans out once"
            self.view.insert(fan_out, FanOutRow(tag, row.tick, 0, "", 0))
            self.tell_engine()
            self.notes.append(FanOutBegun(tenant_id, envelope.source, envelope.message_id))
            return replace(row, status=MessageStatus.OPEN)
        if envelope.expires_at is None:
            self.seal_null(tenant_id, reference(envelope.source, envelope.message_id), asked=row.asked)
            return replace(row, copies=0, done_at=self.view.now, note="nobody was under the tag")
        guard, parking = tag_parking(self.view, tenant_id, tag)
        self.view.update(guard, ParkingRow(parking.parked + 1))
        return replace(row, status=MessageStatus.PARKED, parked_under=under_tag(tag), expires_at=envelope.expires_at)

    def _refuse(self, key: Key[MessageRow], row: MessageRow, reason: str, error: PerdureError, *, inner: bool) -> MessageRow:
        """Refuse a message, or make a dead letter of one that is accepted already."""
        if not inner:
            raise error
        self.seal_error(str(key.parts[0]), ref_of(key), error, asked=row.asked)
        return dead(self.view, key, replace(row, expires_at=None), reason=reason, detail=str(error))

    def hand(self, key: Key[MessageRow], row: MessageRow, *, inner: bool) -> MessageRow:
        """Give a message to the process that `row` names, and return its row: in an open turn, queued, or dead."""
        tenant_id, process_id = str(key.parts[0]), row.process_id
        assert process_id is not None, "it is known whose message it is"
        process_key = PROCESS.key(tenant_id, process_id)
        process = self.view.get(process_key)
        if process is None or not process.process_type or process.status in OVER:
            reason, error = _nobody(process_id, process)
            return self._refuse(key, row, reason, error, inner=inner)
        if (
            process.open_message is None
            and process.status == ProcessStatus.IDLE
            and not self.foreign(process)
            and not process.placed  # it waits for a place, and what started it goes first
            and (said := self.rules.of(process)) is not None
            and row.kind in said.kinds
        ):
            return self.begin_turn(process_key, key, row)
        return self._queue(process_key, key, row, inner=inner)

    def _queue(self, process_key: Key[ProcessRow], key: Key[MessageRow], row: MessageRow, *, inner: bool) -> MessageRow:
        """Put a message into the mailbox of its process; return its row."""
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        process = self.view.get(process_key)
        assert process is not None, "the process of a mailbox exists"
        wakes = False
        if process.status == ProcessStatus.WAITING and process.open_message is not None:
            turn = self.view.get(TURN.key(tenant_id, process_id, process.open_message))
            wakes = turn is not None and row.kind in turn.awaits.split("\n")
        # What a turn waits for is taken even if the mailbox is full of other things: nothing else would empty it.
        number = enqueue(self.view, tenant_id, process_id, refuse=not (inner or wakes))
        if wakes:
            self.view.update(process_key, replace(process, status=ProcessStatus.RUNNABLE, updated_at=self.view.now))
        handled = self.handles(process, row.kind)
        mail = Mail(number, str(key.parts[1]), str(key.parts[2]), row.kind, row.payload)
        self.notes.append(MailArrived(tenant_id, process_id, mail, wakes))
        if process.status == ProcessStatus.IDLE and (self.foreign(process) or (handled is not False and self.absent(process))):
            self.leave_to_owner(process_key)
        else:
            self.tell_owner(process_key)
        # What has a handler waits in line for it, as long as that takes.
        expires_at = None if handled else row.expires_at
        return replace(row, status=MessageStatus.QUEUED, mail_number=number, parked_under=None, expires_at=expires_at)

    def begin_turn(self, process_key: Key[ProcessRow], key: Key[MessageRow], row: MessageRow, *, at: Micros | None = None) -> MessageRow:
        """Open a turn for a message: two events, the turn's row, the process runnable. Returns the message's row, open.

        `at` is the turn's first instant: the store's time, unless its owner runs it already.
        """
        begun = self.view.now if at is None else at
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        process = self.view.get(process_key)
        assert process is not None, "the process of a turn exists"
        ref = ref_of(key)
        self._append(tenant_id, process, begun, MessageReceived(ref, row.accepted_at), ProcessingStarted(ref, 1))
        opened = replace(
            process,
            status=ProcessStatus.RUNNABLE,
            open_message=ref,
            turn_seq=process.head,
            head=process.head + 2,
            aging=1 if process.head else 0,
            updated_at=self.view.now,
        )
        self.view.update(process_key, opened)
        if process.head and not process.aging:
            age(self.view, tenant_id, process_id, AgingRow(Aging.TURNS, self.view.now))
        self.view.insert(TURN.key(tenant_id, process_id, ref), TurnRow(state=TurnState.STARTED, attempts=1), unseen=True)
        fields, said = None, self.rules.of(process)
        if said is None or said.initial:
            state = self.view.get(PROCESS_STATE.key(tenant_id, process_id))
            fields = state.found if state is not None else None if said is None else said.initial
        # A new process has no mail, unless it was started from where no app is: its mailbox is made when it first waits or is sent more.
        self.tell_owner(process_key)
        known = process.head or row.mail_number is not None
        mailbox = self.view.get(MAILBOX.key(tenant_id, process_id)) if known else None
        last, queued = (0, 0) if mailbox is None else (mailbox.last, mailbox.queued)
        self.notes.append(TurnStarted(tenant_id, process_id, opened, ref, row.kind, row.payload, fields, begun, last, queued))
        return replace(row, status=MessageStatus.OPEN, mail_number=None, parked_under=None, expires_at=None)

    def foreign(self, process: ProcessRow) -> bool:
        """Return whether another node owns a process, or this is decided where no app is."""
        return self.rules.foreign or not self.rules.owns(process.shard)

    def absent(self, process: ProcessRow) -> bool:
        """Return whether the version that a process is on has to be loaded before a turn of it can begin."""
        return process.package_hash is not None and self.rules.of(process) is None

    def leave_to_owner(self, process_key: Key[ProcessRow]) -> None:
        """Let the owner of an idle process go on with it, when that cannot be done here, or not yet."""
        process = self.view.get(process_key)
        assert process is not None, "the process is there"
        self.view.update(process_key, replace(process, status=ProcessStatus.RUNNABLE, updated_at=self.view.now))
        self.tell_owner(process_key)
        if process.package_hash is not None and not self.foreign(process):
            self.notes.append(ToLoad(str(process_key.parts[0]), str(process_key.parts[1]), process.process_type, process.package_hash))

    def handles(self, process: ProcessRow, kind: str) -> bool | None:
        """Return whether a process has a handler for a kind of message; None when nobody can tell here."""
        kinds = self._kinds(process.process_type, process.package_hash)
        if kinds is None:
            return None if self.absent(process) else False
        return kind in kinds

    def _kinds(self, process_type: str, package: str | None) -> Container[str] | None:
        """Return the kinds of message that start a turn: those of the code that is here, or of the manifest; None when nobody can tell here."""
        said = self.rules.types.get((process_type, package))
        if said is not None or package is None:
            return None if said is None else said.kinds
        row = self.view.get(TYPE.key(process_type, package))
        return None if row is None or row.kinds is None else row.kinds.split("\n")

    def tell_owner(self, process_key: Key[ProcessRow]) -> None:
        """Leave word for the owner of a process, when this is decided by somebody else."""
        process = self.view.get(process_key)
        assert process is not None, "the process is there"
        if self.foreign(process):
            inbox = INBOX.key(process_key.parts[0], process.shard, self.view.tick())
            self.view.insert(inbox, InboxRow(str(process_key.parts[1])))
            self._signal()

    def tell_engine(self) -> None:
        """Wake the engine that does what is nobody's, when this is decided by somebody else."""
        if not self.rules.leads:
            self._signal()

    def _signal(self) -> None:
        # An engine that leaves something for another has no part in it itself.
        self.view.signal(ENGINE if self.rules.foreign else elsewhere(ENGINE))

    def hand_over(self, tenant_id: str, process_id: str, parked_under: str) -> None:
        """Give a process what was parked for it, in order of acceptance."""
        way, _, name = parked_under.partition(" ")
        guard: Key[Any] = KEY.key(tenant_id, name) if way == "key" else PARKING.key(tenant_id, parked_under)
        taken = 0
        while rows := self.view.scan(Scan(PARKED, (tenant_id, parked_under), limits.FAN_OUT_CHUNK, guard=guard)):
            for key, row in rows:
                lasting = row.expires_at if way == "key" else None  # for a tag it is kept until somebody joins
                self.view.update(key, self.hand(key, replace(row, process_id=process_id, expires_at=lasting), inner=True))
            taken += len(rows)
        if taken and way == "key":
            take_parked(self.view, tenant_id, name, taken)
        elif taken:
            parking_key = PARKING.key(tenant_id, parked_under)
            parking = self.view.get(parking_key)
            assert parking is not None, "it counts what was parked"
            self.view.update(parking_key, ParkingRow(parking.parked - taken))

    def start_next(self, process_key: Key[ProcessRow]) -> None:
        """Open the next turn of an idle process out of its mailbox, if a queued message starts one."""
        process = self.view.get(process_key)
        assert process is not None, "an idle process exists"
        assert process.open_message is None, "one turn at a time"
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        if process.placed and not holds(self.view, tenant_id, process_id):
            return
        said = self.rules.of(process)
        if said is None and self.absent(process) and self.view.scan(Scan(MAIL, (tenant_id, process_id), 1)):
            self.leave_to_owner(process_key)
        if said is None:
            return
        after: tuple[Any, ...] | None = None
        look = limits.MAIL_LOOK
        while rows := self.view.scan(Scan(MAIL, (tenant_id, process_id), look, after=after)):
            look = limits.MAIL_WINDOW
            for key, row in rows:
                if row.kind == REPLY_KIND:  # nobody waits for it: the turn that asked is over
                    unqueue(self.view, tenant_id, process_id, 1)
                    self.view.delete(key)
                elif row.kind in said.kinds:
                    if not (process.head or process.placed) and not self._let_in(process_key, row):
                        return
                    unqueue(self.view, tenant_id, process_id, 1)
                    self.view.update(key, self.begin_turn(process_key, key, row))
                    return
            after = (rows[-1][1].mail_number,)

    # --- flow control ------------------------------------------------------------------------------------

    def _let_in(self, process_key: Key[ProcessRow], row: MessageRow) -> bool:
        """Return whether a process that was started from where no app is may begin; what its flow cannot tell does not hold it up."""
        process = self.view.get(process_key)
        assert process is not None, "it is to begin"
        try:
            place = place_of(self.rules.of(process), row)
        except UsageError:
            return True
        return place is None or self._may_begin(process_key, place)

    def _may_begin(self, process_key: Key[ProcessRow], place: PlaceRow) -> bool:
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        process = self.view.get(process_key)
        assert process is not None, "it is to begin"
        self.view.update(process_key, replace(process, placed=1))
        bounds = self._bounds(process.process_type, self.rules.of(process))
        begins = ask(self.view, tenant_id, process_id, place=place, bounds=bounds)
        if not begins:
            self._tell_when(tenant_id, place.process_type, place.flow_key)
        return begins

    def free(self, process_key: Key[ProcessRow]) -> None:
        """The first turn of a process is over, or will never be: give its place to the next."""
        process = self.view.get(process_key)
        assert process is not None, "it had a place"
        if not process.placed:
            return
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        self.view.update(process_key, replace(process, placed=0))
        place = self.view.get(PLACE.key(tenant_id, process_id))
        assert place is not None, "who is placed has a place"
        bounds = self._bounds(process.process_type, self.rules.of(process))
        self.begin_placed(tenant_id, give_back(self.view, tenant_id, process_id, bounds))
        self._tell_when(tenant_id, place.process_type, place.flow_key)
        self.tell_engine()

    def pull(self, tenant_id: str, process_type: str, flow_key: str) -> int:
        """Let those begin that there is room for; return how many."""
        begun = pull(self.view, FLOW.key(tenant_id, process_type, flow_key), self._bounds(process_type))
        self.begin_placed(tenant_id, begun)
        self._tell_when(tenant_id, process_type, flow_key)
        return len(begun)

    def begin_placed(self, tenant_id: str, process_ids: Iterable[str]) -> None:
        """Open the first turn of processes that have got a place."""
        for process_id in process_ids:
            key = PROCESS.key(tenant_id, process_id)
            process = self.view.get(key)
            assert process is not None, "who waits exists"
            if process.status == ProcessStatus.IDLE and self.foreign(process):
                self.leave_to_owner(key)
            elif process.status == ProcessStatus.IDLE:
                self.start_next(key)
            place = self.view.get(PLACE.key(tenant_id, process_id))
            if place is not None and place.flow_key:
                self._tell_when(tenant_id, place.process_type, place.flow_key)

    def _bounds(self, process_type: str, said: Said | None = None) -> Limits:
        """Return the limits of a type, or of one version of it; CLOSED when nobody knows them here: the engine looks for itself."""
        if self.rules.foreign:
            return CLOSED
        if said is not None:
            return UNLIMITED if said.flow is None else said.flow.limits
        return self.rules.limits.get(process_type, CLOSED)

    def _tell_when(self, tenant_id: str, process_type: str, flow_key: str) -> None:
        for key in {"", flow_key}:
            at = next_of(self.view.get(FLOW.key(tenant_id, process_type, key)))
            if at is not None and at > self.view.now:
                self.notes.append(Due(at))
                self.tell_engine()

    def end_process(self, process_key: Key[ProcessRow], *, status: str, note: str) -> None:
        """End a process: its addresses released, its timers gone, its mail answered, in this transaction."""
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        process = self.view.get(process_key)
        assert process is not None, "what ends exists"
        mailbox = self.view.get(MAILBOX.key(tenant_id, process_id))
        if mailbox is not None and mailbox.addressed:
            release(self.view, TenantId(tenant_id), ProcessId(process_id), guard=process_key)
        while process.timers and (timers := self.view.scan(Scan(TIMERS, (tenant_id, process_id), limits.READ_PAGE))):
            for timer, _ in timers:
                self.view.delete(timer)
        now = self.view.now
        ended = replace(process, status=status, note=note, open_message=None, timers=0, updated_at=now, over_at=now)
        self.view.update(process_key, ended)
        release_child(self.view, tenant_id, process_id, process)
        if mailbox is not None and mailbox.queued:
            self._return_mail(process_key, ended, mailbox.queued)
        self.free(process_key)

    def _return_mail(self, process_key: Key[ProcessRow], process: ProcessRow, queued: int) -> None:
        """Answer all that is in the mailbox of a process that has ended."""
        tenant_id, process_id = str(process_key.parts[0]), str(process_key.parts[1])
        error = ProcessEnded(f"process {process_id!r} is {process.status}; nothing more reaches it")
        count = 0
        while queued > count and (mail := self.view.scan(Scan(MAIL, (tenant_id, process_id), limits.MAIL_WINDOW))):
            for key, row in mail:
                if row.kind == REPLY_KIND:
                    self.view.delete(key)
                    continue
                reason = "no-handler" if self.handles(process, row.kind) is False else "process-ended"
                self.view.update(key, dead(self.view, key, replace(row, expires_at=None), reason=reason, detail=str(error)))
                self.seal_error(tenant_id, ref_of(key), error, asked=row.asked)
            count += len(mail)
        unqueue(self.view, tenant_id, process_id, count)

    def seal(self, tenant_id: str, ref: str, *, outcome: Outcome, response: bytes, root_type: str = "", asked: int) -> None:
        """Seal a message's reply, and send it to the turns that have `asked` for it; a reply that stands already stays."""
        if seal_in(self.view, operation_key(tenant_id, ref), response, outcome=outcome, root_type=root_type):
            self.notes.append(Sealed(tenant_id, ref, outcome, response))
            if asked:
                self.answer(tenant_id, ref, outcome=outcome, response=response)

    def answer(self, tenant_id: str, ref: str, *, outcome: Outcome, response: bytes) -> int:
        """Send a reply to the turns that wait for it, and return to how many."""
        before = len(self.notes)
        count = answer_all(self.view, self.notes, tenant_id, ref, outcome=outcome, response=response)
        for note in self.notes[before:]:
            assert isinstance(note, MailArrived), "a reply is mail"
            self.tell_owner(PROCESS.key(note.tenant_id, note.process_id))
        return count

    def seal_null(self, tenant_id: str, ref: str, *, asked: int) -> None:
        """Answer a message that has nothing to answer."""
        self.seal(tenant_id, ref, outcome="ok", response=NULL, asked=asked)

    def seal_error(self, tenant_id: str, ref: str, error: Exception, *, asked: int) -> None:
        """Answer a message that nobody handles."""
        self.seal(tenant_id, ref, outcome="error", response=encode_error(error), asked=asked)

    def _append(self, tenant_id: str, process: ProcessRow, at: Micros, *events: Event) -> None:
        """Append events at a process's head; the caller moves the head."""
        for offset, event in enumerate(events):
            self.view.insert(EVENT.key(tenant_id, process.stream_no, process.head + offset), EventRow(at, encode_event(event)))


def operation_key(tenant_id: str, ref: str) -> Key[OperationRow]:
    """Return the key of the operation that holds a message's sealed reply."""
    return OPERATION.key(tenant_id, SCOPE, ref)


def expired(envelope: Envelope) -> MessageExpired:
    """Return what the late duplicate of a message gets whose reply is kept no longer."""
    return MessageExpired(
        f"message {envelope.message_id!r} (source {envelope.source!r}) was accepted and done, and its reply is kept no longer; "
        f"nothing was done again; a new message needs a new id"
    )


def _nobody(process_id: str, process: ProcessRow | None) -> tuple[str, ProcessNotFound | ProcessEnded]:
    if process is None or not process.process_type:
        return "process-not-found", ProcessNotFound(f"no process {process_id!r}; address it by the key or id that it was started with")
    return "process-ended", ProcessEnded(f"process {process_id!r} is {process.status}; nothing more reaches it")


def ref_of(key: Key[MessageRow]) -> str:
    """Return the reference of the message with this key."""
    return reference(str(key.parts[1]), str(key.parts[2]))


def message_key(tenant_id: str, ref: str) -> Key[MessageRow]:
    """Return the key of the message with this reference."""
    return MESSAGE.key(tenant_id, *split_reference(ref))


def identity_of(tenant_id: str, process_id: str, process: ProcessRow) -> ProcessIdentity:
    """Return the identity of a process."""
    return ProcessIdentity(
        tenant_id=TenantId(tenant_id),
        process_id=ProcessId(process_id),
        process_type=process.process_type,
        package_hash=process.package_hash,  # type: ignore[arg-type]  # validated by the identity itself
    )
