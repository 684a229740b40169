"""Fills a closed store with the rows that the rooms themselves would have written, a thousand times as fast as one fsync at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from perdure.backends.sqlite.statements import TableSql
from perdure.conversations.events import Event, MessageReceived, ProcessingFinished, ProcessingStarted, encode_event
from perdure.conversations.tables import EVENT, PROCESS, TURN, EventRow, ProcessRow, TurnRow, TurnState
from perdure.conversations.writes import shard_of
from perdure.core.table import Table
from perdure.routing.tables import CORRELATION, KEY, KEYS_COUNTER, REGISTRY_EVENT, Actor, Change, CorrelationRow, KeyRow, RegistryEventRow

TENANT = "default"
MEMBERS = 10
_Rows = Iterable[tuple[Any, ...]]


def with_keys(path: Path, first: int, last: int) -> None:
    """Add `last - first` processes with a registry key each."""

    def keys() -> Iterator[tuple[Any, ...]]:
        for n in range(first, last):
            yield (TENANT, f"key {n}", *_fields(KeyRow(process_id=f"p{n}", process_type="order", tick=n + 1)))

    _fill(path, KEY, keys())
    _fill(path, REGISTRY_EVENT, (_registry_event(n, Change.BIND, f"key {n}", offset=1) for n in range(first, last)))
    with _connected(path) as connection:
        connection.execute(
            "INSERT INTO counter (name, node, value) VALUES (?, '', ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            (KEYS_COUNTER, last - first),
        )


def with_tags(path: Path, first: int, last: int, *, after_tick: int) -> None:
    """Add `last - first` processes under tags of ten members each."""

    def tags() -> Iterator[tuple[Any, ...]]:
        for n in range(first, last):
            row = CorrelationRow(process_type="order", package_hash=None, tick=after_tick + n + 1)
            yield (TENANT, f"tag {n // MEMBERS}", f"p{n}", *_fields(row))

    _fill(path, CORRELATION, tags())
    events = (_registry_event(n, Change.TAG, f"tag {n // MEMBERS}", offset=after_tick + 1) for n in range(first, last))
    _fill(path, REGISTRY_EVENT, events)


def with_conversation(path: Path, name: str, messages: int) -> None:
    """Add a conversation of that many finished messages, with three events each."""
    stream_no, shard = 1, shard_of(TENANT, name)
    head = ProcessRow(process_type="", head=3 * messages, stream_no=stream_no, shard=shard, created_at=1, updated_at=1)
    done = _fields(TurnRow(state=TurnState.FINISHED, attempts=1, outcome="ok"))

    def events() -> Iterator[tuple[Any, ...]]:
        for n in range(messages):
            ref = f"old {n}"
            life: tuple[Event, ...] = MessageReceived(ref, n), ProcessingStarted(ref, 1), ProcessingFinished(ref)
            for offset, event in enumerate(life):
                yield (TENANT, stream_no, 3 * n + offset, *_fields(EventRow(1, encode_event(event))))

    _fill(path, PROCESS, [(TENANT, name, *_fields(head))])
    _fill(path, TURN, ((TENANT, name, f"old {n}", *done) for n in range(messages)))
    _fill(path, EVENT, events())


def _registry_event(n: int, what: Change, name: str, *, offset: int) -> tuple[Any, ...]:
    row = RegistryEventRow(what=what, name=name, process_id=f"p{n}", process_type="order", package_hash=None, actor=Actor.CALLER)
    return (TENANT, n + offset, *_fields(row))


def _fields(row: msgspec.Struct) -> tuple[Any, ...]:
    return msgspec.structs.astuple(row)


def _connected(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    # Nothing that is measured: the store's own connections, opened later, have their own settings.
    connection.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")
    return connection


def _fill(path: Path, table: Table[Any], rows: _Rows) -> None:
    connection = _connected(path)
    with connection:
        connection.executemany(TableSql(table).insert, rows)
        connection.execute("UPDATE writer SET last_tick = 1000000000 WHERE node = ''")  # behind every tick given out here
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
