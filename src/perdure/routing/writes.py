"""Pure decisions about keys and tags.

Source: contracts.md, "1. ProcessRegistry".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from perdure import limits
from perdure.core.table import Index, Key, Read, Scan
from perdure.core.view import View
from perdure.errors import InvalidIdentifier, StoreCorrupt
from perdure.identity import ContentHash, ProcessId, ProcessIdentity, TenantId
from perdure.routing.tables import (
    CORRELATION,
    KEY,
    KEYS_COUNTER,
    KEYS_OF,
    REGISTRY_EVENT,
    TAGS_OF,
    Actor,
    Change,
    CorrelationRow,
    KeyRow,
    RegistryEventRow,
)

replace = msgspec.structs.replace
Admission = Callable[[View, ProcessIdentity], None]
"""Called before a process gets an address; raises when it may not, because it has ended. What it reads is unchanged at the commit."""


# --- for transactions of other rooms -------------------------------------------------------------------


def find_owner(view: View, tenant_id: str, key: str) -> str | None:
    """Return the id of the process that the key is bound to, or None."""
    row = view.get(KEY.key(tenant_id, key))
    return None if row is None else row.process_id


def bind_key(view: View, tenant_id: str, key: str, identity: ProcessIdentity, *, actor: Actor = Actor.ENGINE) -> str:
    """Bind the key unless another process has it; return the owner's id. The caller hands over what was parked."""
    place = KEY.key(tenant_id, key)
    row = view.get(place)
    if row is not None and row.process_id not in (None, identity.process_id):
        return str(row.process_id)
    _own(view, place, identity, actor)
    return identity.process_id


def unbind_key(view: View, tenant_id: str, key: str, process_id: str, *, actor: Actor = Actor.ENGINE) -> bool:
    """Unbind the key if this process has it; return whether it had."""
    place = KEY.key(tenant_id, key)
    row = view.get(place)
    if row is None or row.process_id != process_id:
        return False
    _disown(view, place, row, actor)
    return True


def add_tag(view: View, tenant_id: str, tag: str, identity: ProcessIdentity, *, actor: Actor = Actor.ENGINE) -> bool:
    """Put the process under the tag; return True if it was not there. One that was keeps its place."""
    assert identity.tenant_id == tenant_id, f"a process of {identity.tenant_id} under a tag of {tenant_id}"
    place = CORRELATION.key(tenant_id, tag, identity.process_id)
    before = view.get(place)
    tick = view.tick() if before is None else before.tick
    row = CorrelationRow(process_type=identity.process_type, package_hash=identity.package_hash, tick=tick)
    if row == before:
        return False
    if before is None:
        view.insert(place, row)
    else:
        view.update(place, row)
        tick = view.tick()
    _record(view, place, row, tick=tick, what=Change.TAG, process_id=identity.process_id, actor=actor)
    return before is None


def remove_tag(view: View, tenant_id: str, tag: str, process_id: str, *, actor: Actor = Actor.ENGINE) -> bool:
    """Take the process from under the tag; return whether it was there."""
    place = CORRELATION.key(tenant_id, tag, process_id)
    row = view.get(place)
    if row is None:
        return False
    _leave(view, place, row, actor)
    return True


def release(
    view: View,
    tenant_id: str,
    process_id: str,
    *,
    at_most: int | None = None,
    guard: Key[Any] | None = None,
    actor: Actor = Actor.ENGINE,
) -> int:
    """Drop keys, then tags, of a process; return how many.

    Args:
        view: the transaction's.
        tenant_id: of the process.
        process_id: of the process.
        at_most: how many at most; fewer were dropped only if there are no more.
        guard: the row that everybody writes who gives the process an address, so that none is missed.
        actor: who does it.
    """

    def drop(index: Index[Any], one: Callable[[View, Key[Any], Any, Actor], None], most: int | None) -> int:
        dropped = 0
        while most is None or dropped < most:
            limit = limits.READ_PAGE if most is None else min(most - dropped, limits.READ_PAGE)
            rows = view.scan(Scan(index, (tenant_id, process_id), limit, guard=guard))
            for place, row in rows:
                one(view, place, row, actor)
            dropped += len(rows)
            if len(rows) < limit:
                break
        return dropped

    keys = drop(KEYS_OF, _disown, at_most)
    return keys + drop(TAGS_OF, _leave, None if at_most is None else at_most - keys)


