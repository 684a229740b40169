"""The record of binds and unbinds against the rows that should follow from it.

The record is read outside of any transaction, page by page. What then looks different is decided upon in transactions
that look at what was recorded since, so that others may go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from perdure import limits
from perdure.core.access import Access
from perdure.core.backend import Reader
from perdure.core.table import Index, Key, Read, Scan
from perdure.core.view import View
from perdure.routing.contract import Difference
from perdure.routing.tables import (
    ALL_KEYS,
    CORRELATION,
    CORRELATIONS,
    KEY,
    KEYS,
    KEYS_COUNTER,
    REGISTRY_EVENTS,
    Change,
    CorrelationRow,
    KeyRow,
    RegistryEventRow,
)

Address = Key[Any]
"""The key of the row of a registry key, or of a process under a tag."""


class Held(NamedTuple):
    """Who has an address, and since when."""

    process_id: str
    process_type: str
    package_hash: str | None
    tick: int

    def __str__(self) -> str:
        return f"process {self.process_id!r} of type {self.process_type!r}, package {self.package_hash}, since {self.tick}"


Recorded = dict[Address, Held]
Event = tuple[Key[RegistryEventRow], RegistryEventRow]


# --- pure ---------------------------------------------------------------------------------------------------


def follow(recorded: Recorded, events: Iterable[Event], *, only: Mapping[Address, object] | None = None) -> int:
    """Change `recorded` by events, in their order, and return the tick of the last one; 0 without any."""
    tick = 0
    for key, event in events:
        tenant_id, tick = str(key.parts[0]), _tick_of(key)
        address = _address(tenant_id, event)
        if only is not None and address not in only:
            continue
        if event.what in (Change.UNBIND, Change.UNTAG):
            recorded.pop(address, None)
            continue
        before = recorded.get(address)
        since = tick if before is None or before.process_id != event.process_id else before.tick
        recorded[address] = Held(event.process_id, event.process_type, event.package_hash, since)
    return tick


def held_in(address: Address, row: Any) -> Held | None:
    """Return who has an address by its row."""
    if row is None:
        return None
    process_id = row.process_id if address.table is KEY else str(address.parts[2])
    return None if process_id is None else Held(process_id, row.process_type, row.package_hash, row.tick)


class Reconcile(msgspec.Struct, frozen=True, kw_only=True):
    """Compare some addresses of a tenant with what was recorded, and set them right if `mend`.

    `recorded` is as of the event at `seen`. Neither the counter nor the record changes: both were right all the time.
    """

    tenant_id: str
    addresses: dict[Address, Held | None]
    seen: int
    mend: bool

    def reads(self) -> Iterable[Read]:
        """Name the rows, and what was recorded since."""
        yield from self.addresses
        yield self._since(self.seen)

    def decide(self, view: View) -> list[Difference]:
        """Return the differences, those that were mended too."""
        recorded = {address: held for address, held in self.addresses.items() if held is not None}
        seen = self.seen
        while events := view.scan(self._since(seen)):
            seen = follow(recorded, events, only=self.addresses)
        differences = []
        for address in self.addresses:
            row = view.get(address)
            right, found = recorded.get(address), held_in(address, row)
            if right != found:
                differences.append(_difference(address, right, found))
                if self.mend:
                    _mend(view, address, row, right)
        return differences

    def _since(self, tick: int) -> Scan[RegistryEventRow]:
        return Scan(REGISTRY_EVENTS, (self.tenant_id,), limits.READ_PAGE, after=(tick,))


def _address(tenant_id: str, event: RegistryEventRow) -> Address:
    if event.what in (Change.BIND, Change.UNBIND):
        return KEY.key(tenant_id, event.name)
    return CORRELATION.key(tenant_id, event.name, event.process_id)


def _tick_of(key: Key[RegistryEventRow]) -> int:
    tick = key.parts[1]
    assert isinstance(tick, int), "an event's key ends with its tick"
    return tick


def _mend(view: View, address: Address, row: Any, right: Held | None) -> None:
    made: Any = None
    if address.table is KEY:
        parked = 0 if row is None else row.parked
        if right is not None:
            made = KeyRow(**right._asdict(), parked=parked)
        elif parked:
            made = KeyRow(parked=parked)
    elif right is not None:
        made = CorrelationRow(process_type=right.process_type, package_hash=right.package_hash, tick=right.tick)
    if made is None:
        view.delete(address)
    elif row is None:
        view.insert(address, made)
    else:
        view.update(address, made)


def _difference(address: Address, right: Held | None, found: Held | None) -> Difference:
    name = str(address.parts[1])
    recorded, there = str(right or "nothing"), str(found or "nothing")
    if address.table is KEY:
        return Difference(what="key", name=name, recorded=recorded, found=there)
    return Difference(what="tag", name=name, process_id=str(address.parts[2]), recorded=recorded, found=there)


# --- over a store -----------------------------------------------------------------------------------------------


class Audit:
    """One look at the addresses of a tenant. It holds all of them in memory."""

    def __init__(self, access: Access, tenant_id: str) -> None:
        self._access = access
        self._tenant_id = tenant_id
        self._recorded: Recorded = {}
        self._seen = 0

    async def run(self, *, mend: bool) -> list[Difference]:
        """Return the differences, keys first, in the order of their bytes."""
        await self._follow()
        doubtful = await self._doubtful()
        differences: list[Difference] = []
        for start in range(0, len(doubtful), limits.EFFECTS_CHUNK):
            await self._follow()
            addresses = {address: self._recorded.get(address) for address in doubtful[start : start + limits.EFFECTS_CHUNK]}
            write = Reconcile(tenant_id=self._tenant_id, addresses=addresses, seen=self._seen, mend=mend)
            differences += await self._access.writer.run(write)
        return differences

    async def _follow(self) -> None:
        """Read what was recorded since the last look."""
        while events := await self._access.reader.scan(Scan(REGISTRY_EVENTS, (self._tenant_id,), limits.READ_PAGE, after=(self._seen,))):
            self._seen = follow(self._recorded, events)

    async def _doubtful(self) -> list[Address]:
        """Return the addresses that looked different while others went on."""
        doubtful: list[Address] = []
        for table, index in ((KEY, KEYS), (CORRELATION, CORRELATIONS)):
            missing = {address for address in self._recorded if address.table is table}
            found: list[Address] = []
            after: tuple[Any, ...] | None = None
            scanned: Index[Any] = index
            while rows := await self._access.reader.scan(Scan(scanned, (self._tenant_id,), limits.READ_PAGE, after=after)):
                for address, row in rows:
                    missing.discard(address)
                    if held_in(address, row) != self._recorded.get(address):
                        found.append(address)
                after = rows[-1][0].parts[1:]
            doubtful += sorted([*found, *missing], key=_parts)
        return doubtful


def _parts(address: Address) -> tuple[Any, ...]:
    return address.parts


async def check_counter(reader: Reader) -> Difference | None:
    """Return how the counter of bound keys differs from their number; None when it does not, or cannot be told for traffic.

    Counter and rows are not read at the same instant, so that one look proves nothing while others go on.
    """
    difference: Difference | None = None
    for _ in range(limits.VERIFY_TRIES):
        before = await reader.counter(KEYS_COUNTER)
        bound = await _count_bound(reader)
        if bound == before:
            return None
        if before == await reader.counter(KEYS_COUNTER):
            difference = Difference(what="counter", name=KEYS_COUNTER, recorded=f"{bound} bound keys", found=str(before))
    return difference


async def _count_bound(reader: Reader) -> int:
    bound = 0
    after: tuple[Any, ...] | None = None
    while rows := await reader.scan(Scan(ALL_KEYS, (), limits.READ_PAGE, after=after)):
        bound += sum(row.process_id is not None for _, row in rows)
        after = rows[-1][0].parts
    return bound
