"""A process as a file: its record, from which new code can be tried without running anything.

Source: engine.md, "The TurnLoop", replay checks.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import MessageReceived, decode_event
from perdure.conversations.tables import EVENTS, PROCESS, PROCESS_STATE, TURN, ProcessRow
from perdure.core.table import Key, Scan
from perdure.engine.addressing import TurnId
from perdure.engine.handling import message_key, operation_key
from perdure.errors import ProcessNotFound, StoreBusy, UsageError
from perdure.identity import DEFAULT_TENANT, ProcessId, TenantId, encode_identifier
from perdure.store import Store
from perdure.timers.tables import OF_PROCESS as TIMERS

FORMAT: Final = 1
"""Of the file. Fields are only ever added, with a default; anything else is a new number."""


class ExportedEvent(msgspec.Struct, frozen=True):
    """One event: its stored bytes, and for people what it is."""

    seq: int
    at: Micros
    data: bytes
    event: str
    name: str


class ExportedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: the message that it handles, and what was recorded. `outcome` is empty while it is open.

    `more`: not all effects of its last quiescence are among those that are committed.
    """

    message: str
    kind: str
    payload: bytes
    effects: int
    outcome: str
    reply: bytes | None
    events: list[ExportedEvent]
    more: bool = False


class ProcessExport(msgspec.Struct, frozen=True, kw_only=True):
    """One process with its record. Binary values are base64 in the file; times are microseconds since the epoch, UTC.

    Attributes:
        found: the durable fields as the open turn found them, `saved` as of the last commit.
        timers: what the open turn waits for, by name, with due times.
        package_hash: the version that it runs on, None for local code.
        turns: in order; the last one may be open. `complete` when they begin with the first message of the process.
    """

    format: int
    tenant_id: str
    process_id: str
    process_type: str
    status: str
    found: bytes | None
    saved: bytes | None
    timers: dict[str, Micros]
    complete: bool
    turns: list[ExportedTurn]
    package_hash: str | None = None

    def to_json(self) -> bytes:
        """Return the bytes of a file."""
        return msgspec.json.format(msgspec.json.encode(self, enc_hook=encode_identifier), indent=1)

    @classmethod
    def from_json(cls, data: bytes | str) -> ProcessExport:
        """Read what `to_json` wrote. Raises UsageError when it is no such file, or of a format that this Perdure does not read."""
        try:
            found = msgspec.json.decode(data, type=_Head).format
            if found == FORMAT:
                return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"this is no exported process: {error}; write one with `perdure processes export`") from error
        raise UsageError(f"this export has format {found}, this Perdure reads {FORMAT}; export the process again, or use that version")


class _Head(msgspec.Struct):
    format: int


async def export_process(store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT, events: int | None = None) -> ProcessExport:
    """Return a process with all of its record that is still there, up to a number of events, the newest, and those of its open turn.

    Args:
        store: where it is.
        process_id: which one.
        tenant: whose.
        events: how many, beside those of the open turn; `limits.EXPORT_EVENTS_MAX` unless given.

    Raises:
        ProcessNotFound: there is none.
        StoreBusy: it changed at every look; pause it, or try again.
    """
    key = PROCESS.key(TenantId(tenant), ProcessId(process_id))
    most = limits.EXPORT_EVENTS_MAX if events is None else events
    for _ in range(limits.VERIFY_TRIES):
        row = await store.access.reader.get(key)
        if row is None or not row.process_type:
            raise ProcessNotFound(f"no process {process_id!r} in tenant {tenant}")
        found = await _read(store, key, row, most)
        if await store.access.reader.get(key) == row:
            return found
    raise StoreBusy(f"process {process_id}: it changed at each of {limits.VERIFY_TRIES} looks; pause it, or try again")


async def _read(store: Store, key: Key[ProcessRow], row: ProcessRow, most: int) -> ProcessExport:
    reader, tenant, process_id = store.access.reader, str(key.parts[0]), str(key.parts[1])
    state = await reader.get(PROCESS_STATE.key(tenant, process_id))
    timers = await reader.scan(Scan(TIMERS, (tenant, process_id), limits.TURN_EVENTS_MAX))
    events = await _events(store, key, row, most)
    turns: list[ExportedTurn] = []
    for message, recorded in _by_turn(events):
        turn = await _turn(store, TurnId(tenant, process_id, message), recorded)
        if turn is None:  # its message is gone: what came before it leads nowhere
            turns.clear()
        else:
            turns.append(turn)
    return ProcessExport(
        format=FORMAT,
        tenant_id=tenant,
        process_id=process_id,
        process_type=row.process_type,
        status=row.status,
        found=None if state is None else state.found,
        saved=None if state is None else state.saved,
        timers={str(of.parts[2]): timer.due for of, timer in timers},
        complete=bool(turns) and turns[0].events[0].seq == 0,
        turns=turns,
        package_hash=row.package_hash,
    )


async def _events(store: Store, key: Key[ProcessRow], row: ProcessRow, most: int) -> list[ExportedEvent]:
    tenant, process_id = str(key.parts[0]), str(key.parts[1])
    first = row.head - most
    if row.open_message is not None:
        first = min(first, row.turn_seq)
    events: list[ExportedEvent] = []
    after: tuple[Any, ...] = (first - 1,)
    while page := await store.access.reader.scan(Scan(EVENTS, (tenant, row.stream_no), limits.READ_PAGE, after=after)):
        for place, stored in page:
            seq = int(place.parts[2] or 0)
            event = decode_event(stored.data, stream=process_id, seq=seq)
            events.append(ExportedEvent(seq, stored.at, stored.data, type(event).__name__, getattr(event, "name", "")))
        after = (page[-1][0].parts[2],)
    return events


def _by_turn(events: list[ExportedEvent]) -> list[tuple[str, list[ExportedEvent]]]:
    """Return the events of each turn, with its message; those of a turn whose beginning is gone are left out."""
    turns: list[tuple[str, list[ExportedEvent]]] = []
    for event in events:
        decoded = decode_event(event.data, stream="", seq=event.seq)
        if isinstance(decoded, MessageReceived):
            turns.append((decoded.message_id, []))
        if turns and turns[-1][0] == decoded.message_id:
            turns[-1][1].append(event)
    return turns


async def _turn(store: Store, id: TurnId, events: list[ExportedEvent]) -> ExportedTurn | None:
    reader = store.access.reader
    message = await reader.get(message_key(id.tenant, id.message))
    turn = await reader.get(TURN.key(*id))
    if message is None or turn is None:
        return None
    sealed = await reader.get(operation_key(id.tenant, id.message))
    return ExportedTurn(
        message=id.message,
        kind=message.kind,
        payload=message.payload,
        effects=turn.effects,
        outcome=turn.outcome if turn.state == "finished" else "",
        reply=None if sealed is None else sealed.response,
        events=events,
        more=bool(turn.more),
    )
