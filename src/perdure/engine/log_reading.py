"""The logs of processes, as people read them, without the app's code.

Source: engine.md, "Verbs of a turn", fields.
"""

from __future__ import annotations

from typing import Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.conversations.tables import LOG_ENTRIES, LOGS, PROCESS, PROCESS_STATE
from perdure.core.table import Scan
from perdure.engine.searching import checked_limit
from perdure.engine.timeline import shown
from perdure.errors import UsageError
from perdure.identity import DEFAULT_TENANT, ProcessId, TenantId
from perdure.store import Store


class LogInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One log of a process: the field's name, and how many entries it has as of the last commit."""

    name: str
    length: int


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry: its position from 0, the time of its turn in microseconds since the epoch, and what was appended."""

    seq: int
    at: Micros
    value: Any


async def logs(store: Store, process_id: str, *, tenant: str = DEFAULT_TENANT) -> list[LogInfo]:
    """Return the logs of a process that have entries, by name. Raises ProcessNotFound."""
    key, reader = PROCESS.key(TenantId(tenant), ProcessId(process_id)), store.access.reader
    shown(key, await reader.get(key))
    state = await reader.get(PROCESS_STATE.key(*key.parts))
    fields = {} if state is None else JSON.decoder(dict[str, Any])(state.saved)
    found: list[LogInfo] = []
    after: tuple[Any, ...] | None = None
    while rows := await reader.scan(Scan(LOGS, key.parts, 1, after=after)):
        [(entry, _)] = rows
        name = str(entry.parts[2])
        field = fields.get(name)
        # What lies behind the length that the fields say was appended by turns that failed.
        length = field.get("length", 0) if isinstance(field, dict) else 0
        if length:
            found.append(LogInfo(name=name, length=length))
        after = (name, limits.SEQUENCE_MAX)
    return found


async def log(
    store: Store,
    process_id: str,
    name: str,
    *,
    tenant: str = DEFAULT_TENANT,
    after: int = -1,
    last: int | None = None,
    limit: int = limits.PAGE_DEFAULT,
) -> list[LogEntry]:
    """Return a page of the entries of a log, in order.

    Args:
        store: an open store.
        process_id: whose it is.
        name: of the field.
        tenant: whose.
        after: position of the last entry of the page before.
        last: only the last so many entries.
        limit: entries of the page, 1 to 1,000.

    Raises:
        ProcessNotFound, UsageError: there is no such process, or it has no entries under this name.
    """
    checked_limit(limit)
    there = {one.name: one.length for one in await logs(store, process_id, tenant=tenant)}
    if name not in there:
        raise UsageError(f"process {process_id!r} has no entries in a log {name!r}; it has some in: {', '.join(sorted(there)) or 'none'}")
    length = there[name]
    begin = after if last is None else max(after, length - last - 1)
    scan = Scan(LOG_ENTRIES, (tenant, process_id, name), limit, after=(begin,), upto=(length - 1,))
    decode = JSON.decoder(Any)
    return [LogEntry(seq=int(key.parts[3] or 0), at=row.at, value=decode(row.data)) for key, row in await store.access.reader.scan(scan)]
