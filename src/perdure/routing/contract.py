"""Contract 1: what callers of the process registry may rely on.

Source: contracts.md, "1. ProcessRegistry"; seed 1.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from perdure import limits
from perdure.identity import ProcessId, ProcessIdentity, RegistryKey, TenantId


class Place(msgspec.Struct, frozen=True):
    """Where a page of a tag's members ended. It stays good when the member that was there is gone."""

    tick: int
    process_id: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some members of a tag, in order.

    Args:
        identities: at most as many as were asked for.
        next: pass it as `after` to go on; None when there was nothing more.
    """

    identities: list[ProcessIdentity]
    next: Place | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in the index that is not as it was recorded.

    Args:
        what: `key`; `tag`, a process under a tag; `counter`, the number that `len` returns.
        name: the key, the tag, or the counter.
        process_id: the process under the tag; empty for the others.
        recorded: what it should be, for people. For the counter: the number of bound keys.
        found: what it is, for people.
    """

    what: Literal["key", "tag", "counter"]
    name: str
    process_id: str = ""
    recorded: str
    found: str


class ProcessRegistry(Protocol):
    """Which process does a message belong to? A key names one process, a tag names a set of them.

    A key or tag is 1..256 bytes of UTF-8 without control characters; nothing is normalised, comparison is by bytes. An
    entry says that a process was registered, not that it runs. The tenant is always an argument, and no call sees
    across it; only `len` and `is_empty` are about all tenants. Each change is one transaction with its record.

    Every method names what it raises beyond this: InvalidIdentifier for an argument that breaks the rules, before
    anything is read; StoreUnavailable, when nothing was read or written and the call may be repeated.

    Source: contracts.md, "1. ProcessRegistry".
    """

    # --- one process under a key -------------------------------------------------------------------------

    async def register(self, tenant_id: TenantId, key: RegistryKey, identity: ProcessIdentity) -> None:
        """Bind the key to this process, whoever had it before.

        Raises:
            IdentityMismatch: the identity is of another tenant; nothing was written.
            ProcessEnded: the store knows that the process has ended; nothing was written.
        """
        ...

    async def lookup(self, tenant_id: TenantId, key: RegistryKey) -> ProcessIdentity | None:
        """Return the process that the key is bound to, or None."""
        ...

    async def remove(self, tenant_id: TenantId, key: RegistryKey) -> None:
        """Unbind the key; nothing happens when it is not bound."""
        ...

    async def len(self) -> int:
        """Return the number of bound keys over all tenants: exact, in constant time. Tags do not count."""
        ...

    async def contains(self, tenant_id: TenantId, key: RegistryKey) -> bool:
        """Return whether the key is bound."""
        ...

    async def is_empty(self) -> bool:
        """Return whether no key of any tenant is bound; there may be tags."""
        ...

    async def register_if_absent(self, tenant_id: TenantId, key: RegistryKey, identity: ProcessIdentity) -> ProcessIdentity:
        """Bind the key unless it is bound, and return the owner: `identity` for the winner, the winner's for everybody else.

        Of n callers at the same time with one key one wins; with n keys all do. An owner that comes back with another
        type or package is bound with these.

        Raises:
            IdentityMismatch, ProcessEnded: as `register` does.
        """
        ...

    async def replace(self, tenant_id: TenantId, key: RegistryKey, expected_process_id: ProcessId, identity: ProcessIdentity) -> bool:
        """Bind the key to `identity` if it is bound to `expected_process_id`; return whether it was.

        Raises:
            IdentityMismatch, ProcessEnded: as `register` does.
        """
        ...

    async def remove_if(self, tenant_id: TenantId, key: RegistryKey, process_id: ProcessId) -> bool:
        """Unbind the key if it is bound to this process; return whether it was."""
        ...

    # --- many processes under a tag ------------------------------------------------------------------------

    async def register_correlated(self, tenant_id: TenantId, tag: str, process_id: ProcessId, identity: ProcessIdentity) -> None:
        """Put the process under the tag. One that is there already keeps its place, and gets the type and package given.

        Raises:
            IdentityMismatch: the identity is of another tenant or process; nothing was written.
            ProcessEnded: as `register` does.
        """
        ...

    async def lookup_correlated(self, tenant_id: TenantId, tag: str) -> list[ProcessIdentity]:
        """Return all processes under the tag, oldest registration first, ties by process id; empty when there is none."""
        ...

    async def remove_correlated(self, tenant_id: TenantId, tag: str, process_id: ProcessId) -> None:
        """Take the process from under the tag; nothing happens when it is not there."""
        ...

    async def page_correlated(self, tenant_id: TenantId, tag: str, *, after: Place | None = None, limit: int = limits.PAGE_DEFAULT) -> Page:
        """Return some of what `lookup_correlated` returns, in the same order.

        Args:
            tenant_id: whose.
            tag: which.
            after: `Page.next` of the page before.
            limit: 1..`limits.PAGE_MAX`.

        Raises:
            UsageError: the limit is out of its bounds.
        """
        ...

    # --- all addresses of a process ------------------------------------------------------------------------

    async def keys_of(self, tenant_id: TenantId, process_id: ProcessId) -> list[RegistryKey]:
        """Return the keys that are bound to the process, in the order of their bytes."""
        ...

    async def tags_of(self, tenant_id: TenantId, process_id: ProcessId) -> list[str]:
        """Return the tags that the process is under, in the order of their bytes."""
        ...

    async def release(self, tenant_id: TenantId, process_id: ProcessId) -> int:
        """Drop all keys and tags of the process, and return how many there were.

        In transactions of up to `limits.EFFECTS_CHUNK`. The engine does it in the one that ends the process.
        """
        ...

    # --- the record ------------------------------------------------------------------------------------------

    async def rebuild(self, tenant_id: TenantId) -> int:
        """Make keys and tags of a tenant what the record of binds and unbinds says, and return how many were not.

        Others may go on meanwhile. It reads the whole record, and holds the tenant's addresses in memory. The counter
        behind `len` follows the record already, and stays.
        """
        ...

    async def verify(self, tenant_id: TenantId) -> list[Difference]:
        """Return what `rebuild` would set right, keys first, and whether `len` is the number of bound keys of all tenants.

        Others may go on meanwhile; what they change is no difference.
        """
        ...