def park_under(view: View, tenant_id: str, key: str) -> None:
    """Count one more message that waits for the key to be bound. The key's row is the guard of these messages."""
    place = KEY.key(tenant_id, key)
    row = view.get(place)
    if row is None:
        view.insert(place, KeyRow(parked=1))
        return
    assert row.process_id is None, f"key {key!r} is bound: its owner gets the message"
    view.update(place, replace(row, parked=row.parked + 1))


def take_parked(view: View, tenant_id: str, key: str, count: int) -> None:
    """Count out messages that waited for the key: they were handed over, or have expired."""
    place = KEY.key(tenant_id, key)
    row = view.get(place)
    assert row is not None, f"key {key!r} has a row while messages are parked under it"
    assert 0 < count <= row.parked, f"key {key!r}: {count} of {row.parked} parked messages taken"
    _keep(view, place, replace(row, parked=row.parked - count))


# --- parts ------------------------------------------------------------------------------------------------


def owner_in(place: Key[KeyRow], row: KeyRow | None) -> ProcessIdentity | None:
    """Return the identity in a key's row; None when it has no owner."""
    if row is None or row.process_id is None:
        return None
    return _identity(place, row.process_id, row)


def member_in(place: Key[CorrelationRow], row: CorrelationRow) -> ProcessIdentity:
    """Return the identity of a process under a tag."""
    return _identity(place, str(place.parts[2]), row)


def _identity(place: Key[Any], process_id: str, row: KeyRow | CorrelationRow) -> ProcessIdentity:
    try:
        return ProcessIdentity(
            tenant_id=TenantId(str(place.parts[0])),
            process_id=ProcessId(process_id),
            process_type=row.process_type,
            package_hash=None if row.package_hash is None else ContentHash(row.package_hash),
        )
    except InvalidIdentifier as error:
        raise StoreCorrupt(f"{place.table.name} {place.parts}: {error}; `rebuild` makes the row anew from the record") from error


def _own(view: View, place: Key[KeyRow], identity: ProcessIdentity, actor: Actor) -> None:
    """Bind the key, whoever has it."""
    assert identity.tenant_id == place.parts[0], f"a process of {identity.tenant_id} for a key of {place.parts[0]!r}"
    before = view.get(place)
    kept = before.tick if before is not None and before.process_id == identity.process_id else None
    tick = view.tick() if kept is None else kept
    row = KeyRow(
        process_id=identity.process_id,
        process_type=identity.process_type,
        package_hash=identity.package_hash,
        tick=tick,
        parked=0 if before is None else before.parked,
    )
    if row == before:
        return
    if before is None:
        view.insert(place, row)
    else:
        view.update(place, row)
    if before is None or before.process_id is None:
        view.count(KEYS_COUNTER, 1)
    tick = tick if kept is None else view.tick()
    _record(view, place, row, tick=tick, what=Change.BIND, process_id=identity.process_id, actor=actor)


def _disown(view: View, place: Key[KeyRow], row: KeyRow, actor: Actor) -> None:
    assert row.process_id is not None, f"key {place.parts} has an owner to lose it"
    _keep(view, place, KeyRow(parked=row.parked))
    view.count(KEYS_COUNTER, -1)
    _record(view, place, row, tick=view.tick(), what=Change.UNBIND, process_id=row.process_id, actor=actor)


def _leave(view: View, place: Key[CorrelationRow], row: CorrelationRow, actor: Actor) -> None:
    view.delete(place)
    _record(view, place, row, tick=view.tick(), what=Change.UNTAG, process_id=str(place.parts[2]), actor=actor)


def _keep(view: View, place: Key[KeyRow], row: KeyRow) -> None:
    """Write a key's row; one that says nothing goes: every order, ever, would leave one."""
    if row.process_id is None and not row.parked:
        view.delete(place)
    else:
        view.update(place, row)


