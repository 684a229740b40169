"""Packages and routes over the wire, and on the command line.

Source: packages.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from perdure import limits
from perdure.protocol.text import line

HashText = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="Of the package: SHA-256 of its `perdure.json`, in hex.")]
PrefixText = Annotated[
    str,
    msgspec.Meta(
        pattern=f"^[0-9a-f]{{{limits.PACKAGE_PREFIX_MIN},64}}$",
        description="The hash of a package, or the beginning of it that no other package has.",
    ),
]
TypeText = Annotated[str, line(limits.REGISTRY_KEY_MAX, description="A process type.")]
TenantText = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]+$", min_length=1, max_length=limits.TENANT_ID_MAX)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=limits.ROUTE_BASIS_POINTS, description="In basis points: hundredths of a per cent.")]


class TrialWarning(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a package had better not do, but may: which kind, and what to do instead."""

    code: str
    text: str


class DeployedPackage(msgspec.Struct, frozen=True, kw_only=True):
    """What a deploy has done.

    Attributes:
        content_hash: the package's identity, 64 lower-case hex digits.
        name: of the package.
        types: the process types that it defines.
        freshly_stored: whether the package was not stored before.
        route_changed: whether new processes of any type start elsewhere now.
        routes_changed: of which types they do.
        signed_by: the keys of its signatures, right or wrong, those that were stored before included.
        warnings: what its trial import has found; empty without one.
    """

    content_hash: str
    name: str
    types: tuple[str, ...]
    freshly_stored: bool
    route_changed: bool
    routes_changed: tuple[str, ...]
    signed_by: tuple[str, ...]
    warnings: tuple[TrialWarning, ...]


class PackageVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One package as a version of one type.

    Attributes:
        workflow_type: the type.
        content_hash: of the package.
        deployed_at: when it was deployed last.
        size: of its archive, in bytes.
        share: of those new processes that no tenant's rule is for, how many start on it, in basis points.
        tenants: how many tenants' rules lead to it.
        processes: how many processes need it, of all its types, by status; at most 10,000 are counted. None: not asked for.
        more_processes: whether there are more than were counted.
    """

    workflow_type: str
    content_hash: str
    deployed_at: datetime
    size: int
    share: int
    tenants: int
    processes: dict[str, int] | None
    more_processes: bool


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of versions: of one type the oldest first, of all types by type, then hash; `next` is the `after` of the page that follows."""

    versions: list[PackageVersion]
    next: str | None


class PackageDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One package: what its manifest says, who has signed it, and its versions.

    `name`, `isolation`, `python` and `requires` are empty when its archive is none that a deploy takes.
    """

    content_hash: str
    size: int
    deployed_at: datetime
    name: str
    isolation: str
    python: str
    requires: tuple[str, ...]
    signed_by: tuple[str, ...]
    versions: list[PackageVersion]


class PinHolderView(msgspec.Struct, frozen=True, kw_only=True):
    """A process that needs a package."""

    tenant_id: str
    process_id: str
    process_type: str
    status: str


class PinsView(msgspec.Struct, frozen=True, kw_only=True):
    """Which processes need a package: how many by status, the first 100 of them, and whether there are more than were counted."""

    content_hash: str
    counts: dict[str, int]
    holders: list[PinHolderView]
    more: bool


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a route: of a tenant, with a weight in basis points, or, with neither, the default."""

    content_hash: str
    tenant: str | None = None
    weight: int | None = None


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a type in the order in which they are looked at; none: it has no route, or was retired."""

    workflow_type: str
    rules: list[RuleView]


class RouteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule to set: of a `tenant`, with a `weight`, or, with neither, the default. A null `content_hash` takes a tenant's rule away."""

    content_hash: PrefixText | None
    tenant: TenantText | None = None
    weight: Weight | None = None


class MoveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To which package a process is to be moved."""

    content_hash: PrefixText


class RouteSet(msgspec.Struct, frozen=True, kw_only=True):
    """What a route leads to now that it was set, rolled back or retired, and whether that has changed it."""

    workflow_type: str
    content_hash: str | None
    changed: bool


class CollectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to go: all but the last versions of each type, if not used for so long. With `dry_run`, it is only told."""

    keep_last: Annotated[int, msgspec.Meta(ge=0, le=limits.PACKAGE_KEEP_MAX)] = limits.PACKAGE_KEEP_LAST
    older_than_ms: Annotated[int, msgspec.Meta(ge=0, le=limits.DURATION_MAX // 1_000)] = limits.PACKAGE_KEEP_US // 1_000
    dry_run: bool = False


class GonePackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package that is stored no longer, the types that it was for, and the size of its archive in bytes."""

    content_hash: str
    types: tuple[str, ...]
    size: int


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone, or would go."""

    packages: list[GonePackage]
    dry_run: bool


class DeploymentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a type's deployment log; `tick` is its number."""

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


class DeploymentLog(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a type's deployment log, newest first; `next` is the `after` of the page that follows."""

    entries: list[DeploymentEntry]
    next: int | None
