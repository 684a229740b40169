"""Looking at processes and messages without running anything: for people, the CLI and tests."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.conversations.events import Event, decode_event
from perdure.conversations.tables import EVENTS, PROCESS, PROCESS_STATE, PROCESSES, ProcessRow
from perdure.core.table import Scan
from perdure.engine.addressing import reference
from perdure.engine.control import CancelProcess, PauseProcess, ResumeProcess, checked_reason
from perdure.engine.handling import operation_key
from perdure.engine.notes import NO_APP
from perdure.engine.outcomes import error_text
from perdure.engine.redriving import Redrive
from perdure.engine.restarting import RestartFrom
from perdure.errors import MessageNotFound, ProcessNotFound, UsageError
from perdure.identity import DEFAULT_TENANT, MessageId, ProcessId, TenantId
from perdure.messages.tables import DEAD_LETTERS, MESSAGE, MESSAGES, MessageStatus
from perdure.store import Store


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One process as it is stored. Times are microseconds since the epoch, UTC."""

    tenant_id: str
    process_id: str
    process_type: str
    status: str
    open_message: str | None
    events: int
    note: str
    created_at: Micros
    updated_at: Micros
    fields: Any = None


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a process."""

    seq: int
    at: Micros
    event: str
    message_id: str
    name: str
    detail: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message is, and why."""

    tenant_id: str
    source: str
    message_id: str
    kind: str
    status: str
    address: str
    process_id: str | None
    accepted_at: Micros
    expires_at: Micros | None
    copies: int | None
    sender: str
    reply: str | None
    text: str


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


async def explain(store: Store, message_id: str, *, source: str = "", tenant: str = DEFAULT_TENANT) -> Explanation:
    """Return where a message is, and why. Raises MessageNotFound, InvalidIdentifier."""
    reader = store.access.reader
    tenant_id = TenantId(tenant)
    row = await reader.get(MESSAGE.key(tenant_id, source, MessageId(message_id)))
    if row is None:
        raise MessageNotFound(f"no message {message_id!r} (source {source!r}) in tenant {tenant_id}; it was never accepted here")
    sealed = await reader.get(operation_key(tenant_id, reference(source, message_id)))
    reply = None
    if sealed is not None and sealed.response is not None:
        reply = error_text(sealed.response) if sealed.outcome == "error" else sealed.response.decode()[: limits.REPR_MAX]
    text = {
        MessageStatus.PARKED: f"nobody is at {row.parked_under!r} yet; it is handed over when somebody comes",
        MessageStatus.QUEUED: f"it waits in the mailbox of process {row.process_id}",
        MessageStatus.OPEN: f"process {row.process_id} is handling it"
        if row.process_id
        else "it is being copied to the members of its tag",
        MessageStatus.DONE: f"process {row.process_id} has handled it"
        if row.process_id
        else f"it was copied to {row.copies or 0} processes",
        MessageStatus.DEAD: "it is a dead letter",
    }[MessageStatus(row.status)]
    return Explanation(
        tenant_id=tenant_id,
        source=source,
        message_id=message_id,
        kind=row.kind,
        status=row.status,
        address=row.address,
        process_id=row.process_id,
        accepted_at=row.accepted_at,
        expires_at=row.expires_at,
        copies=row.copies,
        sender=row.sender,
        reply=reply,
        text=f"{text}: {row.note}" if row.note else text,
    )


async def messages(
    store: Store, *, tenant: str = DEFAULT_TENANT, after: tuple[str, str] | None = None, limit: int = limits.PAGE_DEFAULT
) -> list[Explanation]:
    """Return a page of accepted messages by (source, id). `after` is the last pair of the page before."""
    rows = await store.access.reader.scan(Scan(MESSAGES, (TenantId(tenant),), _page(limit), after=after))
    return [await explain(store, str(key.parts[2]), source=str(key.parts[1]), tenant=tenant) for key, _ in rows]


async def processes(
    store: Store, *, tenant: str = DEFAULT_TENANT, status: str | None = None, after: str | None = None, limit: int = limits.PAGE_DEFAULT
) -> list[ProcessInfo]:
    """Return a page of processes by id, of one status if it is given. `after` is the last id of the page before."""
    found: list[ProcessInfo] = []
    place = None if after is None else (after,)
    while len(found) < _page(limit):
        rows = await store.access.reader.scan(Scan(PROCESSES, (TenantId(tenant),), limits.READ_PAGE, after=place))
        found.extend(_info(key.parts, row) for key, row in rows if row.process_type and status in (None, row.status))
        if len(rows) < limits.READ_PAGE:
            break
        place = (str(rows[-1][0].parts[1]),)
    return found[:limit]


async def process(store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT) -> ProcessInfo:
    """Return one process, with its durable fields as of the last commit. Raises ProcessNotFound."""
    key = PROCESS.key(TenantId(tenant), ProcessId(process_id))
    row = await store.access.reader.get(key)
    if row is None:
        raise ProcessNotFound(f"no process {process_id!r} in tenant {tenant}")
    state = await store.access.reader.get(PROCESS_STATE.key(*key.parts))
    fields = None if state is None else JSON.decoder(Any)(state.saved)
    return msgspec.structs.replace(_info(key.parts, row), fields=fields)


async def timeline(
    store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT, after: int = -1, limit: int = limits.PAGE_DEFAULT
) -> list[TimelineEntry]:
    """Return a page of a process's events. `after` is the last sequence of the page before. Raises ProcessNotFound."""
    row = await store.access.reader.get(PROCESS.key(TenantId(tenant), ProcessId(process_id)))
    if row is None:
        raise ProcessNotFound(f"no process {process_id!r} in tenant {tenant}")
    stream = f"process/{tenant}/{process_id}"
    rows = await store.access.reader.scan(Scan(EVENTS, (tenant, row.stream_no), _page(limit), after=(after,)))
    return [
        _entry(int(key.parts[2] or 0), event.at, decode_event(event.data, stream=stream, seq=int(key.parts[2] or 0))) for key, event in rows
    ]


async def dead_letters(
    store: Store, *, tenant: str = DEFAULT_TENANT, after: tuple[int, str, str] | None = None, limit: int = limits.PAGE_DEFAULT
) -> list[DeadLetter]:
    """Return a page of dead letters in the order of their acceptance."""
    rows = await store.access.reader.scan(Scan(DEAD_LETTERS, (TenantId(tenant),), _page(limit), after=after))
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


def _page(limit: int) -> int:
    if not 1 <= limit <= limits.PAGE_MAX:
        raise UsageError(f"limit is 1 to {limits.PAGE_MAX}, found {limit}")
    return limit


def _info(parts: tuple[Any, ...], row: ProcessRow) -> ProcessInfo:
    return ProcessInfo(
        tenant_id=parts[0],
        process_id=parts[1],
        process_type=row.process_type,
        status=row.status,
        open_message=row.open_message,
        events=row.head,
        note=row.note,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _entry(seq: int, at: Micros, event: Event) -> TimelineEntry:
    values = msgspec.structs.asdict(event)
    message_id, name = values.pop("message_id"), values.pop("name", "")
    shown = {key: _shown(value) for key, value in values.items() if value not in ("", None)}
    detail = ", ".join(f"{key}={value}" for key, value in shown.items())
    return TimelineEntry(seq=seq, at=at, event=type(event).__name__, message_id=message_id, name=name, detail=detail)


def _shown(value: object) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…"