def _record(view: View, place: Key[Any], row: KeyRow | CorrelationRow, *, tick: int, what: Change, process_id: str, actor: Actor) -> None:
    event = RegistryEventRow(
        what=what,
        name=str(place.parts[1]),
        process_id=process_id,
        process_type=row.process_type,
        package_hash=row.package_hash,
        actor=actor,
    )
    view.insert(REGISTRY_EVENT.key(place.parts[0], tick), event)


# --- writes ---------------------------------------------------------------------------------------------------


class _OnKey(msgspec.Struct, frozen=True, kw_only=True):
    place: Key[KeyRow]

    def reads(self) -> Iterable[Read]:
        """Name the key."""
        yield self.place


class Register(_OnKey, frozen=True, kw_only=True):
    """Bind a key, whoever has it."""

    identity: ProcessIdentity
    admit: Admission

    def decide(self, view: View) -> None:
        """Bind it."""
        self.admit(view, self.identity)
        _own(view, self.place, self.identity, Actor.CALLER)


class RegisterIfAbsent(_OnKey, frozen=True, kw_only=True):
    """Bind a key unless another process has it."""

    identity: ProcessIdentity
    admit: Admission

    def decide(self, view: View) -> ProcessIdentity:
        """Return the owner."""
        owner = owner_in(self.place, view.get(self.place))
        if owner is not None and owner.process_id != self.identity.process_id:
            return owner
        self.admit(view, self.identity)
        _own(view, self.place, self.identity, Actor.CALLER)
        return self.identity


class Replace(_OnKey, frozen=True, kw_only=True):
    """Bind a key that the expected process has."""

    expected_process_id: str
    identity: ProcessIdentity
    admit: Admission

    def decide(self, view: View) -> bool:
        """Return whether it had."""
        row = view.get(self.place)
        if row is None or row.process_id != self.expected_process_id:
            return False
        self.admit(view, self.identity)
        _own(view, self.place, self.identity, Actor.CALLER)
        return True


class Remove(_OnKey, frozen=True, kw_only=True):
    """Unbind a key, from anybody or only from `process_id`."""

    process_id: str | None = None

    def decide(self, view: View) -> bool:
        """Return whether it was bound so."""
        row = view.get(self.place)
        if row is None or row.process_id is None or self.process_id not in (None, row.process_id):
            return False
        _disown(view, self.place, row, Actor.CALLER)
        return True


class _UnderTag(msgspec.Struct, frozen=True, kw_only=True):
    place: Key[CorrelationRow]

    def reads(self) -> Iterable[Read]:
        """Name the process under the tag."""
        yield self.place


class RegisterCorrelated(_UnderTag, frozen=True, kw_only=True):
    """Put a process under a tag."""

    identity: ProcessIdentity
    admit: Admission

    def decide(self, view: View) -> bool:
        """Return True if it was not there."""
        self.admit(view, self.identity)
        return add_tag(view, self.identity.tenant_id, str(self.place.parts[1]), self.identity, actor=Actor.CALLER)


class RemoveCorrelated(_UnderTag, frozen=True, kw_only=True):
    """Take a process from under a tag."""

    def decide(self, view: View) -> bool:
        """Return whether it was there."""
        tenant_id, tag, process_id = map(str, self.place.parts)
        return remove_tag(view, tenant_id, tag, process_id, actor=Actor.CALLER)


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Drop up to `at_most` addresses of a process."""

    tenant_id: str
    process_id: str
    at_most: int

    def reads(self) -> Iterable[Read]:
        """Name the first of each kind."""
        for index in (KEYS_OF, TAGS_OF):
            scan: Scan[Any] = Scan(index, (self.tenant_id, self.process_id), min(self.at_most, limits.READ_PAGE))
            yield scan

    def decide(self, view: View) -> int:
        """Return how many there were."""
        return release(view, self.tenant_id, self.process_id, at_most=self.at_most, actor=Actor.CALLER)
