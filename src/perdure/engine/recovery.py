"""Bringing processes back into memory: after a crash, for mail, for a timer; and the lane for those that crash the engine.

Source: engine.md, "States, memory, recovery"; "Poison".
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import (
    NO_INPUT,
    Event,
    ProcessingFinished,
    Restarted,
    decode_event,
    encode_event,
)
from perdure.conversations.tables import (
    CANCELLATIONS,
    EVENTS,
    PROCESS,
    PROCESS_STATE,
    RECOVERED,
    RUNNABLE,
    RUNNABLE_SHARDS,
    TURN,
    ProcessRow,
    ProcessStatus,
    TurnRow,
)
from perdure.conversations.writes import shard_of, stream_name
from perdure.core.table import Index, Scan
from perdure.engine.apart.remote import AnyHandler, AnyType
from perdure.engine.control import CancelProcess
from perdure.engine.endings import failed
from perdure.engine.flush import Finish, Flush, turn_keys
from perdure.engine.handling import message_key, operation_key
from perdure.engine.leaving import Resume, StartQueued, TakeOut, Wake
from perdure.engine.notes import LEADING, Sealed
from perdure.engine.persisting import until_done
from perdure.engine.resident import Resident
from perdure.engine.shards import with_rows
from perdure.engine.upkeep import HandOver
from perdure.engine.versions import UNLOADABLE
from perdure.errors import CorruptEvent, LeaseLost, PerdureError, PoisonMessage
from perdure.messages.mail import Mail, reference
from perdure.messages.tables import FAN_OUTS, KEPT_FOR_TAGS, LEFT, MAIL, MAILBOX, WAITS, MailboxRow
from perdure.messages.writes import under_key
from perdure.replies import is_awakeable
from perdure.routing.tables import MEMBERS, OWED
from perdure.timers.tables import OF_PROCESS as TIMERS

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")
_Key = tuple[str, str]


class Recovery:
    """Reads processes from the store and opens their turns where they were."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = owner.store.access.reader
        self._suspects: deque[_Key] = deque()
        self._suspect: _Key | None = None
        self._since: dict[int, Micros] = {}
        self._loading: set[str] = set()

    async def run(self) -> None:
        """Take up what was runnable when the last engine stopped; waiting processes cost nothing here."""
        await self.gained(frozenset(self._owner.ownership.shards))

    async def gained(self, shards: Collection[int]) -> None:
        """Take up what was runnable in shards when they became ours."""
        self._since.update(dict.fromkeys(shards, self._owner.clock.now()))
        # What was decided here while they were another's is committed with word for him: it is found by the looks that follow.
        await self._owner.store.access.writer.commit()
        await self.take_up(shards, first=True)
        await self._owner.reviving.revive(shards)
        if LEADING in shards:
            await self._hand_over_owed()
        self.next_suspect()

    async def _hand_over_owed(self) -> None:
        """Go on with cancelled processes' children and fan-outs, and give what is parked to those whom callers of the registry have put there."""
        if await self._reader.scan(Scan(CANCELLATIONS, (), 1)):
            self._owner.cancelling.look()
        for fan_out, _ in await self._reader.scan(Scan(FAN_OUTS, (), limits.QUEUE_MAX)):
            self._owner.fan_outs.go_on(*(str(part) for part in fan_out.parts))
        async for tenant_id, key in self._all(OWED):
            await self._hand_over(tenant_id, under_key(key))
        async for tenant_id, parked_under in self._all(KEPT_FOR_TAGS):
            _, _, tag = parked_under.partition(" ")
            if await self._reader.scan(Scan(MEMBERS, (tenant_id, tag), 1)):
                await self._hand_over(tenant_id, parked_under)

    async def _all(self, index: Index[Any]) -> AsyncIterator[tuple[str, str]]:
        after: tuple[Any, ...] | None = None
        while rows := await self._reader.scan(Scan(index, (), limits.READ_PAGE, after=after)):
            for key, _ in rows:
                yield str(key.parts[0]), str(key.parts[1])
            after = rows[-1][0].parts

    async def _hand_over(self, tenant_id: str, parked_under: str) -> None:
        notes = await self._owner.store.access.writer.run(HandOver(self._owner.rules, tenant_id, parked_under))
        self._owner.later(self._owner.route, notes)

    async def look(self) -> None:
        """Take up what others have left for us: another node, or a command line, say."""
        after: tuple[Any, ...] | None = None
        while rows := await self._reader.scan(Scan(LEFT, (), limits.INBOX_TAKEN, after=after)):
            last: Any = rows[-1][0].parts[1]
            # What was left for a node that died may be very much; its shards are passed over.
            after = LEFT.order_of(rows[-1][0].parts, rows[-1][1]) if self._owner.rules.owns(last) else (last,)
            ours = [(key, row) for key, row in rows if self._owner.rules.owns(int(str(key.parts[1])))]
            for tenant_id, process_id in dict.fromkeys((str(key.parts[0]), row.process_id) for key, row in ours):
                try:
                    await self._look_at(tenant_id, process_id)
                except LeaseLost:
                    logger.info("process %s is another node's by now, which takes it up", process_id)
            if ours:
                await self._owner.store.access.writer.run(TakeOut(self._owner.rules, [key for key, _ in ours]))
        if self._owner.rules.leads:
            await self._hand_over_owed()

    async def _look_at(self, tenant_id: str, process_id: str) -> None:
        process = await self._reader.get(PROCESS.key(tenant_id, process_id))
        resident = self._owner.residents.get((tenant_id, process_id))
        if process is not None and process.status in RECOVERED:
            await self._take_up(tenant_id, process_id, process, first=False)
        elif resident is not None and process is not None and process.status == ProcessStatus.PAUSED:
            self._owner.later(resident.hold)
        elif resident is not None and not resident.loading:
            self._owner.later(resident.roused)
            await self._overtaken(resident)
        elif resident is not None:
            resident.missed = True

    async def take_up(
        self,
        shards: Collection[int] | None = None,
        *,
        tenant_id: str | None = None,
        package: str | None = None,
        first: bool = False,
    ) -> None:
        """Queue what is runnable in the store, of one tenant, or package, or of all; of each, as many as the dispatcher takes.

        `first`: nothing of these shards has run here, so whatever is open was left behind by a crash, or has not begun.
        """
        async for shard in with_rows(self._reader, RUNNABLE_SHARDS, self._owner.ownership.shards if shards is None else shards):
            after: tuple[Any, ...] | None = None if tenant_id is None else (tenant_id, "")
            while rows := await self._reader.scan(Scan(RUNNABLE, (shard,), limits.READ_PAGE, after=after)):
                after = rows[-1][0].parts
                for key, process in rows:
                    tenant, process_id = str(key.parts[0]), str(key.parts[1])
                    if tenant_id not in (None, tenant):
                        after = None
                        break
                    if package not in (None, process.package_hash):
                        continue
                    left = first and (package is None or process.updated_at <= self._since.get(shard, 0))
                    try:
                        taken = await self._take_up(tenant, process_id, process, first=left)
                    except LeaseLost:
                        logger.info("process %s is another node's by now, which takes it up", process_id)
                        continue
                    if not taken:
                        after = (tenant,)  # go on with the next tenant's
                        break
                if after is None:
                    break

    async def _take_up(self, tenant_id: str, process_id: str, process: ProcessRow, *, first: bool) -> bool:
        """Take up one process. False: its tenant has too many that wait already."""
        resident = self._owner.residents.get((tenant_id, process_id))
        if resident is None or (process.open_message is None and resident.turn is None):  # it may be on its way out of memory
            return await self.recover(tenant_id, process_id, process, first=first)
        resident.missed = resident.missed or resident.loading
        if resident.turn is not None:  # something may have come for it
            self._owner.later(resident.roused)
            if process.open_message != resident.ref:
                await self._overtaken(resident)
        return True

    async def _overtaken(self, resident: Resident) -> None:
        """Read a process again whose open turn another has closed: who has restarted it from a command line, say.

        One with commits under way may be ahead of the store; those are refused if it was overtaken.
        """
        ref = resident.stored_ref
        process = await self._reader.get(PROCESS.key(resident.tenant_id, resident.process_id))

        def again() -> None:
            if ref == resident.stored_ref and not resident.left:
                self._owner.overtaken(resident)

        if ref is not None and process is not None and process.open_message != ref:
            self._owner.later(again)

    async def _answer_restarted(self, tenant_id: str, ref: str) -> None:
        """Tell who waits for the turns that were closed to be run again as this one: another may have sealed their replies."""
        for closed in self._owner.waiters.repetitions(tenant_id, ref):
            sealed = await self._reader.get(operation_key(tenant_id, closed))
            if sealed is not None and sealed.response is not None:
                self._owner.later(self._owner.route, [Sealed(tenant_id, closed, sealed.outcome, sealed.response)])

    async def recover(self, tenant_id: str, process_id: str, process: ProcessRow, *, first: bool) -> bool:
        """Go on with a process that is stored as runnable or stuck. False: its tenant has too many that wait already."""
        key = (tenant_id, process_id)
        if key == self._suspect or key in self._suspects:
            return True
        if not self._owner.versions.settled(process.package_hash):  # an import may take long, and others do not wait for it
            self._take_up_later(process, first=first)
            return True
        try:
            async with self._owner.versions.using(process.process_type, process.package_hash) as made:
                return await self._go_on(made, tenant_id, process_id, process, first=first)
        except UNLOADABLE as error:
            if not await self._end_forced(tenant_id, process_id, await self._reader.get(MAILBOX.key(*key))):
                asked = await self._asked(tenant_id, process_id, process)
                self._owner.later(partial(self._owner.strand, *key, process=process, asked=asked, error=error))
            return True

    async def _asked(self, tenant_id: str, process_id: str, process: ProcessRow) -> list[str]:
        """Return the messages whose replies do not come as long as a process does not go on: that of its turn, or what waits for it to begin."""
        if process.open_message is not None:
            return [process.open_message]
        mail = await self._reader.scan(Scan(MAIL, (tenant_id, process_id), limits.READ_PAGE))
        return [reference(str(key.parts[1]), str(key.parts[2])) for key, _ in mail]

    def _take_up_later(self, process: ProcessRow, *, first: bool) -> None:
        """Load a version, and then take up all that is runnable on it."""
        package = process.package_hash
        if package is not None and package not in self._loading:
            self._loading.add(package)
            work = until_done(self._owner, partial(self._take_up_on, package, process.process_type, first=first))
            self._owner.background(self._taken_up(package, work))

    async def _taken_up(self, package: str, work: Awaitable[None]) -> None:
        try:
            await work
        finally:
            self._loading.discard(package)

    async def _take_up_on(self, package: str, process_type: str, *, first: bool) -> None:
        try:
            async with self._owner.versions.using(process_type, package):
                await self.take_up(package=package, first=first)
        except UNLOADABLE:
            await self.take_up(package=package, first=first)  # they are stranded

    async def _go_on(self, made: AnyType | None, tenant_id: str, process_id: str, process: ProcessRow, *, first: bool) -> bool:
        if made is None:
            mailbox = await self._reader.get(MAILBOX.key(tenant_id, process_id))
            if not await self._end_forced(tenant_id, process_id, mailbox) and first:
                logger.error("process %s: this app has no process type %r; it stays as it is", process_id, process.process_type)
            return True
        if process.open_message is None:
            start = StartQueued(self._owner.rules, tenant_id, process_id)
            await self._owner.commit(start, lambda notes: notes, lease=self._owner.shards.lease_of(tenant_id, process_id))
            return True
        if first or process.updated_at < self._since.get(process.shard, 0):
            return await self._after_crash(made, tenant_id, process_id, process)
        return process.status != ProcessStatus.RUNNABLE or self._owner.load(tenant_id, process_id)

    async def _after_crash(self, made: AnyType, tenant_id: str, process_id: str, process: ProcessRow) -> bool:
        assert process.open_message is not None, "it has an open turn"
        message = await self._reader.get(message_key(tenant_id, process.open_message))
        if message is None or message.kind not in made.handlers:
            return self._owner.load(tenant_id, process_id)  # it says what is wrong
        turn = await self._reader.get(TURN.key(tenant_id, process_id, process.open_message))
        attempts = 0 if turn is None else turn.attempts
        if attempts >= limits.POISON_SOLO_AFTER + limits.POISON_ATTEMPTS:
            await self._poisoned(made.handlers[message.kind], tenant_id, process_id, process, attempts=attempts)
        elif attempts >= limits.POISON_SOLO_AFTER and process.status == ProcessStatus.RUNNABLE:
            self._suspects.append((tenant_id, process_id))
        else:
            return self._owner.load(tenant_id, process_id, crashed=True)
        return True

    # --- the poison lane -------------------------------------------------------------------------------

    def next_suspect(self) -> None:
        """Resume the next suspect, unless one is under way."""
        if self._suspect is None and self._suspects:
            self._suspect = self._suspects.popleft()
            logger.warning("process %s was open at several crashes; it is resumed alone", self._suspect[1])
            self.load(*self._suspect, crashed=True, alone=True)

    def forget(self, shards: Collection[int]) -> None:
        """Forget who was to be resumed alone in shards that are another's: they are his suspects."""
        count = self._owner.store.shards
        self._suspects = deque(key for key in self._suspects if shard_of(*key, shards=count) not in shards)
        if self._suspect is not None and shard_of(*self._suspect, shards=count) in shards:
            self.came_through()

    def came_through(self) -> None:
        """The suspect has ended its turn, or waits: the next one may begin."""
        self._suspect = None
        self.next_suspect()

    async def _poisoned(self, handler: AnyHandler, tenant_id: str, process_id: str, process: ProcessRow, *, attempts: int) -> None:
        assert process.open_message is not None, "it has an open turn"
        error = PoisonMessage(
            f"message {process.open_message!r}: the engine crashed {attempts} times while it was open; it is a dead letter"
        )
        logger.error("%s", error)
        end = failed(handler, error)
        status = ProcessStatus.IDLE if end.status == ProcessStatus.PAUSED else end.status
        finish = Finish(outcome="error", response=end.response, root_type="", status=status, text=end.text, reason="poison-message")
        timers = await self._timers(tenant_id, process_id, process)
        awakeables = await self._awakeables(tenant_id, process_id, process.open_message)
        now = self._owner.clock.now()
        flush = Flush(
            rules=self._owner.rules,
            keys=turn_keys(tenant_id, process_id, process.open_message),
            tenant_id=tenant_id,
            process_id=process_id,
            ref=process.open_message,
            head=process.head,
            now=now,
            events=[(now, encode_event(ProcessingFinished(process.open_message, None, "error")))],
            effects=[],
            effects_done=0,
            steps=0,
            arm={},
            disarm=list(timers),
            taken=[],
            undecodable=[],
            binds=[],
            fields=None,
            waiting=False,
            awaits="",
            mail_seen=0,
            finish=finish,
            next=None,
            forget=awakeables,
        )
        flushed = await self._owner.store.access.writer.run(flush, lease=self._owner.shards.lease_of(tenant_id, process_id))
        self._owner.later(self._owner.route, flushed.notes)

    # --- loading ---------------------------------------------------------------------------------------------

    def load(self, tenant_id: str, process_id: str, *, crashed: bool = False, alone: bool = False, wake: bool = False) -> None:
        """Read a process and go on with its open turn.

        Args:
            tenant_id: whose it is.
            process_id: which.
            crashed: the attempt is recorded first.
            alone: it is a suspect.
            wake: it waits and something is due: it is made runnable first.
        """
        owner, key = self._owner, (tenant_id, process_id)
        suspect = key in self._suspects or (key == self._suspect and not alone)  # its turn comes, or it is tried again
        if suspect or not owner.is_open or key in owner.residents:
            return
        if not owner.shards.mine(*key):
            if key == self._suspect:
                owner.later(self.came_through)
            return
        placeholder = Resident(owner, tenant_id, process_id)
        placeholder.loading = True
        placeholder.alone = alone
        placeholder.resumed = not crashed  # its attempt is counted already
        owner.residents[key] = placeholder
        owner.dispatcher.give_slot(placeholder)
        owner.background(self._load(placeholder, crashed=crashed, wake=wake))

    async def _load(self, resident: Resident, *, crashed: bool, wake: bool) -> None:
        owner, key = self._owner, (resident.tenant_id, resident.process_id)
        try:
            if wake and not resident.left:
                await owner.store.access.writer.run(Wake(*key), lease=resident.lease)
            elif not crashed:
                # Commits of the process that are under way still count: read before them, its steps would run again.
                await owner.store.access.writer.commit()
            if crashed and not resident.left:
                resident.resumed = True
                await owner.store.access.writer.run(Resume(*key), lease=resident.lease)
                crashed = False  # the attempt is recorded, whatever becomes of this look
            mailbox = await self._reader.get(MAILBOX.key(*key))
            opening = None if await self._end_forced(*key, mailbox) else await self._read(resident, mailbox)
        except Exception as error:  # an edge: whatever it is, it keeps neither the slot nor the lane
            if isinstance(error, LeaseLost):
                logger.info("process %s is another node's by now, which takes it up", resident.process_id)
            else:
                logger.exception("process %s cannot be loaded; others are not affected", resident.process_id)
            opening = None
            if isinstance(error, PerdureError) and error.retryable:
                clock = owner.clock
                again = partial(self.load, *key, crashed=crashed, alone=resident.alone, wake=wake)
                resident.alone = False  # it comes back: the next suspect waits until then
                clock.call_at(clock.now() + limits.STALL_US, partial(owner.later, again))
        if opening is None:
            owner.later(owner.unload, resident)
        else:
            owner.later(opening)

    async def read_on(self, resident: Resident, reading: object) -> None:
        """Read the next part of the mailbox of a process in memory."""
        owner = self._owner
        try:
            key = (resident.tenant_id, resident.process_id)
            stored = await self._reader.get(MAILBOX.key(*key))
            if await self._end_forced(*key, stored):
                return
            letters, mailbox, whole = await self._mail(resident, stored)
        except Exception as error:  # an edge: whatever it is, the mail is looked for again
            logger.exception("the mail of process %s cannot be read; others are not affected", resident.process_id)
            ended = isinstance(error, PerdureError) and not error.retryable
            if not ended and resident.window.reading is reading:
                resident.window.reading = None
                owner.clock.call_at(owner.clock.now() + limits.STALL_US, partial(owner.later, resident.roused))
            return
        owner.later(partial(resident.read, reading, letters, mailbox=mailbox, whole=whole))

    async def _end_forced(self, tenant_id: str, process_id: str, mailbox: MailboxRow | None) -> bool:
        """End a process for which another has asked that by force, and return whether one has: only its owner knows who waits for it."""
        if mailbox is None or mailbox.cancelled is None or not mailbox.forced:
            return False
        write = CancelProcess(self._owner.rules, tenant_id, process_id, mailbox.cancelled, force=True)
        _, notes = await self._owner.store.access.writer.run(write)
        self._owner.later(self._owner.route, notes)
        return True

    async def _read(self, resident: Resident, stored: MailboxRow | None) -> Any:
        """Return what opens the turn, or None when there is none to open."""
        tenant_id, process_id = resident.tenant_id, resident.process_id
        process = await self._reader.get(PROCESS.key(tenant_id, process_id))
        if process is None or process.open_message is None or process.status != ProcessStatus.RUNNABLE:
            return None
        try:
            async with self._owner.versions.using(process.process_type, process.package_hash) as made:
                return await self._opening(resident, process, stored, made)
        except UNLOADABLE as error:
            return partial(self._strand, resident, process, error)

    def _strand(self, resident: Resident, process: ProcessRow, error: PerdureError) -> None:
        owner, asked = self._owner, [process.open_message] if process.open_message is not None else []
        if not resident.left:
            owner.evict(resident)
            owner.strand(resident.tenant_id, resident.process_id, process=process, asked=asked, error=error)

    async def _opening(self, resident: Resident, process: ProcessRow, stored: MailboxRow | None, made: AnyType | None) -> Any:
        tenant_id, process_id, reader = resident.tenant_id, resident.process_id, self._reader
        assert process.open_message is not None, "it has an open turn"
        message = await reader.get(message_key(tenant_id, process.open_message))
        turn = await reader.get(TURN.key(tenant_id, process_id, process.open_message))
        if made is None or message is None or turn is None or message.kind not in made.handlers:
            logger.error("process %s: this app cannot handle its open message %r", process_id, process.open_message)
            return None
        state = await reader.get(PROCESS_STATE.key(tenant_id, process_id)) if made.durable else None
        events = await self._events(resident, process)
        if any(isinstance(event, Restarted) for _, event in events):
            await self._answer_restarted(tenant_id, process.open_message)
        timers = await self._timers(tenant_id, process_id, process)
        mail, mailbox, whole = await self._mail(resident, stored)
        found = None if state is None else state.found
        saved = None if state is None else state.saved
        at = events[0][0] if events else self._owner.clock.now()
        recorded = [(when, event) for when, event in events if not isinstance(event, NO_INPUT)]
        if not (resident.left or self._owner.versions.take(resident, process)):  # its interpreter has ended meanwhile
            return partial(self._owner.overtaken, resident)

        def opening() -> None:
            if resident.left:
                return
            clock = self._owner.clock
            begin = clock.now()
            resident.window.put(mail, last=mailbox.last, whole=whole)
            missed, resident.missed, resident.loading = resident.missed, False, False
            self._owner.goes_on(resident.tenant_id, resident.process_id)
            if mailbox.cancelled is not None:
                resident.cancel(mailbox.cancelled, mailbox.last)
            resident.open(
                process.open_message or "",
                message.kind,
                message.payload,
                head=process.head,
                at=at,
                found=found,
                attributes=process.attributes,
                saved=saved,
                recorded=recorded,
                timers=timers,
                effects_done=_effects(turn),
                more=bool(turn.more),
            )
            resident.replayed_in = clock.now() - begin
            for timer_id, due in timers.items():
                if due <= clock.now():
                    resident.due(timer_id, due)
                else:
                    self._owner.armed([due])
            if missed:  # another has asked something of it since its mail was read
                resident.roused()
                self._owner.background(self._overtaken(resident))

        return opening

    async def _events(self, resident: Resident, process: ProcessRow) -> list[tuple[int, Event]]:
        stream = stream_name(resident.tenant_id, resident.process_id)
        events: list[tuple[int, Event]] = []
        seq = process.turn_seq
        while seq < process.head:
            scan = Scan(EVENTS, (resident.tenant_id, process.stream_no), limits.READ_PAGE, after=(seq - 1,), upto=(process.head - 1,))
            rows = await self._reader.scan(scan)
            for key, row in rows:
                if key.parts[2] != seq:
                    break
                events.append((row.at, decode_event(row.data, stream=stream, seq=seq)))
                seq += 1
            else:
                if rows:
                    continue
            raise CorruptEvent(f"{stream}: event {seq} is missing; restore the store from a backup, other processes are not affected")
        return events

    async def _awakeables(self, tenant_id: str, process_id: str, ref: str) -> list[tuple[str, str]]:
        """Return those of an open turn that nobody has completed: token and operation."""
        found: list[tuple[str, str]] = []
        after: tuple[Any, ...] | None = None
        while rows := await self._reader.scan(Scan(WAITS, (tenant_id, process_id), limits.READ_PAGE, after=after)):
            of_turn = [key.parts for key, row in rows if row.turn_ref == ref and is_awakeable(str(key.parts[3]))]
            found += [(str(token), str(operation)) for _, token, _, operation in of_turn]
            after = WAITS.order_of(rows[-1][0].parts, rows[-1][1])
        return found

    async def _timers(self, tenant_id: str, process_id: str, process: ProcessRow) -> dict[str, Micros]:
        """Return what the store holds for an open turn, by id with due times."""
        timers: dict[str, Micros] = {}
        after: tuple[Any, ...] | None = None
        while len(timers) < process.timers:
            rows = await self._reader.scan(Scan(TIMERS, (tenant_id, process_id), limits.READ_PAGE, after=after))
            timers.update({str(key.parts[2]): row.due for key, row in rows})
            if len(rows) < limits.READ_PAGE:
                break
            after = rows[-1][0].parts[2:]
        return timers

    async def _mail(self, resident: Resident, stored: MailboxRow | None) -> tuple[list[Mail], MailboxRow, bool]:
        """Return the next messages for the window, the mailbox as it was before, and whether that is all."""
        key, window = (resident.tenant_id, resident.process_id), resident.window
        room = window.room  # a turn may take mail while we read
        if stored is None:
            return [], MailboxRow(), True
        if room <= 0:
            return [], stored, False
        rows = await self._reader.scan(Scan(MAIL, key, room, after=(window.seen,)))
        mail = [Mail(row.mail_number or 0, str(k.parts[1]), str(k.parts[2]), row.kind, row.payload) for k, row in rows]
        return mail, stored, len(rows) < room


def _effects(turn: TurnRow) -> int:
    return turn.effects
