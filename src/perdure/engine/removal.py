"""The decisions of a sweep. Each removes a bounded page, and what is half removed is out of sight.

Source: engine.md, "States, memory, recovery"; contracts.md, 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import MessageTaken, ProcessingFinished, decode_event
from perdure.conversations.tables import (
    AGES,
    AGING,
    ATTRIBUTES_OF,
    EVENTS,
    LOGS,
    PROCESS,
    PROCESS_STATE,
    SNAPSHOT,
    TURN,
    TURNS,
    Aging,
    AgingRow,
    ProcessRow,
    ProcessStatus,
)
from perdure.conversations.writes import age, stream_name
from perdure.core.table import Index, Key, Read, Scan
from perdure.core.view import View
from perdure.engine.handling import message_key, operation_key, ref_of
from perdure.messages.tables import AGED, EXPIRING, MAILBOX, MessageStatus
from perdure.operations.contract import OperationState
from perdure.operations.writes import evict

replace = msgspec.structs.replace

PARTS: Final[tuple[Index[Any], ...]] = (TURNS, LOGS)
"""Rows by (tenant, process id) of which a process may have any number; they go with it, a page at a time."""
SINGLE: Final = (PROCESS_STATE, SNAPSHOT, MAILBOX)
"""Tables with one row of a process, at its own key; it goes in the transaction that takes the process out of sight."""


class Compact(msgspec.Struct, frozen=True, gc=False):
    """Let the events of a process begin at `before`, and remove some of those that went out of sight so.

    `oldest` is when the first turn behind them was done, as far as whoever looked knows.
    """

    tenant_id: str
    process_id: str
    stream_no: int
    before: int
    oldest: Micros | None

    def reads(self) -> Iterable[Read]:
        """Name the process and what there is to remove of it."""
        yield PROCESS.key(self.tenant_id, self.process_id)
        yield AGING.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many events were removed, and whether more are left to remove."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process, aging = view.get(key), view.get(AGING.key(self.tenant_id, self.process_id))
        if process is None or process.stream_no != self.stream_no or aging is None or aging.what != Aging.TURNS:
            return 0, False  # it was removed meanwhile
        # The last turn stays: people redrive, skip and restart from it.
        first = max(process.first, min(self.before, process.turn_seq))
        removed = _drop_events(view, key, replace(process, first=first))
        more = removed == limits.SWEEP_CHUNK
        kept = 1
        if not more:
            at = self.oldest if self.oldest is not None else view.now
            if first == process.turn_seq:
                view.delete(AGING.key(self.tenant_id, self.process_id))
                kept = 0
            elif aging.at != at:
                view.update(AGING.key(self.tenant_id, self.process_id), AgingRow(Aging.TURNS, at))
        if (first, kept) != (process.first, process.aging):
            view.update(key, replace(process, first=first, aging=kept))
        return removed, more


class Remove(msgspec.Struct, frozen=True, gc=False):
    """Take a process that is over out of sight; its other rows follow."""

    tenant_id: str
    process_id: str
    age: Micros

    def reads(self) -> Iterable[Read]:
        """Name its single rows."""
        yield PROCESS.key(self.tenant_id, self.process_id)
        yield AGING.key(self.tenant_id, self.process_id)
        for table in SINGLE:
            yield table.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> bool:
        """Return whether it was removed: it is still over, and for long enough."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process = view.get(key)
        if process is None or process.over_at is None or process.over_at > view.now - self.age:
            return False
        for table in SINGLE:
            single: Key[Any] = table.key(self.tenant_id, self.process_id)
            if view.get(single) is not None:
                view.delete(single)
        # In this transaction, because lists of processes begin with them; a process has a bounded number.
        for attribute, _ in view.scan(Scan(ATTRIBUTES_OF, (self.tenant_id, self.process_id), limits.READ_PAGE, guard=key)):
            view.delete(attribute)
        gone = replace(process, status=ProcessStatus.REMOVED, first=process.head, turn_seq=process.head)
        gone = replace(gone, note="", attributes="", aging=1)
        view.update(key, replace(gone, updated_at=view.now, over_at=None))
        age(view, self.tenant_id, self.process_id, AgingRow(Aging.ROWS, view.now))
        return True


