"""Readers and writes for the tests of contract 4: they count, cut pages, damage, and play the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import Event
from perdure.conversations.tables import EVENT, PROCESS, SNAPSHOT, EventRow, ProcessRow, SnapshotRow
from perdure.conversations.writes import append_events, new_process
from perdure.core.access import Access
from perdure.core.backend import Reader
from perdure.core.table import Key, Read, Scan, Table
from perdure.core.view import View
from perdure.store import Store


class CountingReader:
    """Counts the rows that are read, and gives no more than `page` of them at a time."""

    def __init__(self, reader: Reader, *, page: int = 1_000_000) -> None:
        self.reader = reader
        self.page = page
        self.rows: dict[str, int] = {}
        self.pages: list[int] = []

    async def get(self, key: Key[Any]) -> Any:
        row = await self.reader.get(key)
        self._count(key.table, int(row is not None))
        return row

    async def get_all(self, keys: Sequence[Key[Any]]) -> list[Any]:
        return [await self.get(key) for key in keys]

    async def scan(self, scan: Scan[Any]) -> list[tuple[Key[Any], Any]]:
        rows = await self.reader.scan(msgspec.structs.replace(scan, limit=min(scan.limit, self.page)))
        self._count(scan.index.table, len(rows))
        self.pages.append(len(rows))
        return rows

    async def counter(self, name: str) -> int:
        return await self.reader.counter(name)

    async def count(self, table: Table[Any]) -> int:
        return await self.reader.count(table)

    def _count(self, table: Table[Any], rows: int) -> None:
        self.rows[table.name] = self.rows.get(table.name, 0) + rows


class SeenThrough:
    """A store as it looks through another reader."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self.access: Access = store.access._replace(reader=reader)


class Plant(msgspec.Struct, frozen=True):
    """Put bytes of any kind behind a conversation, `gap` places further than they belong, and move its head by `moved`."""

    process_id: str
    data: bytes = b""
    gap: int = 0
    moved: int = 1
    tenant_id: str = "default"

    def reads(self) -> Iterable[Read]:
        return ()

    def decide(self, view: View) -> None:
        key = PROCESS.key(self.tenant_id, self.process_id)
        row = view.get(key)
        assert row is not None
        if self.data:
            view.insert(EVENT.key(self.tenant_id, row.stream_no, row.head + self.gap), EventRow(view.now, self.data))
        view.update(key, msgspec.structs.replace(row, head=row.head + self.moved))


class PlayEngine(msgspec.Struct, frozen=True):
    """Make a process of a type, as an engine does, with events in its conversation."""

    process_id: str
    events: tuple[Event, ...] = ()

    def reads(self) -> Iterable[Read]:
        return ()

    def decide(self, view: View) -> ProcessRow:
        key = PROCESS.key("default", self.process_id)
        assert view.get(key) is None
        row = new_process(view, "default", self.process_id, process_type="Order", status="runnable")
        row = append_events(view, key, row, self.events)
        view.insert(key, row)
        return row


class ChangeSnapshot(msgspec.Struct, frozen=True):
    """Delete a conversation's snapshot, or put another in its place."""

    process_id: str
    row: SnapshotRow | None = None

    def reads(self) -> Iterable[Read]:
        return ()

    def decide(self, view: View) -> None:
        key = SNAPSHOT.key("default", self.process_id)
        found = view.get(key)
        if self.row is None:
            if found is not None:
                view.delete(key)
        elif found is None:
            view.insert(key, self.row)
        else:
            view.update(key, self.row)


async def finished(conversation: DurableConversation, message_id: str, *outputs: bytes, result: bytes | None = None) -> None:
    """Record the whole life of a message."""
    await conversation.record_message_received(message_id, 1)
    await conversation.record_processing_started(message_id)
    for index, output in enumerate(outputs):
        await conversation.record_step_completed(message_id, index, output)
    await conversation.record_processing_finished(message_id, result)
