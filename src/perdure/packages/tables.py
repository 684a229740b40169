"""The rows of packages: archives in parts, who has deployed what, and the routes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.table import Index, Table
from perdure.uploads import PartRow, UploadRow, Uploads


class RuleKind(StrEnum):
    """For whom a rule is that stands beside the default of a type."""

    TENANT = "tenant"
    WEIGHT = "weight"


class PackageRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One archive.

    Its bytes are the parts of `upload_id`, together `stored` bytes, packed as `codec` says; unpacked they are `size` bytes
    with this `sha256`, which is not the package's own hash. `types` counts its rows in `package_type`. `used_at` is when it
    was put last, or a rule of a route last began or ceased to lead to it. `changed` is the tick of the last change of
    anything but that. `needs` is the declared environment, `Needs` as JSON; None when nobody has said. `unloading` is 1 while somebody is about to remove it and nobody has come to need it since.
    """

    size: int
    stored: int
    codec: str
    sha256: str
    upload_id: str
    parts: int
    types: int
    used_at: Micros
    changed: int
    unloading: int = 0
    needs: str | None = None


class TypeRow(msgspec.Struct, frozen=True, gc=False):
    """A package was put for a type, last at `deployed_at`, as its deployer says.

    `kinds` are the kinds of message that start a turn, one a line; None when nobody has said.
    """

    deployed_at: Micros
    kinds: str | None = None


class RouteRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The route of a type: its default, and what guards the other rules.

    `content_hash` is the default, also while the type is `retired`, when it leads nowhere; None if it never had one.
    `previous` is the default before it. `tenants` and `weights` count the rules of each kind. `changed` is the tick of the
    last change of any rule.
    """

    content_hash: str | None = None
    previous: str | None = None
    retired: int = 0
    tenants: int = 0
    weights: int = 0
    changed: int = 0


class RuleRow(msgspec.Struct, frozen=True, gc=False):
    """A rule beside the default: of a tenant, or a weight in basis points. `since` is the tick at which it was made."""

    content_hash: str
    weight: int
    since: int


class LogRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was done to a type's versions or routes, by whom. `built_with` is JSON, or empty."""

    action: str
    content_hash: str | None
    previous: str | None
    tenant: str
    weight: int | None
    actor: str
    built_with: str
    at: Micros


# Who adds to what needs a package writes this row if somebody is about to remove it, and otherwise reads it.
PACKAGE = Table("package", ("content_hash",), PackageRow, guard=True, mostly_read=True)
PART = Table("package_part", ("upload_id", "number"), PartRow, kind="log")
UPLOAD = Table("package_upload", ("upload_id",), UploadRow)
TYPE = Table("package_type", ("workflow_type", "content_hash"), TypeRow)
# Who changes a rule of a type writes this row: who starts a process has read it.
ROUTE = Table("package_route", ("workflow_type",), RouteRow, guard=True, mostly_read=True)
RULE = Table("package_rule", ("workflow_type", "kind", "name"), RuleRow)
LOG = Table("package_log", ("workflow_type", "tick"), LogRow, kind="log")

PACKAGES = Index(PACKAGE, "package", order=("content_hash",))
PARTS = Index(PART, "package_part", prefix=("upload_id",), order=("number",))
LEFT = Index(UPLOAD, "package_upload_left", order=("removed_at", "upload_id"))
TYPES = Index(TYPE, "package_type", order=("workflow_type", "content_hash"))
VERSIONS = Index(TYPE, "package_type_versions", prefix=("workflow_type",), order=("deployed_at", "content_hash"))
OF_PACKAGE = Index(TYPE, "package_type_package", prefix=("content_hash",), order=("workflow_type",))
ROUTES = Index(ROUTE, "package_route", order=("workflow_type",))
ROUTED = Index(
    ROUTE,
    "package_route_package",
    prefix=("content_hash",),
    order=("workflow_type",),
    where=lambda row: not row.retired and row.content_hash is not None,
    where_sql="retired = 0 and content_hash is not null",
)
RULES = Index(RULE, "package_rule", prefix=("workflow_type",), order=("kind", "name"))
RULES_OF_KIND = Index(RULE, "package_rule", prefix=("workflow_type", "kind"), order=("name",))
RULED = Index(RULE, "package_rule_package", prefix=("content_hash",), order=("workflow_type", "kind", "name"))
DEPLOYMENTS = Index(LOG, "package_log", prefix=("workflow_type",), order=("tick",))
DUE_TOPIC: Final = "packages-due"
"""Signalled when something is to be removed earlier than whoever looks after that may know."""
UPLOADS: Final = Uploads(UPLOAD, PART, LEFT, PARTS, DUE_TOPIC, rests=limits.PACKAGE_UPLOAD_US, at_once=limits.PACKAGE_SWEEP_PARTS)
TABLES = (PACKAGE, PART, UPLOAD, TYPE, ROUTE, RULE, LOG)
INDEXES = (PACKAGES, PARTS, LEFT, TYPES, VERSIONS, OF_PACKAGE, ROUTES, ROUTED, RULES, RULES_OF_KIND, RULED, DEPLOYMENTS)
