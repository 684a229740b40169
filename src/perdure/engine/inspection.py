"""Looking at processes and messages without running anything: for people, the CLI and tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.conversations.attributes import AttributeValue, decoded, names_of
from perdure.conversations.tables import ATTRIBUTE, CHILDREN, OVER, PROCESS, PROCESS_STATE, ProcessRow
from perdure.core.table import Scan
from perdure.engine.control import CancelProcess, PauseProcess, ResumeProcess, checked_reason
from perdure.engine.explaining import Explanation, explain
from perdure.engine.notes import NO_APP
from perdure.engine.redriving import Redrive
from perdure.engine.restarting import RestartFrom
from perdure.engine.searching import AttributeFilter, Order, Page, Search, checked_limit, search
from perdure.engine.timeline import Timeline, TimelineEntry, Wait, shown, timeline
from perdure.errors import UsageError
from perdure.identity import DEFAULT_TENANT, MessageId, ProcessId, TenantId
from perdure.messages.tables import DEAD_LETTERS, MESSAGES
from perdure.store import Store

__all__ = [
    "DeadLetter",
    "Explanation",
    "Page",
    "ProcessInfo",
    "Timeline",
    "TimelineEntry",
    "Wait",
    "cancel",
    "children",
    "dead_letter_place",
    "dead_letters",
    "explain",
    "messages",
    "pause",
    "process",
    "processes",
    "redrive",
    "restart_from",
    "resume",
    "timeline",
]


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One process as it is stored. Times are microseconds since the epoch, UTC.

    `package_hash` is the version that it runs on, None for local code. Of `events`, those before `first_event` are removed. `parent` is the process whose child it is, or was. Lists leave `fields`, `attributes`, `keys` and `tags` out.
    """

    tenant_id: str
    process_id: str
    process_type: str
    package_hash: str | None
    status: str
    open_message: str | None
    events: int
    first_event: int
    note: str
    parent: str | None
    created_at: Micros
    updated_at: Micros
    fields: Any = None
    attributes: dict[str, AttributeValue] = {}
    keys: list[str] = []
    tags: list[str] = []


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that will not be handled, and why."""

    tenant_id: str
    tick: int
    source: str
    message_id: str
    kind: str
    reason: str
    detail: str
    process_id: str | None
    at: Micros
    redriven_as: str | None
    payload: Any


async def messages(
    store: Store, *, tenant: str = DEFAULT_TENANT, after: tuple[str, str] | None = None, limit: int = limits.PAGE_DEFAULT
) -> list[Explanation]:
    """Return a page of accepted messages by (source, id). `after` is the last pair of the page before."""
    rows = await store.access.reader.scan(Scan(MESSAGES, (TenantId(tenant),), checked_limit(limit), after=after))
    return [await explain(store, str(key.parts[2]), source=str(key.parts[1]), tenant=tenant) for key, _ in rows]


async def processes(
    store: Store,
    *,
    tenant: str = DEFAULT_TENANT,
    type: Any = None,
    status: str | None = None,
    attributes: Mapping[str, AttributeFilter] | None = None,
    created_after: datetime | None = None,
    updated_before: datetime | None = None,
    order: Order | None = None,
    limit: int = limits.PAGE_DEFAULT,
    after: str | None = None,
) -> Page[ProcessInfo]:
    """Return a page of processes; see `Engine.processes`."""
    wanted = Search.of(
        tenant=tenant,
        type=type,
        status=status,
        attributes=attributes,
        created_after=created_after,
        updated_before=updated_before,
        order=order,
    )
    found = await search(store.access.reader, wanted, after=after, limit=checked_limit(limit))
    return Page((_info(key.parts, row) for key, row in found), next=found.next)


async def process(store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT) -> ProcessInfo:
    """Return one process, with its durable fields and attributes as of the last commit, and its addresses. Raises ProcessNotFound."""
    key = PROCESS.key(TenantId(tenant), ProcessId(process_id))
    reader = store.access.reader
    row = shown(key, await reader.get(key))
    state = await reader.get(PROCESS_STATE.key(*key.parts))
    attributes = {name: await reader.get(ATTRIBUTE.key(*key.parts, name)) for name in names_of(row)}
    return msgspec.structs.replace(
        _info(key.parts, row),
        fields=None if state is None else JSON.decoder(Any)(state.saved),
        attributes={name: decoded(one.kind, one.value) for name, one in attributes.items() if one is not None and one.value is not None},
        keys=[str(one) for one in await store.processes.keys_of(TenantId(tenant), ProcessId(process_id))],
        tags=[str(one) for one in await store.processes.tags_of(TenantId(tenant), ProcessId(process_id))],
    )


async def children(
    store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT, after: str | None = None, limit: int = limits.PAGE_DEFAULT
) -> Page[ProcessInfo]:
    """Return a page of the children of a process; see `Engine.children`."""
    key, reader = PROCESS.key(TenantId(tenant), ProcessId(process_id)), store.access.reader
    parent = shown(key, await reader.get(key))
    rows = await reader.scan(Scan(CHILDREN, key.parts, checked_limit(limit), after=None if after is None else (after,)))
    found = []
    for child, row in rows:
        of = PROCESS.key(tenant, child.parts[2])
        process = await reader.get(of)
        if process is not None and process.status not in OVER and row.at >= parent.stream_no:
            found.append(_info(of.parts, process))
    return Page(found, next=str(rows[-1][0].parts[2]) if len(rows) == limit else None)


async def dead_letters(
    store: Store, *, tenant: str = DEFAULT_TENANT, after: tuple[int, str, str] | None = None, limit: int = limits.PAGE_DEFAULT
) -> list[DeadLetter]:
    """Return a page of dead letters in the order of their acceptance."""
    rows = await store.access.reader.scan(Scan(DEAD_LETTERS, (TenantId(tenant),), checked_limit(limit), after=after))
    return [
        DeadLetter(
            tenant_id=str(key.parts[0]),
            tick=int(key.parts[1] or 0),
            source=str(key.parts[2]),
            message_id=str(key.parts[3]),
            kind=row.kind,
            reason=row.reason,
            detail=row.detail,
            process_id=row.process_id,
            at=row.at,
            redriven_as=row.redriven_as,
            payload=JSON.decoder(Any)(row.payload),
        )
        for key, row in rows
    ]


def dead_letter_place(text: str | None) -> tuple[int, str, str] | None:
    """Return the place of a dead letter that `TICK:SOURCE:ID` names. Raises UsageError."""
    if text is None:
        return None
    tick, _, rest = text.partition(":")
    source, mark, message_id = rest.rpartition(":")
    if not tick.isdecimal() or not mark:
        raise UsageError(f"expected TICK:SOURCE:ID, found {text!r}")
    return int(tick), source, message_id


async def redrive(store: Store, message_id: str, *, source: str = "", tenant: str = DEFAULT_TENANT) -> str:
    """Deliver a dead letter again from where no app is, and return the new id; the engine that owns it starts it.

    Raises what `Engine.redrive` raises.
    """
    process_id = ProcessId.new(now=store.access.clock.now(), randomness=store.access.randomness)
    write = Redrive(NO_APP, TenantId(tenant), source, MessageId(message_id), process_id)
    new_id, _, _ = await store.access.writer.run(write)
    return new_id


async def cancel(store: Store, process_id: str, *, reason: str = "", force: bool = False, tenant: str = DEFAULT_TENANT) -> bool:
    """Ask a process to stop, from where no app is; see `Engine.cancel`."""
    write = CancelProcess(NO_APP, TenantId(tenant), ProcessId(process_id), checked_reason(reason), force)
    first, _ = await store.access.writer.run(write)
    return first


async def pause(store: Store, process_id: str, *, reason: str = "", tenant: str = DEFAULT_TENANT) -> bool:
    """Hold a process still, from where no app is; see `Engine.pause`."""
    first, _ = await store.access.writer.run(PauseProcess(NO_APP, TenantId(tenant), ProcessId(process_id), checked_reason(reason)))
    return first


async def resume(store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT) -> None:
    """Let a process go on, from where no app is; see `Engine.resume`."""
    await store.access.writer.run(ResumeProcess(NO_APP, TenantId(tenant), ProcessId(process_id)))


async def restart_from(store: Store, step: str, process_id: str, *, tenant: str = DEFAULT_TENANT) -> str:
    """Run the last turn of a process again from a step, from where no app is; see `Engine.restart_from`."""
    new_id, _ = await store.access.writer.run(RestartFrom(NO_APP, TenantId(tenant), ProcessId(process_id), step))
    return new_id


def _info(parts: tuple[Any, ...], row: ProcessRow) -> ProcessInfo:
    return ProcessInfo(
        tenant_id=parts[0],
        process_id=parts[1],
        process_type=row.process_type,
        package_hash=row.package_hash,
        status=row.status,
        open_message=row.open_message,
        events=row.head,
        first_event=row.first,
        note=row.note,
        parent=row.parent or None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
