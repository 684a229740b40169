"""What happened in a process, and what it waits for now, as people read it.

Source: engine.md, "Versions, operations, time".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros, text_of
from perdure.conversations.events import (
    Bound,
    CancelRequested,
    ErrorOccurred,
    Event,
    MessageReceived,
    MessageTaken,
    Patched,
    ProcessingFinished,
    ProcessingStarted,
    ProcessMoved,
    ReplyArrived,
    Restarted,
    StepAttemptFailed,
    StepBegun,
    StepCompleted,
    StepFailed,
    TimerFired,
    decode_event,
)
from perdure.conversations.tables import EVENTS, PROCESS, TURN, ProcessRow, ProcessStatus
from perdure.conversations.writes import stream_name
from perdure.core.backend import Reader
from perdure.core.table import Key, Scan
from perdure.engine.outcomes import error_text
from perdure.engine.searching import checked_limit
from perdure.errors import HistoryCompacted, ProcessNotFound
from perdure.flows.tables import PLACE
from perdure.flows.writes import HELD
from perdure.identity import DEFAULT_TENANT, ProcessId, TenantId
from perdure.messages.mail import split_reference
from perdure.messages.tables import MESSAGE, WAITS
from perdure.names import TAG_DIGITS
from perdure.replies import is_awakeable
from perdure.store import Store
from perdure.timers.tables import OF_PROCESS as TIMERS


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a process.

    `text` says what happened, for people; `event`, `name` and `detail` are its parts, for programs. `took` is how long
    after the event before it in its turn it came, in microseconds: the duration of a step that ran alone.
    """

    seq: int
    at: Micros
    event: str
    message_id: str
    name: str
    detail: str
    text: str
    took: Micros | None


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a process waits for.

    `what` is a `message` of the kind `name`, a `timer` that is `due`, the `reply` to a call or an ask, an `awakeable` that somebody
    completes, or a `place` that flow control gives to its type or key.
    """

    what: str
    name: str
    due: Micros | None = None


class Timeline(list[TimelineEntry]):
    """A page of a process's events, in order.

    `waits_for` is what the process waits for now; nothing while it runs. `next` is the last sequence of the page when
    there are more: pass it as `after`.
    """

    __slots__ = ("next", "status", "waits_for")

    def __init__(self, entries: Iterable[TimelineEntry], *, status: str, waits_for: list[Wait], next: int | None) -> None:
        super().__init__(entries)
        self.status = status
        self.waits_for = waits_for
        self.next = next


async def timeline(
    store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT, after: int | None = None, limit: int = limits.PAGE_DEFAULT
) -> Timeline:
    """Return a page of a process's events, from the first that is kept.

    `after` is the last sequence of the page before.

    Raises:
        ProcessNotFound: there is none, or it was removed.
        HistoryCompacted: what follows `after` was removed.
        CorruptEvent: an event cannot be read.
    """
    checked_limit(limit)
    reader = store.access.reader
    tenant_id = TenantId(tenant)
    place = PROCESS.key(tenant_id, ProcessId(process_id))
    process = shown(place, await reader.get(place))
    if after is None:
        after = process.first - 1
    elif after < process.first - 1:
        raise HistoryCompacted(
            f"process {process_id!r}: the events before {process.first} were removed, by its retention; ask for later ones"
        )
    stream = stream_name(tenant, process_id)
    # One event more, before the page, tells how long its first one took.
    begin = after - 1 if after > 0 else -1
    rows = await reader.scan(Scan(EVENTS, (tenant_id, process.stream_no), limit + 2, after=(begin,)))
    entries: list[TimelineEntry] = []
    kinds: dict[str, str] = {}
    before: tuple[str, Micros] | None = None
    for key, row in rows:
        seq = int(key.parts[2] or 0)
        event = decode_event(row.data, stream=stream, seq=seq)
        if seq > after and len(entries) < limit:
            if isinstance(event, MessageReceived):
                kinds[event.message_id] = await _kind(reader, tenant_id, event.message_id)
            took = row.at - before[1] if before is not None and before[0] == event.message_id else None
            entries.append(_entry(seq, row.at, event, kind=kinds.get(event.message_id, ""), took=took))
        before = event.message_id, row.at
    more = bool(rows) and bool(entries) and int(rows[-1][0].parts[2] or 0) > entries[-1].seq
    waits = await _waits(reader, tenant_id, process_id, process)
    return Timeline(entries, status=process.status, waits_for=waits, next=entries[-1].seq if more else None)


def shown(key: Key[ProcessRow], row: ProcessRow | None) -> ProcessRow:
    """Return the row of a process that people may see. Raises ProcessNotFound, also for one that was removed."""
    tenant, process_id = map(str, key.parts)
    if row is None:
        raise ProcessNotFound(f"no process {process_id!r} in tenant {tenant}")
    if row.status == ProcessStatus.REMOVED:
        raise ProcessNotFound(f"process {process_id!r} in tenant {tenant} was over and has been removed, by its retention")
    return row


async def _kind(reader: Reader, tenant_id: str, ref: str) -> str:
    row = await reader.get(MESSAGE.key(tenant_id, *split_reference(ref)))
    return "" if row is None else row.kind


async def _waits(reader: Reader, tenant_id: str, process_id: str, process: ProcessRow) -> list[Wait]:
    if process.placed and process.open_message is None:
        place = await reader.get(PLACE.key(tenant_id, process_id))
        return [] if place is None or place.stage == HELD else [Wait(what="place", name=f"{place.process_type} {place.flow_key}".rstrip())]
    if process.status != ProcessStatus.WAITING or process.open_message is None:
        return []
    turn = await reader.get(TURN.key(tenant_id, process_id, process.open_message))
    timers = await reader.scan(Scan(TIMERS, (tenant_id, process_id), limits.PAGE_DEFAULT)) if process.timers else []
    kinds = [] if turn is None else turn.awaits.splitlines()
    replies = await reader.scan(Scan(WAITS, (tenant_id, process_id), limits.PAGE_DEFAULT))
    asked = [str(key.parts[3]) for key, row in replies if row.turn_ref == process.open_message]
    return [
        *(Wait(what="message", name=kind) for kind in dict.fromkeys(kinds)),
        *(Wait(what="awakeable" if is_awakeable(name) else "reply", name=name) for name in asked),
        *(Wait(what="timer", name=str(key.parts[2]), due=row.due) for key, row in timers),
    ]


def _entry(seq: int, at: Micros, event: Event, *, kind: str, took: Micros | None) -> TimelineEntry:
    values = msgspec.structs.asdict(event)
    message_id, name = values.pop("message_id"), values.pop("name", "")
    shown = {key: _shown(value) for key, value in values.items() if value not in ("", None)}
    detail = ", ".join(f"{key}={value}" for key, value in shown.items())
    said = _TEXTS.get(type(event))
    text = f"{type(event).__name__} {name} {detail}" if said is None else said(event)
    if kind and isinstance(event, MessageReceived):
        text = f"a message came, a {kind}"
    return TimelineEntry(
        seq=seq, at=at, event=type(event).__name__, message_id=message_id, name=name, detail=detail, text=_shown(text), took=took
    )


def _step_attempt_failed(event: StepAttemptFailed) -> str:
    what = "the probe of step" if event.probe else "step"
    failed = f"{what} {event.name} failed in attempt {event.attempt}: {error_text(event.error)}"
    return f"{failed}; the next is due at {text_of(event.due)}"


def _bound(event: Bound) -> str:
    return f"{event.name}: the key {event.key!r} " + (f"is held by process {event.owner}" if event.owner else "is its own now")


def _reply_arrived(event: ReplyArrived) -> str:
    if event.outcome == "ok":
        return f"{event.name} was answered with {_shown(event.response)}"
    return f"{event.name} was answered with an error: {error_text(event.response)}"


_TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    MessageReceived: lambda _: "a message came",
    ProcessingStarted: lambda event: "its handler began" + (f" again, attempt {event.attempt}" if event.attempt > 1 else ""),
    StepCompleted: lambda event: f"step {event.name or event.step_index} returned {_shown(event.output)}",
    StepFailed: lambda event: f"step {event.name} failed: {error_text(event.error)}",
    StepAttemptFailed: _step_attempt_failed,
    StepBegun: lambda event: f"step {event.name}, which runs at most once, is begun, attempt {event.attempt}",
    Patched: lambda event: f"it takes the way of the patch {event.name!r}",
    TimerFired: lambda event: f"the timer of {event.name} was due",
    MessageTaken: lambda event: f"{event.name} took the {event.kind} {event.taken!r}: {_shown(event.payload)}",
    Bound: _bound,
    ReplyArrived: _reply_arrived,
    ProcessingFinished: lambda event: "its handler is done" if event.outcome == "ok" else "its handler failed",
    CancelRequested: lambda event: "it was asked to stop" + (f": {event.reason}" if event.reason else ""),
    Restarted: lambda event: f"all this was copied from message {event.origin_message!r} of process {event.origin}",
    ProcessMoved: lambda event: f"it was moved from {_code(event.origin)} to {_code(event.target)} by {event.actor}",
    ErrorOccurred: lambda event: f"it could not go on: {event.error}",
}


def _code(package: str) -> str:
    return f"package {package[:TAG_DIGITS]}" if package else "local code"


def _shown(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…"
