"""Errors of packages: process code that the store keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from perdure.errors.roots import NotFoundError, RejectedError, UsageError

# --- the package store -------------------------------------------------------------------------------


class InvalidContentHash(UsageError):
    """The name of a package is 64 lower-case hex digits; nothing was read or written."""

    code = "invalid-content-hash"


class ArchiveSizeRefused(UsageError):
    """An archive is empty, or larger than one may be; nothing was written."""

    code = "archive-size-refused"

    def __init__(self, *, size: int, limit: int) -> None:
        super().__init__(f"archive: expected 1 to {limit:,} bytes, found {size:,}; leave data out that the code does not need")
        self.size = size
        self.limit = limit


class PackageMissing(NotFoundError):
    """The store has no package of this hash; deploy it again, or choose another version."""

    code = "package-missing"

    def __init__(self, content_hash: str, *, needed_by: str = "") -> None:
        whom = f", which {needed_by} needs," if needed_by else ""
        super().__init__(f"package {content_hash}{whom} is not stored; deploy it again, or choose a version that is")
        self.content_hash = content_hash


class RouteMissing(NotFoundError):
    """There is nothing that this could be done to: the type has no route, or none before the present one."""

    code = "route-missing"


class RouteConflict(RejectedError):
    """Somebody else has changed the route since it was read; look at it and decide again."""

    code = "route-conflict"

    def __init__(self, workflow_type: str, *, expected: str | None, found: str | None) -> None:
        super().__init__(
            f"route of {workflow_type!r}: expected {expected or 'none'}, found {found or 'none'}; look at it again, and decide again"
        )
        self.workflow_type = workflow_type
        self.expected = expected
        self.found = found


class RouteRefused(RejectedError):
    """The rules of a type's route would not fit together; the text says which; nothing was written."""

    code = "route-refused"


class PinHolder(NamedTuple):
    """A process that needs a package; `status` is what it is doing."""

    tenant_id: str
    process_id: str
    process_type: str
    status: str


class PackagePinned(RejectedError):
    """Processes still need this package; let them end, or move them to another version.

    Attributes:
        content_hash: of the package.
        counts: how many there are, by status.
        holders: the first of them, 100 at most.
        more: whether there are even more than were counted.
    """

    code = "package-pinned"

    def __init__(self, content_hash: str, *, counts: Mapping[str, int], holders: Sequence[PinHolder], more: bool = False) -> None:
        total = sum(counts.values())
        told = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        first = "".join(f", {one.process_id!r} of tenant {one.tenant_id!r} among them" for one in holders[:1])
        super().__init__(
            f"package {content_hash}: {'over ' if more else ''}{total:,} {'process needs' if total == 1 else 'processes need'} it ({told}{first}); "
            f"let them end, or move them to another version"
        )
        self.content_hash = content_hash
        self.counts = dict(counts)
        self.holders = tuple(holders)
        self.more = more


class PackageRouted(RejectedError):
    """Routes still lead to this package; route these types elsewhere, or retire them.

    Attributes:
        content_hash: of the package.
        workflow_types: the types, the first 100 of them.
    """

    code = "package-routed"

    def __init__(self, content_hash: str, workflow_types: Sequence[str]) -> None:
        named = ", ".join(map(repr, workflow_types[:5])) + (", …" if len(workflow_types) > 5 else "")  # noqa: PLR2004  # a line of text
        super().__init__(f"package {content_hash}: the routes of {named} lead to it; route them elsewhere, or retire them")
        self.content_hash = content_hash
        self.workflow_types = tuple(workflow_types)


class ProcessTypeRetired(RejectedError):
    """No process of this type is started any more; those that run go on. Deploy or route it again to bring it back."""

    code = "process-type-retired"

    def __init__(self, workflow_type: str) -> None:
        super().__init__(f"process type {workflow_type!r} was retired: none is started any more; deploy or route it again to bring it back")
        self.workflow_type = workflow_type
