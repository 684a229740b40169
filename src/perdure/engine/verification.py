"""Does the store agree with itself? Counts beside what they count, and the registry beside its record."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from perdure import limits
from perdure.conversations.attributes import is_marked, names_stored
from perdure.conversations.tables import AGING, ATTRIBUTES, CHILD, EVENTS, OVER, PROCESS, PROCESSES, TURN, ProcessRow, ProcessStatus
from perdure.core.table import Index, Scan
from perdure.identity import TenantId
from perdure.messages.mail import reference
from perdure.messages.tables import MAILBOX, MESSAGE, MESSAGES, TENANT_MAIL, MessageRow, MessageStatus
from perdure.messages.writes import reserved
from perdure.routing.tables import ALL_KEYS, KEY, KEYS
from perdure.store import Store

ALL_PROCESSES = Index(PROCESS, "process", order=("tenant_id", "process_id"))
OF_TENANT = Index(CHILD, "child", prefix=("tenant_id",), order=("parent_id", "process_id"))
ALL_MESSAGES = Index(MESSAGE, "message", order=("tenant_id", "source", "message_id"))


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    tenant_id: str
    what: str
    detail: str


async def verify(store: Store) -> list[Finding]:
    """Look at the whole store and return what does not fit.

    Engines may run meanwhile: what does not fit is looked at again, and is reported if it says the same at every one of
    `limits.VERIFY_TRIES` looks.
    """
    found = [Finding("", "database", text) for text in await store.integrity()]
    lasting = await _look(store)
    for _ in range(limits.VERIFY_TRIES - 1):
        if lasting:
            again = set(await _look(store))
            lasting = [finding for finding in lasting if finding in again]
    return found + lasting


async def _look(store: Store) -> list[Finding]:
    """Read everything once. Rows that belong together are read one after the other, and a commit may come between."""
    found: list[Finding] = []
    for tenant in await tenants(store):
        found += [Finding(tenant, "registry", str(difference)) for difference in await store.processes.verify(TenantId(tenant))]
        found += await _mailboxes(store, tenant)
        found += await _processes(store, tenant)
        found += await _attributes(store, tenant)
        found += await _children(store, tenant)
    return found


async def tenants(store: Store) -> list[str]:
    """Return the tenants that have processes, messages or keys, in order."""
    found: set[str] = set()
    for index in (ALL_PROCESSES, ALL_MESSAGES, ALL_KEYS):
        after: tuple[Any, ...] | None = None
        while rows := await store.access.reader.scan(Scan(index, (), 1, after=after)):
            tenant = str(rows[0][0].parts[0])
            found.add(tenant)
            after = (tenant,)
    return sorted(found)


async def _rows(store: Store, index: Index[Any], tenant: str) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    after: tuple[Any, ...] | None = None
    while rows := await store.access.reader.scan(Scan(index, (tenant,), limits.READ_PAGE, after=after)):
        found.extend(rows)
        after = index.order_of(rows[-1][0].parts, rows[-1][1])
    return found


async def _mailboxes(store: Store, tenant: str) -> list[Finding]:
    queued: Counter[str] = Counter()
    parked: Counter[str] = Counter()
    findings: list[Finding] = []
    for key, row in await _rows(store, MESSAGES, tenant):
        queued.update([row.process_id] if row.status == MessageStatus.QUEUED else [])
        parked.update([row.parked_under] if row.status == MessageStatus.PARKED else [])
        findings += await _message(store, tenant, key.parts, row)
    places = 0
    for key, _ in await _rows(store, PROCESSES, tenant):
        mailbox = await store.access.reader.get(MAILBOX.key(tenant, key.parts[1]))
        counted = 0 if mailbox is None else mailbox.queued
        places += reserved(counted)
        if counted != queued[key.parts[1]]:
            findings.append(
                Finding(tenant, "mailbox", f"process {key.parts[1]}: counts {counted} messages, {queued[key.parts[1]]} are queued")
            )
    row = await store.access.reader.get(TENANT_MAIL.key(tenant))
    if (taken := 0 if row is None else row.reserved) != places:
        findings.append(Finding(tenant, "mailbox", f"the tenant counts {taken} places, its mailboxes have {places}"))
    for key, row in await _rows(store, KEYS, tenant):
        waiting = parked[f"key {key.parts[1]}"]
        if row.parked != waiting:
            findings.append(Finding(tenant, "parking", f"key {key.parts[1]!r}: counts {row.parked} messages, {waiting} are parked"))
        if waiting and row.process_id is not None:
            findings.append(
                Finding(tenant, "parking", f"key {key.parts[1]!r}: bound to {row.process_id}, and {waiting} messages are parked")
            )
    for under in parked:
        way, _, name = under.partition(" ")
        if way == "key" and await store.access.reader.get(KEY.key(tenant, name)) is None:
            findings.append(Finding(tenant, "parking", f"{under!r}: {parked[under]} messages are parked and nothing counts them"))
    return findings


async def _message(store: Store, tenant: str, parts: tuple[Any, ...], row: MessageRow) -> list[Finding]:
    if row.status != MessageStatus.OPEN or row.process_id is None:
        return []
    process = await store.access.reader.get(PROCESS.key(tenant, row.process_id))
    ref = reference(str(parts[1]), str(parts[2]))
    if process is None or process.open_message != ref:
        return [Finding(tenant, "turn", f"message {parts[2]!r} is open, and process {row.process_id} does not handle it")]
    return []


async def _processes(store: Store, tenant: str) -> list[Finding]:
    findings: list[Finding] = []
    for key, row in await _rows(store, PROCESSES, tenant):
        findings += await _process(store, tenant, str(key.parts[1]), row)
    return findings


async def _process(store: Store, tenant: str, process_id: str, row: ProcessRow) -> list[Finding]:
    reader, findings = store.access.reader, []
    findings += await _aging(store, tenant, process_id, row)
    if row.first < row.head:
        rows = await reader.scan(Scan(EVENTS, (tenant, row.stream_no), 2, after=(row.head - 2,)))
        if [event.parts[2] for event, _ in rows] != [row.head - 1]:
            findings.append(Finding(tenant, "events", f"process {process_id}: its head is {row.head}, its last events do not end there"))
        rows = await reader.scan(Scan(EVENTS, (tenant, row.stream_no), 1, after=(row.first - 1,)))
        if [event.parts[2] for event, _ in rows] != [row.first]:
            findings.append(Finding(tenant, "events", f"process {process_id}: its events begin at {row.first}, and there is none"))
    if row.open_message is not None and await reader.get(TURN.key(tenant, process_id, row.open_message)) is None:
        findings.append(Finding(tenant, "turn", f"process {process_id}: message {row.open_message!r} is open without a turn"))
    if row.open_message is None and row.status == ProcessStatus.WAITING:
        findings.append(Finding(tenant, "turn", f"process {process_id}: waits without an open turn"))
    return findings


async def _attributes(store: Store, tenant: str) -> list[Finding]:
    stored: dict[str, set[str]] = {}
    for key, _ in await _rows(store, ATTRIBUTES, tenant):
        stored.setdefault(str(key.parts[1]), set()).add(str(key.parts[2]))
    findings: list[Finding] = []
    for key, row in await _rows(store, PROCESSES, tenant):
        process_id = str(key.parts[1])
        names, rows = names_stored(row), stored.pop(process_id, set())
        if names != rows:
            findings.append(Finding(tenant, "attributes", f"process {process_id}: names {sorted(names)}, {sorted(rows)} are stored"))
        if row.open_message is None and is_marked(row.attributes):
            findings.append(Finding(tenant, "attributes", f"process {process_id}: {row.attributes!r} are not settled, and no turn is open"))
    findings += [
        Finding(tenant, "attributes", f"process {process_id}: is not there and has {sorted(rows)}") for process_id, rows in stored.items()
    ]
    return findings


async def _children(store: Store, tenant: str) -> list[Finding]:
    findings: list[Finding] = []
    for key, _ in await _rows(store, OF_TENANT, tenant):
        _, parent_id, process_id = key.parts
        process = await store.access.reader.get(PROCESS.key(tenant, process_id))
        if process is None or process.parent != parent_id or process.status in OVER:
            found = "not there" if process is None else f"{process.status}, a child of {process.parent or 'nobody'}"
            findings.append(Finding(tenant, "children", f"process {parent_id}: lists {process_id} as a child, which is {found}"))
    return findings


async def _aging(store: Store, tenant: str, process_id: str, row: ProcessRow) -> list[Finding]:
    aging = await store.access.reader.get(AGING.key(tenant, process_id))
    if (aging is not None) == bool(row.aging):
        return []
    return [Finding(tenant, "retention", f"process {process_id}: says {row.aging} of what there is to remove, the store has {aging}")]
