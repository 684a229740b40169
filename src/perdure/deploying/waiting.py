"""Messages that wait to be handled, wherever they wait, read a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from perdure import limits
from perdure.core.table import Index, Scan
from perdure.deploying.findings import What
from perdure.engine.firing import payload_of
from perdure.engine.redriving import address_of
from perdure.messages.mail import in_words, reference
from perdure.messages.tables import DELAYED, FAN_OUTS, KEPT_FOR_TAGS, MAIL, MESSAGE, PARKED, MessageRow
from perdure.routing.tables import ALL_KEYS
from perdure.store import Store
from perdure.timers.tables import SCHEDULE, ScheduleStatus

_ALL_SCHEDULES = Index(SCHEDULE, "schedule", order=("tenant_id", "schedule_id"))


class Waiting(NamedTuple):
    """One message that somebody will have to read. `process_id` and `process_type` are empty when they are not known yet."""

    what: What
    tenant_id: str
    name: str
    kind: str
    payload: bytes
    process_id: str = ""
    process_type: str = ""


async def mail_of(store: Store, tenant: str, process_id: str) -> AsyncIterator[Waiting]:
    """Yield the messages in a mailbox, in order."""
    async for parts, row in _pages(store, MAIL, (tenant, process_id)):
        yield _message(parts, row)


async def unaddressed(store: Store) -> AsyncIterator[Waiting]:
    """Yield the messages that are in no mailbox: parked, delayed, on their way to a tag; and what schedules send that no app declares."""
    for source in (_parked, _delayed, _fanned_out, _scheduled):
        async for message in source(store):
            yield message


async def _parked(store: Store) -> AsyncIterator[Waiting]:
    async for parts, key in _pages(store, ALL_KEYS, (), limits.READ_PAGE):
        if key.parked:
            async for of, row in _pages(store, PARKED, (parts[0], f"key {parts[1]}")):
                yield _message(of, row)
    async for parts, _ in _pages(store, KEPT_FOR_TAGS, (), limits.READ_PAGE):
        async for of, row in _pages(store, PARKED, parts[:2]):
            yield _message(of, row)


async def _delayed(store: Store) -> AsyncIterator[Waiting]:
    async for parts, row in _pages(store, DELAYED, ()):
        yield _message(parts, row)


async def _fanned_out(store: Store) -> AsyncIterator[Waiting]:
    async for parts, _ in _pages(store, FAN_OUTS, (), limits.READ_PAGE):
        message = await store.access.reader.get(MESSAGE.key(*parts))
        if message is not None:
            yield _message(parts, message)


async def _scheduled(store: Store) -> AsyncIterator[Waiting]:
    async for parts, schedule in _pages(store, _ALL_SCHEDULES, ()):
        if not schedule.declared_by and schedule.status != ScheduleStatus.REMOVED:
            payload = payload_of(schedule.payload, 0 if schedule.takes_slot else None)
            yield Waiting("schedule", str(parts[0]), str(parts[1]), schedule.kind, payload, process_type=schedule.process_type)


def _message(parts: tuple[Any, ...], row: MessageRow) -> Waiting:
    tenant, source, message_id = (str(part) for part in parts)
    name = in_words(reference(source, message_id))
    return Waiting("message", tenant, name, row.kind, row.payload, row.process_id or "", address_of(row).process_type)


async def _pages(
    store: Store, index: Index[Any], prefix: tuple[Any, ...], limit: int = limits.CHECK_PAGE
) -> AsyncIterator[tuple[tuple[Any, ...], Any]]:
    after: tuple[Any, ...] | None = None
    while rows := await store.access.reader.scan(Scan(index, prefix, limit, after=after)):
        for key, row in rows:
            yield key.parts, row
        after = index.order_of(rows[-1][0].parts, rows[-1][1])
