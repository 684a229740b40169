"""What callers of the package store may rely on: contract 5.

Source: contracts.md, 5. PackageStore; packages.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.write import Write
from perdure.cursors import cursor_of, named_by
from perdure.errors import PinHolder

UNKNOWN_ACTOR: Final = "unknown"


class PackageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An archive as it was put for a type.

    Args:
        workflow_type: the process type, 1..256 bytes of UTF-8 without control characters.
        content_hash: the package's name, 64 lower-case hex digits. It is taken as given: the store does not look into archives.
        archive: 1 byte to 64 MiB.
        deployed_at: as the deployer says, timezone-aware; to the microsecond, in UTC when it comes back.
    """

    workflow_type: str
    content_hash: str
    archive: bytes
    deployed_at: datetime

    def __repr__(self) -> str:  # the generated one would show the archive
        return f"PackageRecord({self.workflow_type!r}, {self.content_hash}, {len(self.archive):,} bytes, {self.deployed_at.isoformat()})"


class PackageRouteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The default rule of a type: on which package its new processes start."""

    workflow_type: str
    content_hash: str


class StoredPackage(msgspec.Struct, frozen=True, kw_only=True):
    """One package with its archive; the types that it was put for, in order, and when it was last."""

    content_hash: str
    archive: bytes
    workflow_types: tuple[str, ...]
    deployed_at: datetime

    def __repr__(self) -> str:  # as above
        return f"StoredPackage({self.content_hash}, {len(self.archive):,} bytes, {', '.join(map(repr, self.workflow_types))})"


class PackagePlace(msgspec.Struct, frozen=True):
    """After which package a page begins. `deployed_at` is microseconds since the epoch."""

    workflow_type: str
    deployed_at: Micros
    content_hash: str

    @property
    def cursor(self) -> str:
        """This place as text, for the next page to begin after."""
        return cursor_of(msgspec.structs.astuple(self))

    @classmethod
    def named_by(cls, cursor: str) -> PackagePlace:
        """Return the place that a cursor names. Raises UsageError."""
        return cls(*named_by(cursor, tuple[str, Micros, str]))


class PackageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A package as it was put for a type, without its archive.

    Attributes:
        size: of the archive, in bytes.
        stored: bytes that it takes in the store.
        routed: whether the default rule of this type leads to it.
        place: where it is in the list.
    """

    workflow_type: str
    content_hash: str
    deployed_at: datetime
    size: int
    stored: int
    routed: bool
    place: PackagePlace


class RouteRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a type's route: of a `tenant`, with a `weight` in basis points, or, with neither, the default."""

    content_hash: str
    tenant: str | None = None
    weight: int | None = None


class Action(StrEnum):
    """What the deployment log tells."""

    STORED = "stored"  # without a route
    DEPLOYED = "deployed"  # stored, and the default rule leads to it
    ROUTED = "routed"
    TENANT_ROUTED = "tenant-routed"
    TENANT_UNROUTED = "tenant-unrouted"
    WEIGHTED = "weighted"  # a weight of 0 takes the rule away
    ROLLED_BACK = "rolled-back"
    RETIRED = "retired"
    DELETED = "deleted"
    UNLOADED = "unloaded"
    COLLECTED = "collected"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the deployment log.

    Attributes:
        tick: its number; later entries have greater ones.
        action: what was done, the text of an `Action`.
        content_hash: the package; None when a rule was taken away or the type was retired.
        previous_hash: where the rule led before that; None when there was none.
        tenant: whose rule it is; None for the default and for weights.
        weight: in basis points, of `weighted`.
        actor: who did it.
        built_with: what was found when the package was built, or None.
        at: when, by the store's time.
    """

    tick: int
    workflow_type: str
    action: str
    content_hash: str | None
    previous_hash: str | None
    tenant: str | None
    weight: int | None
    actor: str
    built_with: dict[str, Any] | None
    at: datetime


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """What a deploy has changed: whether this archive was not there before, and of which types new starts go elsewhere now."""

    freshly_stored: bool
    routes_changed: tuple[str, ...]

    @property
    def route_changed(self) -> bool:
        """Whether new starts of any type go elsewhere now."""
        return bool(self.routes_changed)


class PackagePins(msgspec.Struct, frozen=True, kw_only=True):
    """Which processes need a package: how many there are by status, the first 100 of them, and whether there are more than were counted."""

    content_hash: str
    counts: dict[str, int]
    holders: tuple[PinHolder, ...]
    more: bool

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts.values())


class Unloaded(msgspec.Struct, frozen=True, kw_only=True):
    """A package that is stored no longer, the types that it was put for, and the size of its archive in bytes."""

    content_hash: str
    workflow_types: tuple[str, ...]
    size: int


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """The declared environment of a package: the range of Python's versions (PEP 440), and distributions (PEP 508)."""

    python: str
    requires: tuple[str, ...] = ()