class Clear(msgspec.Struct, frozen=True, gc=False):
    """Remove a page of what is left of a process that was removed; at the end its tombstone begins."""

    tenant_id: str
    process_id: str
    tombstones: Micros

    def reads(self) -> Iterable[Read]:
        """Name the process and what there is to remove of it."""
        yield PROCESS.key(self.tenant_id, self.process_id)
        yield AGING.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many events were removed, and whether more is left to remove."""
        key = PROCESS.key(self.tenant_id, self.process_id)
        process, aging = view.get(key), view.get(AGING.key(self.tenant_id, self.process_id))
        if process is None or aging is None or aging.what != Aging.ROWS:
            return 0, False
        removed = _drop_events(view, key, process)
        if removed == limits.SWEEP_CHUNK:
            return removed, True
        for index in PARTS:
            rows = view.scan(Scan(index, (self.tenant_id, self.process_id), limits.SWEEP_CHUNK, guard=key))
            for part, _ in rows:
                view.delete(part)
            if len(rows) == limits.SWEEP_CHUNK:
                return removed, True
        age(view, self.tenant_id, self.process_id, AgingRow(Aging.TOMBSTONE, view.now + self.tombstones))
        return removed, False


class Expire(msgspec.Struct, frozen=True, gc=False):
    """Make tombstones of a page of messages that are done since `age`, and of their replies."""

    age: Micros
    tombstones: Micros

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many, and whether there may be more."""
        rows = view.scan(Scan(AGED, (), limits.SWEEP_CHUNK, upto=(view.now - self.age,)))
        for key, row in rows:
            operation = operation_key(str(key.parts[0]), ref_of(key))
            sealed = view.get(operation)
            if sealed is not None and sealed.state == OperationState.SEALED:
                evict(view, operation, sealed)
            tombstone = replace(
                row,
                status=MessageStatus.EXPIRED,
                done_at=None,
                expires_at=view.now + self.tombstones,
                digest=b"",
                payload=b"",
                headers=None,
            )
            view.update(key, tombstone)
        return len(rows), len(rows) == limits.SWEEP_CHUNK


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Remove a page of tombstones whose time is over: of messages, then of processes."""

    def reads(self) -> Iterable[Read]:
        """Nothing is sure."""
        return ()

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many, and whether there may be more."""
        messages = view.scan(Scan(EXPIRING, (MessageStatus.EXPIRED,), limits.SWEEP_CHUNK, upto=(view.now,)))
        for key, _ in messages:
            operation = operation_key(str(key.parts[0]), ref_of(key))
            evicted = view.get(operation)
            if evicted is not None and evicted.state == OperationState.EXPIRED:
                view.delete(operation)
            view.delete(key)
        processes = view.scan(Scan(AGES, (Aging.TOMBSTONE,), limits.SWEEP_CHUNK, upto=(view.now,)))
        for aging, _ in processes:
            process = PROCESS.key(*aging.parts)
            assert view.get(process) is not None, "a tombstone is the row of a process"
            view.delete(process)
            view.delete(aging)
        return len(messages) + len(processes), max(len(messages), len(processes)) == limits.SWEEP_CHUNK


def _drop_events(view: View, key: Key[ProcessRow], process: ProcessRow) -> int:
    """Remove a page of the events before the first; return how many. What they say is done begins to age."""
    tenant_id, process_id = str(key.parts[0]), str(key.parts[1])
    stream = stream_name(tenant_id, process_id)
    scan = Scan(EVENTS, (tenant_id, process.stream_no), limits.SWEEP_CHUNK, upto=(process.first - 1,), guard=key)
    rows = view.scan(scan)
    for event_key, row in rows:
        event = decode_event(row.data, stream=stream, seq=int(event_key.parts[2] or 0))
        if isinstance(event, ProcessingFinished):
            turn = TURN.key(tenant_id, process_id, event.message_id)
            if view.get(turn) is not None:
                view.delete(turn)
            _begin_to_age(view, tenant_id, event.message_id, row.at)
        elif isinstance(event, MessageTaken):
            _begin_to_age(view, tenant_id, event.taken, row.at)
        view.delete(event_key)
    return len(rows)


def _begin_to_age(view: View, tenant_id: str, ref: str, at: Micros) -> None:
    key = message_key(tenant_id, ref)
    row = view.get(key)
    if row is not None and row.status == MessageStatus.DONE:  # a dead letter stays until people have decided
        view.update(key, replace(row, done_at=at))
