"""The decisions of conversations: recording by hand, snapshots, and what the engine's own transactions are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from perdure import limits
from perdure.conversations.contract import Skip
from perdure.conversations.events import CallerEvent, Event, MessageReceived, StepCompleted, encode_event
from perdure.conversations.state import SNAPSHOT_VERSION, next_turn, numbered
from perdure.conversations.tables import (
    AGING,
    EVENT,
    PROCESS,
    SNAPSHOT,
    TURN,
    AgingRow,
    EventRow,
    ProcessRow,
    ProcessStatus,
    SnapshotRow,
    TurnState,
)
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.errors import IllegalTransition, SequenceConflict, UsageError
from perdure.identity import RESERVED_ID_PREFIX

replace = msgspec.structs.replace


def shard_of(tenant_id: str, process_id: str, shards: int = limits.SHARDS) -> int:
    """Return the shard of a process: the first 8 bytes of SHA-256 over tenant, NUL, process id, modulo `shards`.

    Source: architecture.md, "More than one machine".
    """
    digest = hashlib.sha256(f"{tenant_id}\0{process_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards


def new_process(
    view: View, tenant_id: str, process_id: str, *, process_type: str, status: str, package_hash: str | None = None
) -> ProcessRow:
    """Return the row of a new process, which the caller inserts; its stream gets its number here."""
    return ProcessRow(
        process_type=process_type,
        package_hash=package_hash,
        status=status,
        stream_no=view.tick(),
        shard=shard_of(tenant_id, process_id),
        created_at=view.now,
        updated_at=view.now,
    )


def append_events(view: View, process_key: Key[ProcessRow], row: ProcessRow, events: Sequence[Event]) -> ProcessRow:
    """Insert events at the head of a process's stream; return the row with its head moved, which the caller updates."""
    tenant_id, stream_no, seq, now = process_key.parts[0], row.stream_no, row.head, view.now
    for event in events:
        view.insert(EVENT.key(tenant_id, stream_no, seq), EventRow(now, encode_event(event)))
        seq += 1
    return replace(row, head=seq, updated_at=now)


def age(view: View, tenant_id: str, process_id: str, row: AgingRow) -> None:
    """Say what there is to remove of a process; its own row, which the caller updates, says that this one is there."""
    key = AGING.key(tenant_id, process_id)
    found = view.get(key)
    if found is None:
        view.insert(key, row)
    elif found != row:
        view.update(key, row)


def stream_name(tenant_id: str, process_id: str) -> str:
    """Return how a conversation is named in errors; the same as `ProcessIdentity.stream_id`."""
    return f"process/{tenant_id}/{process_id}"


class Recorded(NamedTuple):
    """Events as they were written, the first at `seq`; none when what was to be recorded stands at `seq` already."""

    seq: int
    events: tuple[CallerEvent, ...]


class Known(NamedTuple):
    """A message that was received and is not finished, with the number of its completed steps."""

    steps: int


class Place(msgspec.Struct, frozen=True):
    """Where the caller of a conversation believes its end to be."""

    tenant_id: str
    process_id: str
    expected_seq: int

    @property
    def key(self) -> Key[ProcessRow]:
        """The key of its process."""
        return PROCESS.key(self.tenant_id, self.process_id)

    def reads(self, events: Iterable[CallerEvent]) -> Iterable[Read]:
        """Name the process and the turns of the events' messages."""
        yield self.key
        for message_id in {event.message_id: None for event in events}:
            yield TURN.key(self.tenant_id, self.process_id, message_id)

    def find(self, view: View) -> ProcessRow | None:
        """Return the process, if callers may record in it.

        Raises:
            IllegalTransition: an engine runs it; it is the only one who appends.
        """
        row = view.get(self.key)
        if row is not None and row.process_type:
            raise IllegalTransition(
                f"{self.name} is a process of type {row.process_type!r}, and only its engine records in it; deliver a message to it instead"
            )
        return row

    def check(self, row: ProcessRow | None) -> None:
        """Raise SequenceConflict if the conversation does not end where the caller believes."""
        found = 0 if row is None else row.head
        if found != self.expected_seq:
            raise SequenceConflict(stream=self.name, expected=self.expected_seq, found=found)

    def record(self, view: View, row: ProcessRow | None, events: Iterable[CallerEvent]) -> Recorded:
        """Append events of callers, each if it may happen.

        Raises:
            IllegalTransition, TurnTooLong: one of them may not.
            UsageError: the conversation is new and its name is one of Perdure's own.
        """
        written = []
        for event in events:
            turn_key = TURN.key(self.tenant_id, self.process_id, event.message_id)
            turn = view.get(turn_key)
            event = numbered(turn, event)  # noqa: PLW2901  # the number is part of the event
            after = next_turn(turn, event)
            if turn is None:
                view.insert(turn_key, after)
            else:
                view.update(turn_key, after)
            written.append(event)
        if row is None:
            view.insert(self.key, append_events(view, self.key, self._created(view), written))
        else:
            view.update(self.key, append_events(view, self.key, row, written))
        return Recorded(self.expected_seq, tuple(written))

    @property
    def name(self) -> str:
        """How it is named in errors."""
        return stream_name(self.tenant_id, self.process_id)

    def _created(self, view: View) -> ProcessRow:
        if self.process_id.startswith(RESERVED_ID_PREFIX):
            raise UsageError(f"{self.name}: ids that begin with {RESERVED_ID_PREFIX!r} are Perdure's own; choose another")
        return new_process(view, self.tenant_id, self.process_id, process_type="", status=ProcessStatus.IDLE)