class PackageStore(Protocol):
    """Process code that the store keeps, and the routes: on which version new processes start.

    Text is in the order of its UTF-8 bytes. What changes something is one transaction, writes who did it into the deployment
    log, and takes beside what is said below `actor`, 1..256 bytes without control characters, and `built_with`, what was found when the
    package was built: a dict that is JSON, at most 64 KiB. Every method raises InvalidContentHash, InvalidIdentifier and UsageError for
    arguments that break their rules, before anything is read or written, and StoreUnavailable when nothing was read or
    written and the call may be repeated.

    Source: contracts.md, 5. PackageStore; seed 5.
    """

    async def put_package(self, record: PackageRecord, *, actor: str = UNKNOWN_ACTOR, built_with: Mapping[str, Any] | None = None) -> None:
        """Store an archive for a type, and point the type's route at it, together.

        Again for the same type and hash: the archive and `deployed_at` are replaced, and the route is pointed at it again. An
        archive is stored once for each hash, so that one put under another type is replaced there, too. The route's weights
        go, the rules of tenants stay, and a type that was retired is back.

        Raises:
            ArchiveSizeRefused: nothing was written.
            UploadLost: the store had no time for an hour; repeat the call.

        Source: seed 5, `put_package`.
        """
        ...

    async def put_package_with_routes(
        self,
        record: PackageRecord,
        workflow_types: Sequence[str],
        *,
        actor: str = UNKNOWN_ACTOR,
        built_with: Mapping[str, Any] | None = None,
    ) -> None:
        """Store an archive, and point the routes of these types at it: all of them or none.

        An empty list stores the archive and touches no route. The list need not hold the record's type, for which alone the archive
        is listed; repeats are harmless. See `put_package`.

        Args:
            record: what is stored.
            workflow_types: at most 1,000.
            actor: who does it.
            built_with: for the log.
        """
        ...

    async def deploy(
        self,
        record: PackageRecord,
        workflow_types: Sequence[str] = (),
        *,
        routes: Sequence[str] | None = None,
        kinds: Mapping[str, Iterable[str]] | None = None,
        needs: Needs | None = None,
        also: Sequence[Write[Any]] = (),
        replaces: str | msgspec.UnsetType | None = msgspec.UNSET,
        actor: str = UNKNOWN_ACTOR,
        built_with: Mapping[str, Any] | None = None,
    ) -> Deployed:
        """Store an archive for several types, and tell what that has changed.

        Args:
            record: what is stored.
            workflow_types: the types that it is listed for, beside the record's.
            routes: the types whose routes are pointed at it; all of them when not given, none when empty.
            kinds: by type, the kinds of message that start a turn, as the package's manifest says; one line each. A message
                of another kind is refused before the package was ever loaded.
            needs: what a node has to have to run it, as the package's manifest says.
            also: writes of other rooms that commit with it, or not at all.
            replaces: not given, whatever there is; None, only a package that is not stored; the SHA-256 of an archive, only this one. The
                same bytes as there are never replace anything.
            actor: who does it.
            built_with: what was found when it was built.

        Raises: what `put_package` raises, what a write of `also` rejects with, and
            ArchiveConflict: the archive that is there is not the one that this replaces. Nothing was written then.

        Source: packages.md, "Deploy".
        """
        ...

    async def list_packages(self) -> list[PackageRecord]:
        """Return everything that is stored, with the archives, ascending by `deployed_at`, then type, then hash.

        For exports: all archives are in memory at once. Each record is one that was stored at some moment of the call, never
        the half of two. `list_package_info` is for looking.

        Raises:
            StoreCorrupt: an archive is damaged; `get_package` reads the others.
        """
        ...

    async def delete_package(
        self, workflow_type: str, content_hash: str, *, actor: str = UNKNOWN_ACTOR, built_with: Mapping[str, Any] | None = None
    ) -> None:
        """Remove a package from a type; with the last type that it was put for, its archive goes.

        Nothing happens when it is not there. Routes and processes that need it are not looked at: `unload` does that.
        """
        ...

    async def put_package_route(
        self,
        workflow_type: str,
        content_hash: str,
        *,
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
        actor: str = UNKNOWN_ACTOR,
        built_with: Mapping[str, Any] | None = None,
    ) -> None:
        """Point the default rule of a type at a package, which need not be stored.

        The weights go, the rules of tenants stay, and a type that was retired is back.

        Args:
            workflow_type: of which type.
            content_hash: where it leads from now on.
            expected: not given, whatever there is; None, only if there is no default; a hash, only if it is that one.
            actor: who does it.
            built_with: for the log.

        Raises:
            RouteConflict: the default is not as expected; nothing was written.
        """
        ...

    async def list_package_routes(self) -> list[PackageRouteRecord]:
        """Return the default rules of all types that have one, in the order of the types."""
        ...

    # --- beyond the seed -------------------------------------------------------------------------------

    async def get_package(self, content_hash: str) -> StoredPackage:
        """Return a package with its archive.

        Raises:
            PackageMissing: it is not stored.
            StoreCorrupt: the archive is damaged.
            StoreBusy: it was replaced again and again meanwhile; repeat the call.
        """
        ...

    async def find_package(self, prefix: str) -> str:
        """Return the hash of the one package whose hash begins so, whatever it was put for.

        Args:
            prefix: 8..64 lower-case hex digits.

        Raises:
            PackageMissing: there is none.
            PackageAmbiguous: there are several.
        """
        ...

    async def list_package_info(
        self, *, workflow_type: str | None = None, after: PackagePlace | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[PackageInfo]:
        """Return a page of what is stored, without reading any archive.

        Of one type the oldest version is first, as in `list_packages`; of all types it is by type, then hash.

        Args:
            workflow_type: of one type only.
            after: `place` of the last one of the page before.
            limit: 1..1,000. A page with fewer is the last one.
        """
        ...

    async def route_of(self, workflow_type: str, *, tenant: str | None = None) -> list[RouteRule]:
        """Return the rules of a type in the order in which they are looked at: those of tenants, weights, the default.

        Empty when there are none. `perdure.packages.routes.choose` says which one a process follows.

        Args:
            workflow_type: of which type.
            tenant: only what a process of this tenant may follow.
        """
        ...

    async def set_route(
        self,
        workflow_type: str,
        content_hash: str | None,
        *,
        tenant: str | None = None,
        weight: int | None = None,
        actor: str = UNKNOWN_ACTOR,
        built_with: Mapping[str, Any] | None = None,
    ) -> bool:
        """Set one rule of a type's route, and return whether that has changed anything.

        Without tenant and weight it is the default, and the weights go. The rule of a tenant is for its processes only, also
        while the type is retired; None for a hash takes it away. A rule with a weight is for so many of 10,000 processes which
        no tenant's rule is for; 0 takes it away.

        Args:
            workflow_type: of which type.
            content_hash: where the rule leads; a package that is stored.
            tenant: whose rule it is, one of at most 1,000.
            weight: 0..10,000, together at most 10,000 in at most 10 rules.
            actor: who does it.
            built_with: for the log.

        Raises:
            PackageMissing: there is no such package.
            RouteMissing: a weight needs a default beside it, and there is none.
            RouteRefused: there would be too many rules, or weights of over 10,000. Nothing was written, all three times.
        """
        ...

    async def deployments(self, workflow_type: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> list[Deployment]:
        """Return a page of a type's deployment log, newest first.

        Args:
            workflow_type: of which type.
            after: `tick` of the last entry of the page before.
            limit: 1..1,000.
        """
        ...

    async def rollback(self, workflow_type: str, actor: str = UNKNOWN_ACTOR, *, built_with: Mapping[str, Any] | None = None) -> str:
        """Point the default rule of a type at what it led to before, and return that hash.

        Of a type that was retired that is where it led then. A second one undoes the first. Otherwise it is like `set_route`.

        Raises:
            RouteMissing: there is nothing before.
            PackageMissing: what it led to is not stored any more; nothing was written.
        """
        ...

    async def retire(self, workflow_type: str, actor: str = UNKNOWN_ACTOR, *, built_with: Mapping[str, Any] | None = None) -> bool:
        """Remove all rules of a type, so that none is started any more, and return whether there were any.

        Its processes go on. Whoever deploys or routes it again brings it back.

        Raises:
            RouteMissing: the type never had a route.
        """
        ...

    async def pins(self, content_hash: str) -> PackagePins:
        """Return which processes need a package: those that are not over, and those that failed and can be restarted.

        At most 10,000 are counted. Whether the package is stored does not matter.
        """
        ...

    async def unload(self, content_hash: str, actor: str = UNKNOWN_ACTOR, *, built_with: Mapping[str, Any] | None = None) -> Unloaded:
        """Remove a package: its archive, and all that it is listed for, in one transaction.

        Raises:
            PackageMissing: it is not stored.
            PackageRouted: a rule leads to it.
            PackagePinned: processes need it. Nothing was removed, all three times.
            StoreBusy: others began and ceased to need it again and again; repeat the call.
        """
        ...

    async def collect(
        self,
        *,
        keep_last: int = limits.PACKAGE_KEEP_LAST,
        older_than: timedelta,
        dry_run: bool = False,
        actor: str = UNKNOWN_ACTOR,
        built_with: Mapping[str, Any] | None = None,
    ) -> list[Unloaded]:
        """Unload every package that no rule leads to, no process needs, and that is old; return them, each one a transaction.

        Args:
            keep_last: of each type that a package was put for, the so many latest by `deployed_at` stay; 0..1,000.
            older_than: nothing goes that was put, or that a rule has led to, within this time, by the store's time.
            dry_run: only return what would go now.
            actor: who does it.
            built_with: for the log.
        """
        ...

    # --- upkeep ------------------------------------------------------------------------------------------

    async def sweep(self, now: Micros) -> int:
        """Remove parts of uploads that were cut, and of archives that are gone, if their time is over at `now`; return how many uploads."""
        ...

    async def next_due(self) -> Micros | None:
        """Return when there is something to sweep; None when nothing can be."""
        ...
