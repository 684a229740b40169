"""A conversation in a caller's hands: what was recorded, and where to go on.

Source: contracts.md, 4. DurableConversation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NoReturn, Self, TypeVar

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.arguments import (
    chunks,
    error_occurred,
    message_received,
    processing_finished,
    processing_started,
    rehearse,
    size_of,
    step_completed,
)
from perdure.conversations.contract import ConversationState, Decision, OpenStore, ResumeFrom, Skip, Start
from perdure.conversations.events import UNREADABLE, CallerEvent, Event, MessageReceived, StepCompleted, decode_event
from perdure.conversations.lce1 import decode_lce1, encode_lce1
from perdure.conversations.state import SNAPSHOT_VERSION, Memory
from perdure.conversations.tables import EVENT, EVENTS, PROCESS, SNAPSHOT, ProcessRow
from perdure.conversations.writes import Known, Place, Receive, Record, Recorded, SaveSnapshot, stream_name
from perdure.core.table import Scan
from perdure.errors import CorruptEvent, HistoryCompacted, IllegalTransition, PayloadTooLarge, SequenceConflict, UsageError
from perdure.identity import DEFAULT_TENANT, ProcessId, TenantId

logger = logging.getLogger("perdure.conversations")
R = TypeVar("R")


class DurableConversation:
    """The record of how messages are processed, one append-only stream of events, and a handle on its end.

    A new handle believes that the conversation is empty; `recover` reads what is there. Whoever appends first wins:
    another handle gets SequenceConflict, is not changed by it, and may `refresh`. Calls on one handle follow one
    another. A cancelled call goes on to its end, and the handle follows what was written.

    A process that an engine runs can be recovered to look at its `state`; only its engine records in it.

    Args:
        conversation_id: its process id: 1 to 256 bytes of UTF-8 without control characters.
        store: an open store.
        tenant_id: whose it is.

    Raises:
        InvalidIdentifier: one of the ids breaks its rules.

    Source: contracts.md, 4. DurableConversation; seed 4.
    """

    def __init__(self, conversation_id: str, store: OpenStore, *, tenant_id: str = DEFAULT_TENANT) -> None:
        self._tenant_id = TenantId(tenant_id)
        self._process_id = ProcessId(conversation_id)
        self._access = store.access
        self._name = stream_name(self._tenant_id, self._process_id)
        self._memory = Memory(self._name)
        self._running: asyncio.Task[Any] | None = None

    @classmethod
    async def recover(cls, conversation_id: str, store: OpenStore, *, tenant_id: str = DEFAULT_TENANT) -> Self:
        """Return a handle that knows what was recorded; nothing is written.

        Reads the snapshot, if there is one, and the events after it; one that does not exist is empty.

        Raises:
            InvalidIdentifier: one of the ids breaks its rules.
            CorruptEvent: an event is missing, cannot be read or may not happen where it stands; the text names it. Other
                conversations are not affected.
            EventTooNew: a newer Perdure wrote an event; the text names the version.
            StoreUnavailable: the store is closed or poisoned.
        """
        conversation = cls(conversation_id, store, tenant_id=tenant_id)
        await conversation._read_snapshot()
        await conversation._read_tail()
        return conversation

    @property
    def conversation_id(self) -> str:
        """Its name within its tenant."""
        return self._process_id

    @property
    def state(self) -> ConversationState:
        """What is open, as far as this handle has read or written."""
        return self._memory.state

    @property
    def expected_seq(self) -> int:
        """The sequence that the next event gets, as far as this handle knows."""
        return self._memory.next_seq

    async def receive_message(self, message_id: str, received_at: Micros) -> Decision:
        """Say what a delivery of a message asks for, and record it if it is new.

        Args:
            message_id: 1 to 512 bytes of UTF-8 without control characters.
            received_at: the caller's own time, 0 to 2^64-1, never interpreted.

        Returns:
            `Skip(result)` when it is finished and `ResumeFrom(step_index, outputs)` when it was received, both without
            anything written; `Start()` when it was never seen and is now recorded.

        Raises:
            SequenceConflict: others have appended, and the message is not finished: what to resume from is not known here.
            IllegalTransition: an engine runs this process.
            InvalidIdentifier, UsageError: an argument breaks the rules above.
            StoreError: see `Store.commit`.
        """
        event = message_received(message_id, received_at)
        return await self._in_turn(lambda: self._receive(event))

    async def record_message_received(self, message_id: str, received_at: Micros) -> int:
        """Append that a message came; it has to be new. For arguments and errors see `receive_message`.

        Returns:
            The sequence of the event.

        Raises:
            SequenceConflict: others have appended; nothing was written.
            IllegalTransition: the message was received before; nothing was written.
        """
        return await self._record(message_received(message_id, received_at))

    async def record_processing_started(self, message_id: str) -> int:
        """Append that an attempt begins; the message has to be received and not finished.

        Returns:
            The sequence of the event.

        Raises:
            SequenceConflict: others have appended; nothing was written.
            IllegalTransition: it may not happen now; nothing was written.
        """
        return await self._record(processing_started(message_id))

    async def record_step_completed(self, message_id: str, step_index: int, output: bytes, *, name: str | None = None) -> int:
        """Append a step's output; the message has to be started. The same step with the same bytes again changes nothing.

        Args:
            message_id: whose step it is.
            step_index: the number of completed steps: no gaps, no repeats.
            output: up to 1 MiB.
            name: of the step, up to 256 bytes.

        Returns:
            The sequence of the event, or of the one that stands already.

        Raises:
            SequenceConflict: others have appended; nothing was written.
            IllegalTransition: it may not happen now, or the step has another output or name; nothing was written.
            TurnTooLong: the message has as many steps as one may have.
            PayloadTooLarge, UsageError, InvalidIdentifier: an argument breaks the rules above; nothing was written.
        """
        return await self._record(step_completed(message_id, step_index, output, name))

    async def record_processing_finished(self, message_id: str, result: bytes | None = None) -> int:
        """Append that a message is done, with what a later delivery of it shall get; the message has to be started.

        Returns:
            The sequence of the event.

        Raises:
            SequenceConflict: others have appended; nothing was written.
            IllegalTransition: it may not happen now; nothing was written.
            PayloadTooLarge, UsageError: `result` is over 1 MiB, or no bytes; nothing was written.
        """
        return await self._record(processing_finished(message_id, result))

    async def record_error(self, message_id: str, error: str) -> int:
        """Append that an attempt failed. The message stays open: a redelivery resumes, and attempts are counted.

        Returns:
            The sequence of the event.

        Raises:
            SequenceConflict: others have appended; nothing was written.
            IllegalTransition: the message was never received, or is finished; nothing was written.
            PayloadTooLarge, PayloadUnencodable: `error` is over 16 KiB, or no UTF-8; nothing was written.
        """
        return await self._record(error_occurred(message_id, error))

    async def refresh(self) -> None:
        """Read what others have appended since, and only that; for errors see `recover`."""
        await self._in_turn(self._read_tail)

    async def snapshot(self) -> int:
        """Store what `recover` then begins with. It is derived: deleting it changes only how much is read.

        Returns:
            The sequence that the stored snapshot reaches up to; it never goes back. 0 when there is nothing to store.

        Raises:
            SequenceConflict: the conversation has lost what this handle has read of it.
            PayloadTooLarge: too much is open for a snapshot of 1 MiB.
        """
        return await self._in_turn(self._save_snapshot)

    async def export_lce1(self) -> list[bytes]:
        """Return all events, from the first, as the bytes of LCE1; attempts, names, results and event times are left out.

        Raises:
            UsageError: an engine has recorded what LCE1 cannot say.
            CorruptEvent, EventTooNew: see `recover`.
            HistoryCompacted: an engine has removed the first events.
        """
        exported: list[bytes] = []

        def take(event: Event) -> None:
            if not isinstance(event, CallerEvent):
                raise UsageError(f"{self._name}: event {len(exported)} is a {type(event).__name__}, which LCE1 cannot say")
            exported.append(encode_lce1(event))

        await self._read(await self._process(), 0, take)
        return exported

    async def import_lce1(self, events: Iterable[bytes]) -> int:
        """Append the events of LCE1 bytes, in order; all are checked before the first is written.

        Large imports are written in several transactions. One that was interrupted is repeated with the same events,
        on a recovered handle: those that are there already are left out.

        Returns:
            `expected_seq` afterwards.

        Raises:
            PayloadInvalid: bytes are no event of LCE1.
            IllegalTransition: an event may not happen where it stands, or the conversation begins with others.
            SequenceConflict: others have appended.
            InvalidIdentifier, PayloadTooLarge: an event holds what a conversation may not.
        """
        decoded = [decode_lce1(data, what=f"event {number} of the import") for number, data in enumerate(events)]
        rehearse(decoded)
        return await self._in_turn(lambda: self._import(decoded))

    def __repr__(self) -> str:
        return f"<DurableConversation {self._name} at {self.expected_seq}>"

    def __reduce__(self) -> NoReturn:
        raise UsageError(f"{self._name}: a handle belongs to its open store and is not copied; recover another one")

    # --- one call after the other ------------------------------------------------------------------

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run `work` after what runs already, and to its end even if the caller is cancelled: memory follows the log."""
        while self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        task = self._running = asyncio.get_running_loop().create_task(work())
        task.add_done_callback(_heard)
        return await asyncio.shield(task)

    @property
    def _place(self) -> Place:
        return Place(self._tenant_id, self._process_id, self._memory.next_seq)

    async def _receive(self, event: MessageReceived) -> Decision:
        outcome = await self._access.writer.run(Receive(self._place, event))
        match outcome:
            case Skip():
                return outcome
            case Recorded():
                self._remember(outcome)
                return Start()
            case Known():
                steps = self._memory.steps_of(event.message_id)
                if len(steps) != outcome.steps:
                    raise CorruptEvent(f"{self._name}: message {event.message_id!r} has {outcome.steps} steps, its events say {len(steps)}")
                return ResumeFrom(step_index=outcome.steps, outputs=await self._outputs(steps))

    async def _record(self, event: CallerEvent) -> int:
        return await self._in_turn(lambda: self._append(event))

    async def _append(self, event: CallerEvent) -> int:
        same_step = None
        if isinstance(event, StepCompleted):
            steps = self._memory.steps_of(event.message_id)
            same_step = steps[event.step_index] if event.step_index < len(steps) else None
        recorded = await self._access.writer.run(Record(self._place, (event,), same_step), size=size_of(event))
        self._remember(recorded)
        return recorded.seq

    def _remember(self, recorded: Recorded) -> None:
        for offset, event in enumerate(recorded.events):
            self._memory.apply(recorded.seq + offset, event)

    async def _save_snapshot(self) -> int:
        if not self.expected_seq:
            return 0
        data = self._memory.snapshot()
        if len(data) > limits.SNAPSHOT_MAX:
            raise PayloadTooLarge(f"snapshot of {self._name}", size=len(data), limit=limits.SNAPSHOT_MAX)
        return await self._access.writer.run(SaveSnapshot(self._place, data), size=len(data))

    async def _import(self, events: Sequence[CallerEvent]) -> int:
        stands = await self.export_lce1()
        for number, data in enumerate(stands):
            if number == len(events) or encode_lce1(events[number]) != data:
                raise IllegalTransition(f"{self._name}: event {number} is not the imported one; import into an empty conversation")
        if len(stands) != self.expected_seq:
            raise SequenceConflict(stream=self._name, expected=self.expected_seq, found=len(stands))
        for chunk in chunks(events[len(stands) :]):
            recorded = await self._access.writer.run(Record(self._place, chunk), size=sum(map(size_of, chunk)))
            self._remember(recorded)
        return self.expected_seq

    # --- reading -----------------------------------------------------------------------------------

    async def _read_snapshot(self) -> None:
        row = await self._access.reader.get(SNAPSHOT.key(self._tenant_id, self._process_id))
        if row is None or row.version != SNAPSHOT_VERSION:
            return
        process = await self._access.reader.get(PROCESS.key(self._tenant_id, self._process_id))
        if process is None or process.head < row.seq:
            logger.warning("%s: its snapshot reaches further than its events; it is left out", self._name)
            return
        if row.seq < process.first:
            return
        try:
            self._memory.restore(row.data)
        except UNREADABLE as error:
            logger.warning("%s: its snapshot cannot be read and is left out: %s", self._name, error)

    async def _read_tail(self) -> None:
        # The process is read first: what it counts has to be there.
        process = await self._process()
        if process is not None and self._memory.next_seq < process.first:
            # Whole turns were removed, and nothing of them was open where the events begin now.
            self._memory = Memory(self._name, process.first)
        memory = self._memory
        await self._read(process, memory.next_seq, lambda event: memory.apply(memory.next_seq, event))

    async def _process(self) -> ProcessRow | None:
        return await self._access.reader.get(PROCESS.key(self._tenant_id, self._process_id))

    async def _read(self, process: ProcessRow | None, seq: int, take: Callable[[Event], None]) -> None:
        """Give each event from `seq` on to `take`, to the empty page: a short one is not the end.

        Raises:
            CorruptEvent, EventTooNew: the next one is missing or cannot be read.
            HistoryCompacted: it was removed.
        """
        head = 0 if process is None else process.head
        if head < seq:
            raise CorruptEvent(f"{self._name}: ends at {head}, {seq} events were read before; restore it from a backup")
        if process is None:
            return
        if seq < process.first:
            raise HistoryCompacted(f"{self._name}: the events before {process.first} were removed, by its retention")
        stream = (self._tenant_id, process.stream_no)
        while rows := await self._access.reader.scan(Scan(EVENTS, stream, limits.READ_PAGE, after=(seq - 1,))):
            for key, row in rows:
                if key.parts[2] != seq:
                    raise CorruptEvent(f"{self._name}: event {seq} is missing, the next is {key.parts[2]!r}; restore it from a backup")
                take(decode_event(row.data, stream=self._name, seq=seq))
                seq += 1
        if seq < head:
            raise CorruptEvent(f"{self._name}: event {seq} is missing, there should be {head}; restore it from a backup")

    async def _outputs(self, steps: Sequence[int]) -> tuple[bytes, ...]:
        process = await self._access.reader.get(PROCESS.key(self._tenant_id, self._process_id))
        assert process is not None, "a message was received in it"
        outputs = []
        for seq in steps:
            row = await self._access.reader.get(EVENT.key(self._tenant_id, process.stream_no, seq))
            event = None if row is None else decode_event(row.data, stream=self._name, seq=seq)
            if not isinstance(event, StepCompleted):
                raise CorruptEvent(f"{self._name}: event {seq} is missing, or no completed step any more; restore it from a backup")
            outputs.append(event.output)
        return tuple(outputs)


def _heard(task: asyncio.Task[Any]) -> None:
    # A caller that was cancelled does not hear of an error, and asyncio would complain: the handle is as it was before.
    if not task.cancelled():
        task.exception()