class Receive(msgspec.Struct, frozen=True):
    """Decide what a delivery asks for, and record the message if it is new."""

    place: Place
    event: MessageReceived

    def reads(self) -> Iterable[Read]:
        """Name the process and the message's turn."""
        return self.place.reads((self.event,))

    def decide(self, view: View) -> Skip | Known | Recorded:
        """Answer from the turn's row; a finished message is answered wherever the caller believes the end to be.

        Raises:
            SequenceConflict: others have appended: what to resume from is not what the caller knows.
            IllegalTransition, UsageError: see `Place.find` and `Place.record`.
        """
        place = self.place
        row = place.find(view)
        turn = view.get(TURN.key(place.tenant_id, place.process_id, self.event.message_id))
        if turn is not None and turn.state == TurnState.FINISHED:
            return Skip(result=turn.result)
        place.check(row)
        if turn is not None:
            return Known(turn.steps)
        return place.record(view, row, (self.event,))


class Record(msgspec.Struct, frozen=True):
    """Append events of callers at the place where they believe the end to be.

    `same_step` is the sequence at which the one event's step stands already, as far as the caller knows.
    """

    place: Place
    events: tuple[CallerEvent, ...]
    same_step: int | None = None

    def reads(self) -> Iterable[Read]:
        """Name the process and the turns."""
        return self.place.reads(self.events)

    def decide(self, view: View) -> Recorded:
        """Append, or recognise a step that is recorded already with the same bytes.

        Raises:
            SequenceConflict: others have appended; nothing was written.
            IllegalTransition, TurnTooLong, UsageError: see `Place.find` and `Place.record`.
        """
        place = self.place
        row = place.find(view)
        place.check(row)
        if self.same_step is not None and row is not None:
            [event] = self.events
            turn = view.get(TURN.key(place.tenant_id, place.process_id, event.message_id))
            if turn is not None and turn.state == TurnState.STARTED:
                self._compare(view, row, event, self.same_step)
                return Recorded(self.same_step, ())
        return place.record(view, row, self.events)

    def _compare(self, view: View, row: ProcessRow, event: CallerEvent, seq: int) -> None:
        assert isinstance(event, StepCompleted), "only a step may come again"
        recorded = view.get(EVENT.key(self.place.tenant_id, row.stream_no, seq))
        if recorded is None or recorded.data != encode_event(event):
            raise IllegalTransition(
                f"message {event.message_id!r}: step {event.step_index} is recorded with another output or name, at sequence {seq}"
            )


class SaveSnapshot(msgspec.Struct, frozen=True):
    """Store a snapshot, unless one that reaches further is there."""

    place: Place
    data: bytes

    def reads(self) -> Iterable[Read]:
        """Name the process and its snapshot."""
        yield self.place.key
        yield SNAPSHOT.key(self.place.tenant_id, self.place.process_id)

    def decide(self, view: View) -> int:
        """Return the sequence that the stored snapshot reaches up to.

        Raises:
            SequenceConflict: the conversation is shorter than what the caller read of it.
        """
        place = self.place
        process = view.get(place.key)
        head = 0 if process is None else process.head
        if head < place.expected_seq:
            raise SequenceConflict(stream=place.name, expected=place.expected_seq, found=head)
        key = SNAPSHOT.key(place.tenant_id, place.process_id)
        found = view.get(key)
        snapshot = SnapshotRow(place.expected_seq, SNAPSHOT_VERSION, self.data)
        if found is None:
            view.insert(key, snapshot)
        elif found.version == SNAPSHOT_VERSION and place.expected_seq < found.seq <= head:
            return found.seq
        elif found != snapshot:
            view.update(key, snapshot)
        return place.expected_seq
