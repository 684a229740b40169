"""The facade of contract 1: checks at the door, then one transaction or one read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from perdure import limits
from perdure.core.access import Access
from perdure.core.table import Index, Key, RowT, Scan
from perdure.core.view import View
from perdure.errors import IdentityMismatch, UsageError
from perdure.identity import ProcessId, ProcessIdentity, RegistryKey, Tag, TenantId
from perdure.routing.audit import Audit, check_counter
from perdure.routing.contract import Difference, Page, Place
from perdure.routing.tables import CORRELATION, KEY, KEYS_COUNTER, KEYS_OF, MEMBERS, TAGS_OF, CorrelationRow, KeyRow
from perdure.routing.writes import (
    Admission,
    Register,
    RegisterCorrelated,
    RegisterIfAbsent,
    Release,
    Remove,
    RemoveCorrelated,
    Replace,
    member_in,
    owner_in,
)


def _anyone(_view: View, _identity: ProcessIdentity) -> None:
    """Admit every process: the registry alone does not know which have ended."""


class Registry:
    """The registry of one open store; a `ProcessRegistry`.

    Args:
        access: of the store.
        admit: called in each transaction that gives a process an address; raises ProcessEnded for one that has ended.
    """

    def __init__(self, access: Access, *, admit: Admission = _anyone) -> None:
        self._access = access
        self._admit = admit

    # --- one process under a key ------------------------------------------------------------------------

    async def register(self, tenant_id: TenantId, key: RegistryKey, identity: ProcessIdentity) -> None:
        """See `ProcessRegistry.register`."""
        place = _key(tenant_id, key)
        _check(place, identity)
        await self._access.writer.run(Register(place=place, identity=identity, admit=self._admit))

    async def lookup(self, tenant_id: TenantId, key: RegistryKey) -> ProcessIdentity | None:
        """See `ProcessRegistry.lookup`."""
        place = _key(tenant_id, key)
        return owner_in(place, await self._access.reader.get(place))

    async def remove(self, tenant_id: TenantId, key: RegistryKey) -> None:
        """See `ProcessRegistry.remove`."""
        await self._access.writer.run(Remove(place=_key(tenant_id, key)))

    async def len(self) -> int:
        """See `ProcessRegistry.len`."""
        return await self._access.reader.counter(KEYS_COUNTER)

    async def contains(self, tenant_id: TenantId, key: RegistryKey) -> bool:
        """See `ProcessRegistry.contains`."""
        return await self.lookup(tenant_id, key) is not None

    async def is_empty(self) -> bool:
        """See `ProcessRegistry.is_empty`."""
        return await self.len() == 0

    async def register_if_absent(self, tenant_id: TenantId, key: RegistryKey, identity: ProcessIdentity) -> ProcessIdentity:
        """See `ProcessRegistry.register_if_absent`."""
        place = _key(tenant_id, key)
        _check(place, identity)
        return await self._access.writer.run(RegisterIfAbsent(place=place, identity=identity, admit=self._admit))

    async def replace(self, tenant_id: TenantId, key: RegistryKey, expected_process_id: ProcessId, identity: ProcessIdentity) -> bool:
        """See `ProcessRegistry.replace`."""
        place, expected = _key(tenant_id, key), str(ProcessId(expected_process_id))
        _check(place, identity)
        return await self._access.writer.run(Replace(place=place, expected_process_id=expected, identity=identity, admit=self._admit))

    async def remove_if(self, tenant_id: TenantId, key: RegistryKey, process_id: ProcessId) -> bool:
        """See `ProcessRegistry.remove_if`."""
        return await self._access.writer.run(Remove(place=_key(tenant_id, key), process_id=str(ProcessId(process_id))))

    # --- many processes under a tag ---------------------------------------------------------------------

    async def register_correlated(self, tenant_id: TenantId, tag: str, process_id: ProcessId, identity: ProcessIdentity) -> None:
        """See `ProcessRegistry.register_correlated`."""
        place = _member(tenant_id, tag, process_id)
        _check(place, identity)
        if identity.process_id != place.parts[2]:
            raise IdentityMismatch(f"process_id is {place.parts[2]!r}, the identity is of {identity.process_id!r}; pass the identity's own")
        await self._access.writer.run(RegisterCorrelated(place=place, identity=identity, admit=self._admit))

    async def lookup_correlated(self, tenant_id: TenantId, tag: str) -> list[ProcessIdentity]:
        """See `ProcessRegistry.lookup_correlated`."""
        # One that leaves and comes back between two pages is met twice; the later place is its own.
        found: dict[str, ProcessIdentity] = {}
        async for place, row in self._all(MEMBERS, _tag(tenant_id, tag)):
            identity = member_in(place, row)
            found.pop(identity.process_id, None)
            found[identity.process_id] = identity
        return list(found.values())

    async def remove_correlated(self, tenant_id: TenantId, tag: str, process_id: ProcessId) -> None:
        """See `ProcessRegistry.remove_correlated`."""
        await self._access.writer.run(RemoveCorrelated(place=_member(tenant_id, tag, process_id)))

    async def page_correlated(self, tenant_id: TenantId, tag: str, *, after: Place | None = None, limit: int = limits.PAGE_DEFAULT) -> Page:
        """See `ProcessRegistry.page_correlated`."""
        if not 1 <= limit <= limits.PAGE_MAX:
            raise UsageError(f"limit: expected 1 to {limits.PAGE_MAX}, found {limit}; page on with `after`")
        place = None if after is None else (after.tick, after.process_id)
        # One more than asked for tells whether there is a next page.
        rows = await self._access.reader.scan(Scan(MEMBERS, _tag(tenant_id, tag), limit + 1, after=place))
        more = len(rows) > limit
        shown = rows[:limit]
        last = Place(shown[-1][1].tick, str(shown[-1][0].parts[2])) if more else None
        return Page(identities=[member_in(key, row) for key, row in shown], next=last)

    # --- all addresses of a process ---------------------------------------------------------------------

    async def keys_of(self, tenant_id: TenantId, process_id: ProcessId) -> list[RegistryKey]:
        """See `ProcessRegistry.keys_of`."""
        return [RegistryKey(str(key.parts[1])) async for key, _ in self._all(KEYS_OF, _process(tenant_id, process_id))]

    async def tags_of(self, tenant_id: TenantId, process_id: ProcessId) -> list[str]:
        """See `ProcessRegistry.tags_of`."""
        return [str(key.parts[1]) async for key, _ in self._all(TAGS_OF, _process(tenant_id, process_id))]

    async def release(self, tenant_id: TenantId, process_id: ProcessId) -> int:
        """See `ProcessRegistry.release`."""
        tenant, process = _process(tenant_id, process_id)
        write = Release(tenant_id=tenant, process_id=process, at_most=limits.EFFECTS_CHUNK)
        total = released = await self._access.writer.run(write)
        while released == limits.EFFECTS_CHUNK:
            released = await self._access.writer.run(write)
            total += released
        return total

    # --- the record -----------------------------------------------------------------------------------------

    async def rebuild(self, tenant_id: TenantId) -> int:
        """See `ProcessRegistry.rebuild`."""
        return len(await Audit(self._access, str(TenantId(tenant_id))).run(mend=True))

    async def verify(self, tenant_id: TenantId) -> list[Difference]:
        """See `ProcessRegistry.verify`."""
        differences = await Audit(self._access, str(TenantId(tenant_id))).run(mend=False)
        counter = await check_counter(self._access.reader)
        return differences if counter is None else [*differences, counter]

    # --- inside -----------------------------------------------------------------------------------------------

    async def _all(self, index: Index[RowT], prefix: tuple[str, str]) -> AsyncIterator[tuple[Key[RowT], RowT]]:
        after: tuple[Any, ...] | None = None
        while rows := await self._access.reader.scan(Scan(index, prefix, limits.PAGE_MAX, after=after)):
            for key, row in rows:
                yield key, row
            if len(rows) < limits.PAGE_MAX:
                return
            after = index.order_of(rows[-1][0].parts, rows[-1][1])


def _key(tenant_id: str, key: str) -> Key[KeyRow]:
    return KEY.key(str(TenantId(tenant_id)), str(RegistryKey(key)))


def _tag(tenant_id: str, tag: str) -> tuple[str, str]:
    return str(TenantId(tenant_id)), str(Tag(tag))


def _member(tenant_id: str, tag: str, process_id: str) -> Key[CorrelationRow]:
    return CORRELATION.key(*_tag(tenant_id, tag), str(ProcessId(process_id)))


def _process(tenant_id: str, process_id: str) -> tuple[str, str]:
    return str(TenantId(tenant_id)), str(ProcessId(process_id))


def _check(place: Key[Any], identity: ProcessIdentity) -> None:
    if identity.tenant_id != place.parts[0]:
        raise IdentityMismatch(f"tenant_id is {place.parts[0]!r}, the identity is of {identity.tenant_id!r}; pass the identity's own")
